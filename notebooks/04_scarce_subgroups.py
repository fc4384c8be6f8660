# %% [markdown]
# # 4. Scarce subgroups
#
# Noise hides each patient equally, so it hurts small groups most: twenty patients of noise are nothing to 4,000 men and
# everything to 40 women of a rare group. This notebook shows where that begins, what dpsynth does about it, and whether
# invented patients of a scarce group help a classifier **for that group**. They do not always. Then it says so.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import dpsynth
from dpsynth.datasets import load_support2
from dpsynth.errors import InputError
from dpsynth.evaluation import split
from dpsynth.jobs.augment import augment

SMALL = os.environ.get("DPSYNTH_NOTEBOOK_SMALL") == "1"  # fewer patients and columns, for a quick test
REAL, SYNTHETIC, OTHER = "#4d4d4d", "#0072b2", "#d55e00"
plt.rcParams.update({"figure.dpi": 80, "axes.spines.top": False, "axes.spines.right": False})

cohort = load_support2()
if SMALL:
    cohort = cohort.take(np.arange(1500))
schema = cohort.schema

# %% [markdown]
# ## How small is too small?
#
# `plan` answers before anything is spent: from how many patients on is a group larger than the noise on it?

# %%
epsilons = [0.1, 0.3, 1.0, 3.0, 10.0]
smallest = pd.DataFrame([dpsynth.plan(schema, epsilon=e, rows=9105).smallest_groups for e in epsilons], index=epsilons)
sizes = cohort.to_pandas()["race"].value_counts()
fig, ax = plt.subplots(figsize=(7, 3.4))
for column, style in zip(smallest, ("o-", "s--", "^:"), strict=False):
    ax.plot(epsilons, smallest[column], style, color=SYNTHETIC, label=f"groups of {column}")
for name, size in sizes.items():
    ax.axhline(size, color="#cccccc", lw=1, zorder=0)
    ax.text(10.6, size, f"{name}: {size:,}", va="center", fontsize=9, color=REAL)
ax.set(xscale="log", yscale="log", xlabel="budget ε", ylabel="patients that a group needs")
ax.set_xticks(epsilons, [f"{e:g}" for e in epsilons])
ax.set_title("Groups below the line are smaller than their noise", loc="left")
ax.legend(frameon=False, loc="lower left")
plt.show()

# %% [markdown]
# (The sizes on the right are exact counts. SUPPORT2 is public; of a private cohort they would not be shown.)
#
# ## Ask for a group
#
# Conditions hold for every row drawn. Where the model cannot tell a group from none, it refuses, and says what to do.

# %%
train, test = split(cohort, 0.3, key="notebook")  # public patients: anybody may repeat it
model = dpsynth.fit(train, epsilon=1.0, delta=1e-6)
for where in ({"race": "black", "sex": "female"}, {"race": "asian", "sex": "female", "age": {"min": 85}}):
    try:
        drawn = model.sample(100, where=where).to_pandas()
        print(where, "->", len(drawn), "patients, mean age", round(float(drawn["age"].mean()), 1))
    except InputError as refusal:
        print(where, "->", refusal)

# %% [markdown]
# Shares can be set, too: a cohort in which men and women of two groups are equally many. This changes what is *drawn*,
# at no cost; the private training itself is never oversampled, since that would count some patients double.

# %%
balanced = model.sample(
    400,
    proportions={("sex", "race"): {(s, r): 0.25 for s in ("female", "male") for r in ("white", "black")}},
).to_pandas()
pd.crosstab(balanced["sex"], balanced["race"]).loc[lambda t: t.sum(axis=1) > 0, lambda t: t.sum() > 0]

# %% [markdown]
# ## A fairness policy in the schema
#
# By default the target and the subgroups are measured together, and the model may spend the rest as it likes. The
# policy `fairness: {columns: [sex, race], floor: 0.2}` reserves a fifth of the budget for the cells of these groups. It
# is public, and the majority pays for it. Its effect on SUPPORT2, over several fits, stands in
# `benchmarks/results/fairness.md`; here is what the plan says:

# %%
policy = dpsynth.Schema.parse({**schema.to_dict(), "fairness": {"columns": ["sex", "race"], "floor": 0.2}})
pd.DataFrame(
    {
        name: dpsynth.plan(one, epsilon=1.0, rows=9105).smallest_groups
        for name, one in (("policy off", schema), ("policy on", policy))
    }
).round(0)

# %% [markdown]
# ## Do invented patients help the group?
#
# Now black patients are the scarce group. A classifier of death in hospital is trained on real patients alone, and on
# real patients with synthetic ones of the group added, beside the free alternatives: repeating the group's real
# patients, SMOTE, weights. All are tested on real patients that no arm has seen. The *change* is paired: the same test
# patients, with and without.

# %%
found = augment(train, {"race": "black"}, test=test, model="prism", epsilon=3.0, amount=300 if SMALL else None)
print(found.verdict)
for note in found.notes:
    print("-", note)

# %%
changes = found.results.to_frame().query("metric == 'group_change' and status == 'ok'")
learners = list(dict.fromkeys(changes["subject"]))
fig, axes = plt.subplots(1, max(len(learners), 1), figsize=(10, 3.4), sharey=True, squeeze=False)
arms = list(dict.fromkeys(changes["arm"]))[::-1]
for ax, learner in zip(axes.flat, learners, strict=False):
    part = changes[changes["subject"] == learner]
    for group, colour, shift in ((found.group, SYNTHETIC, 0.12), ("others", OTHER, -0.12)):
        for row in part[part["group"] == group].itertuples():
            y = arms.index(row.arm) + shift
            ax.plot([row.low, row.high], [y, y], color=colour, lw=2)
            ax.plot(row.value, y, "o", color=colour, ms=5)
        ax.plot([], [], "o-", color=colour, label="black patients" if group == found.group else "all others")
    ax.axvline(0, color=REAL, lw=1)
    ax.set_title(learner, loc="left")
    ax.set_xlabel("change in AUROC, 95 % interval (right: better)")
axes[0, 0].set_yticks(range(len(arms)), arms)
axes[0, 0].legend(frameon=False, fontsize=8)
fig.tight_layout()
plt.show()

# %% [markdown]
# Read it like this: an interval right of the line is a gain, one across it is *not shown*. Private synthetic patients
# rarely add to real ones that one may use anyway; they matter where the real ones **cannot be given away**. The rows
# "synthetic only" and "balanced synthetic" are the classifier that an outsider could train.
#
# A classifier that is trained on real patients too is **not covered by ε**: it stays inside.
#
# Next: [05_privacy_budget_and_audit](05_privacy_budget_and_audit.ipynb).
