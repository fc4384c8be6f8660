# %% [markdown]
# # 2. Judge it
#
# A synthetic table can look right and still mislead. dpsynth judges it as one would judge a diagnostic test: on
# patients that the model has **never seen**, with an interval on each number, beside a *ceiling* (real patients) and a
# *floor* (the crudest thing that the same budget buys), and **group by group**.
#
# The numbers touch real patients without noise. They are internal: whoever judges private data must not publish them.
# SUPPORT2 is public, so here we may.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import dpsynth
from dpsynth.datasets import load_support2
from dpsynth.evaluation import split

SMALL = os.environ.get("DPSYNTH_NOTEBOOK_SMALL") == "1"  # fewer patients, for a quick test of the notebook
REAL, SYNTHETIC, FLOOR = "#4d4d4d", "#0072b2", "#d55e00"
plt.rcParams.update({"figure.dpi": 80, "axes.spines.top": False, "axes.spines.right": False})

cohort = load_support2()
if SMALL:
    cohort = cohort.take(np.arange(1500))
train, test = split(cohort, 0.3, key="notebook")  # public patients: anybody may repeat it
f"{len(train):,} patients train the model, {len(test):,} are kept aside and judge it"

# %% [markdown]
# ## Two models at the same budget
#
# `prism`, the default, counts columns and those pairs that matter. `independent` counts each column by itself: it knows
# how many patients died, and nothing about who. A model that is not better than this floor has learned nothing.

# %%
model = dpsynth.fit(train, epsilon=1.0, delta=1e-6)
floor = dpsynth.fit(train, "independent", epsilon=1.0, delta=1e-6)
draws = [model.sample(len(train)) for _ in range(1 if SMALL else 3)]  # further draws cost nothing
found = dpsynth.evaluate(test, draws, train=train, arms={"floor": floor.sample(len(train))})
results = found.to_frame()
len(results), sorted(results["section"].unique())

# %% [markdown]
# ## Is it useful? Train on synthetic, test on real
#
# A classifier learns to predict death in hospital. It is trained on real patients (the ceiling), on synthetic ones, or
# on the floor's, and in each case tested on the real patients that were kept aside. Bars are 95 % intervals.


# %%
def of(metric, **fields):
    """Return the results of a metric that could be estimated."""
    part = results[(results["metric"] == metric) & (results["status"] == "ok")]
    for name, value in fields.items():
        part = part[part[name] == value]
    return part


arms = {"real": REAL, "synthetic": SYNTHETIC, "floor": FLOOR}
fig, ax = plt.subplots(figsize=(7, 2.8))
places = []
for i, learner in enumerate(sorted(of("auroc", arm="synthetic")["subject"].unique())):
    for j, (arm, colour) in enumerate(arms.items()):
        for row in of("auroc", arm=arm, subject=learner).itertuples():
            y = -(i + 0.22 * j)
            ax.plot([row.low, row.high], [y, y], color=colour, lw=3, solid_capstyle="butt")
            ax.plot(row.value, y, "o", color=colour, label=f"trained on {arm}" if i == 0 else None)
            ax.text(row.high + 0.006, y, f"{row.value:.3f}", va="center", fontsize=9)
    places.append((-(i + 0.22), learner))
ax.axvline(0.5, color="#bbbbbb", lw=1)
ax.set_yticks(*zip(*places, strict=True))
ax.set(xlabel="AUROC on real patients (0.5: a coin)", xlim=(0.4, 0.95))
ax.set_title("Death in hospital: trained on synthetic, tested on real", loc="left")
ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# ## For whom does it fail?
#
# An average can hide a group. Each dot is a group of the test patients: right of the line the classifier trained on
# synthetic patients does worse *for that group* than the one trained on real ones. Groups with too few patients to say
# are not drawn; they are listed below, with the reason, and are not counted as good.

# %%
learner = of("group_change", arm="synthetic")["subject"].iloc[0]
real_groups = of("group_auroc", arm="real", subject=learner).set_index("group")
changes = of("group_change", arm="synthetic", subject=learner).set_index("group")
order = real_groups.loc[real_groups.index.intersection(changes.index)].sort_values("n").index
fig, ax = plt.subplots(figsize=(7, 0.6 + 0.3 * max(len(order), 1)))
for y, group in enumerate(order):
    row = changes.loc[group]
    ax.plot([-row["low"], -row["high"]], [y, y], color=SYNTHETIC, lw=2)
    ax.plot(-row["value"], y, "o", color=SYNTHETIC)
ax.axvline(0, color=REAL, lw=1)
ax.set_yticks(range(len(order)), [f"{g}  (n = {int(real_groups.loc[g, 'n']):,})" for g in order])
ax.set_xlabel("AUROC lost by training on synthetic patients (95 % interval)")
ax.set_title(f"What each group pays ({learner})", loc="left")
plt.show()

# %%
unsaid = results[(results["metric"] == "group_auroc") & (results["status"] == "not_estimable")]
unsaid[["group", "n", "reason"]].drop_duplicates().reset_index(drop=True)

# %% [markdown]
# ## Is everybody there?
#
# Noise weighs most on small groups. The share of a group among the synthetic patients should be its share among the
# real ones: 1 on the axis below.

# %%
there = of("representation", arm="synthetic").sort_values("value")  # logarithms of the ratio of shares
fig, ax = plt.subplots(figsize=(7, 0.6 + 0.26 * len(there)))
for y, row in enumerate(there.itertuples()):
    ax.plot(np.exp([row.low, row.high]), [y, y], color=SYNTHETIC, lw=2)
    ax.plot(np.exp(row.value), y, "o", color=SYNTHETIC)
ax.set_xscale("log")
ax.set_xticks([0.5, 0.7, 1, 1.4, 2], ["½", "0.7", "1", "1.4", "2"])
ax.minorticks_off()
ax.axvline(1, color=REAL, lw=1)
ax.set_yticks(range(len(there)), there["group"])
ax.set_xlabel("share among synthetic over share among real patients (95 % interval)")
ax.set_title("Representation", loc="left")
plt.show()

# %% [markdown]
# ## How close is it?
#
# Total variation distance: 0 is the same, 1 is nothing in common. Tables of one, two and three columns; *real* compares
# training with test patients, so it is what chance alone gives.

# %%
names = {"tvd_1way": "one column", "tvd_2way": "two columns", "tvd_3way": "three columns"}
shown = results[results["metric"].isin(names) & results["arm"].isin(arms)]
shown.assign(table=shown["metric"].map(names)).pivot_table(index="table", columns="arm", values="value").round(3)

# %% [markdown]
# ## The report
#
# All of it, with a plain-language summary, is one HTML page without any outside resources. The command line writes the
# same page: `dpsynth evaluate --real holdout.csv --synthetic release --out report.html`.

# %%
page = Path(tempfile.mkdtemp()) / "report.html"
found.write_html(page)
f"{page.name}: {page.stat().st_size / 1024:.0f} kB"

# %% [markdown]
# Next: [03_images](03_images.ipynb) learns a table *and* the images that belong to its rows.
