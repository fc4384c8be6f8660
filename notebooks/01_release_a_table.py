# %% [markdown]
# # 1. Release a table
#
# A hospital has a table of patients that it must not give away. We want a table of *invented* patients that tells the
# same story, and a proof of how little it says about anyone. This notebook goes the whole way: a schema, a plan, a fit,
# a release, and a look at what came out.
#
# The data are SUPPORT2: 9,105 seriously ill adults in five US hospitals. They are public and ship with dpsynth. We
# treat them **as if they were private**, so that you see what you would see with your own; only the figures at the end
# look at the real patients, which a hospital could do inside its own walls alone.

# %%
import json
import os
import shutil
import tempfile
from importlib.resources import as_file, files
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import dpsynth
from dpsynth.privacy.spending.ledger import Ledger

SMALL = os.environ.get("DPSYNTH_NOTEBOOK_SMALL") == "1"  # fewer patients, for a quick test of the notebook
folder = Path(tempfile.mkdtemp())
for name in ("support2.csv", "support2.schema.yaml"):
    with as_file(files("dpsynth.datasets") / name) as path:
        shutil.copy(path, folder / name)
if SMALL:
    pd.read_csv(folder / "support2.csv", dtype=str, keep_default_na=False)[:2000].to_csv(
        folder / "support2.csv", index=False
    )
