# %% [markdown]
# # 6. Bring your own model
#
# A researcher with an idea for a synthesizer should not have to write an accountant, a ledger, a codec, a command line
# and a judge first. A model of dpsynth is a class with two methods, in **your own package**. It never sees a row: it
# asks a *session* for noisy answers, and the session keeps the budget. So it cannot cheat by accident.
#
# The package beside this notebook, `shrinking-marginals`, is such a plug-in: about a hundred lines, one entry point in
# its `pyproject.toml`:
#
# ```toml
# [project.entry-points."dpsynth.models"]
# shrinking = "shrinking_marginals:Shrinking"
# ```
#
# After `pip install ./shrinking-marginals` every command knows it: `dpsynth fit ward.csv --model shrinking ...`.

# %%
import inspect
import os
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import dpsynth
from dpsynth.datasets import load_support2
from dpsynth.evaluation import split

SMALL = os.environ.get("DPSYNTH_NOTEBOOK_SMALL") == "1"
REAL, SYNTHETIC, FLOOR, OWN = "#4d4d4d", "#0072b2", "#d55e00", "#009e73"
plt.rcParams.update({"figure.dpi": 80, "axes.spines.top": False, "axes.spines.right": False})
here = Path(os.environ.get("DPSYNTH_NOTEBOOKS", "."))
sys.path.insert(0, str(here / "shrinking-marginals" / "src"))  # in place of pip install, so that the notebook just runs
from shrinking_marginals import Shrinking  # noqa: E402

# %% [markdown]
# ## The idea
#
# Count each column *within* each value of the target, under noise. Where the noise is large against the counts, pull
# the shares toward those of the whole column, by as much as the noise says (partial pooling). This is naive Bayes, made
# private. Here is what asks:

# %%
print(inspect.getsource(Shrinking.fit))

# %% [markdown]
# `session.count` takes a list of tables and a price for each; the noise on each answer follows from the price. A
# request beyond the budget is refused. There is no way to a row.
#
# ## It plans, fits, samples and is judged as any other model

# %%
cohort = load_support2()
if SMALL:
    cohort = cohort.take(np.arange(1500))
train, test = split(cohort, 0.3, key="notebook")  # public patients: anybody may repeat it
mine = Shrinking()
for item in dpsynth.plan(cohort.schema, epsilon=1.0, rows=len(train), model=mine).items:
    print(f"{item.what}: {item.tables} tables, {item.cells} cells, noise of {item.sigma:.1f} patients. {item.note}")

# %%
models = {
    "independent (the floor)": dpsynth.fit(train, "independent", epsilon=1.0, delta=1e-6),
    "shrinking (ours)": dpsynth.fit(train, mine, epsilon=1.0, delta=1e-6),
    "prism (the default)": dpsynth.fit(train, epsilon=1.0, delta=1e-6),
}
own = models["shrinking (ours)"]
print("spent:", own.statement["epsilon_spent"], "of", own.statement["epsilon"])
own.sample(500, where={"hospdead": 1, "sex": "female"}).to_pandas()[["age", "sex", "dzgroup", "meanbp"]].head(3)

# %%
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.metrics import roc_auc_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402


def numbers(some):
    """Return the numeric columns, missing values filled with the middle of the public range, and the outcome."""
    frame = some.to_pandas()
    columns = {c: k for c, k in some.schema.columns.items() if c in frame and k.type == "numeric"}
    x = np.column_stack([frame[c].astype(float).fillna((k.min + k.max) / 2) for c, k in columns.items()])
    return x, frame["hospdead"].astype(int).to_numpy()


x_test, y_test = numbers(test)
scores = {}
for name, some in {
    "real patients (the ceiling)": train,
    **{k: m.sample(len(train)) for k, m in models.items()},
}.items():
    x, y = numbers(some)
    learner = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x, y)
    scores[name] = roc_auc_score(y_test, learner.predict_proba(x_test)[:, 1])
fig, ax = plt.subplots(figsize=(7, 2.6))
ax.barh(list(scores)[::-1], list(scores.values())[::-1], color=[SYNTHETIC, OWN, FLOOR, REAL])
ax.axvline(0.5, color="#bbbbbb", lw=1)
for y, value in enumerate(list(scores.values())[::-1]):
    ax.text(value + 0.005, y, f"{value:.3f}", va="center")
ax.set(xlabel=f"AUROC on {len(test):,} real patients, one fit each, ε = 1 (0.5: a coin)", xlim=(0.3, 1))
ax.set_title("Who would die in hospital? Trained on synthetic, tested on real", loc="left")
plt.show()

# %% [markdown]
# One fit each, without intervals: enough for a first look, not for a paper. `dpsynth evaluate --sweep 0.3,1,3 --model
# shrinking --model prism --public` fits models many times and judges them with intervals.
#
# ## It is saved and read as any other
#
# A model is kept as JSON and arrays, never as code. `load` finds the class of the file by its `kind`, among the
# installed models. Two methods do this, `to_parts` and `from_parts`; the second must check what it reads.

# %%
folder = Path(tempfile.mkdtemp())
own.save(folder / "model")
print(*sorted(path.name for path in (folder / "model").iterdir()), sep="\n")

# %% [markdown]
# ## Test that it keeps its word
#
# `dpsynth audit shrinking --epsilon 1` attacks your model as it attacks ours, once the package is installed. The kernel
# makes the promise, so a mistake in your model can make bad patients, not a leak, unless the code *means* to leak.
# Install models that you trust.