REAL, SYNTHETIC = "#4d4d4d", "#0072b2"
plt.rcParams.update({"figure.dpi": 80, "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# ## The schema: what is public
#
# The schema is published with the release, so it may hold **public knowledge only**: bounds from a textbook, categories
# from a codebook. `confirmed: true` is the signature of the person who checked that. For your own table,
# `dpsynth schema draft ward.csv` writes a first form to fill in.

# %%
schema = dpsynth.Schema.load(folder / "support2.schema.yaml")
if SMALL:
    schema = schema.without_counts()
print("\n".join(schema.to_yaml().splitlines()[:24]))

# %% [markdown]
# ## The plan: what the noise will be
#
# Differential privacy hides each patient behind noise. How much follows from the schema, the number of patients and the
# budget ε, so it can be said before anybody touches the data, and it costs nothing.

# %%
plan = dpsynth.plan(schema, epsilon=1.0, rows=9105)
for item in plan.items:
    print(f"{item.what}: {item.tables} tables, noise of about {item.sigma:.0f} patients on a count. {item.note}")

# %%
epsilons = np.array([0.1, 0.3, 1, 3, 10])
errors = pd.DataFrame(
    [dpsynth.plan(schema, epsilon=float(e), rows=9105).expected_error for e in epsilons], index=epsilons
)
fig, ax = plt.subplots(figsize=(6, 3.2))
for column, style in zip(errors, ("o-", "s--", "^:"), strict=False):
    ax.plot(errors.index, errors[column], style, label=f"{column} tables")
ax.set(xscale="log", yscale="log", xlabel="budget ε (left: more private)", ylabel="expected error by noise (TVD)")
ax.set_title("What a budget buys, known before any data is read", loc="left")
ax.set_xticks(epsilons, [f"{e:g}" for e in epsilons])
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## The fit: the budget is spent here, once
#
# `epsilon=1.0` is the whole budget: for finding out, for choosing and for measuring. δ = 1e-6 is a fixed public rule.
# The spending is written to a ledger beside the data file **before** the first look.

# %%
cohort = dpsynth.Cohort.read(folder / "support2.csv", schema)
model = dpsynth.fit(cohort, epsilon=1.0, delta=1e-6)
model

# %%
book = Ledger.beside(folder / "support2.csv")
for run in book.runs():
    print(f"{run.time}: asked for epsilon {run.budget.epsilon:g}, {len(run.events or ())} answers, unit: {run.unit}")
print("limit of this dataset: epsilon", book.limit.epsilon)

# %% [markdown]
# The first run set the limit of the dataset. A second run would pass it, and is refused without a look at the data:

# %%
from dpsynth.errors import BudgetExceeded  # noqa: E402  (here, where the reader meets it)

try:
    dpsynth.fit(cohort, epsilon=0.5, delta=1e-6)
except BudgetExceeded as refusal:
    print(refusal)

# %% [markdown]
# ## The release: a folder that may be published

# %%
dpsynth.release(model, folder / "release")
for path in sorted((folder / "release").rglob("*")):
    if path.is_file():
        print(f"{path.relative_to(folder)!s:40} {path.stat().st_size / 1024:8.1f} kB")

# %% [markdown]
# `privacy.json` says what was promised, what was spent, and **what is not protected**:

# %%
statement = json.loads((folder / "release" / "privacy.json").read_text())
print(statement["guarantee"], "\n")
print("spent:", statement["epsilon_spent"], "of", statement["epsilon"], "| unit:", statement["unit"], "\n")
for sentence in statement["not_protected"]:
    print("-", sentence)

# %% [markdown]
# ## Drawing more patients is free
#
# A model holds noisy answers and nothing else. However many patients are drawn from it, the promise stays the same.

# %%
synthetic = model.sample(len(cohort)).to_pandas()
old_women = model.sample(300, where={"sex": "female", "age": {"min": 80}}).to_pandas()
old_women[["age", "sex", "dzgroup", "meanbp", "hospdead"]].head()

# %% [markdown]
# ## Does it tell the same story?
#
# Grey are the real patients, blue the invented ones. The model draws each value within a cell that was counted under
# noise, so shapes agree down to the cells, and steps can show at their edges.

# %%
real = cohort.to_pandas()
fig, axes = plt.subplots(2, 2, figsize=(10, 6.4))
for ax, (column, bins) in zip(
    axes.flat[:3],
    {"age": np.arange(18, 104, 4), "meanbp": np.arange(20, 190, 8), "sod": np.arange(110, 166, 3)}.items(),
    strict=True,
):
    for frame, colour, name in ((real, REAL, "real"), (synthetic, SYNTHETIC, "synthetic, ε = 1")):
        values = frame[column].dropna().astype(float)
        ax.hist(
            values, bins, density=True, histtype="stepfilled", alpha=0.25, color=colour, edgecolor=colour, label=name
        )
    ax.set(xlabel=f"{column} ({schema.columns[column].unit})", yticks=[])
    ax.legend(frameon=False)
ax = axes.flat[-1]
shares = pd.DataFrame(
    {
        name: frame.assign(died=frame["hospdead"].astype(float)).groupby("dzgroup", observed=True)["died"].mean()
        for name, frame in (("real", real), ("synthetic", synthetic))
    }
).sort_values("real")
ax.barh(np.arange(len(shares)) + 0.2, shares["real"], 0.38, color=REAL, label="real")
ax.barh(np.arange(len(shares)) - 0.2, shares["synthetic"], 0.38, color=SYNTHETIC, label="synthetic")
ax.set_yticks(np.arange(len(shares)), shares.index)
ax.set_xlabel("died in hospital (share)")
ax.legend(frameon=False)
fig.suptitle("SUPPORT2: real patients and invented ones", x=0.02, ha="left")
fig.tight_layout()
plt.show()

# %% [markdown]
# ## What ε = 1 means for a patient
#
# Take somebody who is sure that a certain patient is either in the table or not, and who knows **everybody else** in
# it. Before the release they would give even odds. After it, ε = 1 (δ aside) lets these odds move to at most e¹ ≈ 2.7
# to 1: from 50 % to at most 73 %. And that is the worst case, for an attacker who knows all but one row.
#
# What the release does not hide are facts about patients *in general*: if a disease is deadly, the synthetic table says
# so, also about patients who were never in the real one. That is what it is for.
#
# Next: [02_judge_it](02_judge_it.ipynb) asks how good these patients are, and for whom they are not.
