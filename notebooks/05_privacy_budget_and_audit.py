# %% [markdown]
# # 5. The privacy budget, and an audit
#
# What does ε promise, who keeps count, and why should anyone believe it? This notebook spends a budget, is refused, and
# then attacks its own models.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import dpsynth
from dpsynth.errors import BudgetExceeded
from dpsynth.jobs.audit import Auditor, audit_release, demo_cohort
from dpsynth.privacy.spending.ledger import Ledger

SMALL = os.environ.get("DPSYNTH_NOTEBOOK_SMALL") == "1"
RUNS = 30 if SMALL else 400
REAL, SYNTHETIC, CLAIM = "#4d4d4d", "#0072b2", "#d55e00"
plt.rcParams.update({"figure.dpi": 80, "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# ## What ε promises
#
# Somebody wants to know whether a certain patient is in the cohort, and knows everybody else. Whatever they believed
# before, the release can move their odds by at most a factor of e^ε (up to a chance of δ).

# %%
prior = np.linspace(0.01, 0.99, 200)
fig, ax = plt.subplots(figsize=(5.4, 4))
for epsilon, style in ((0.1, ":"), (1, "-"), (3, "--"), (8, "-.")):
    odds = prior / (1 - prior) * np.exp(epsilon)
    ax.plot(prior, odds / (1 + odds), style, color=SYNTHETIC, label=f"ε = {epsilon:g}")
ax.plot(prior, prior, color="#bbbbbb", lw=1, label="nothing learned")
ax.set(xlabel="belief before the release", ylabel="belief after it, at most")
ax.set_title("The worst that an attacker can learn about being in it", loc="left")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# At ε = 1 even odds become at most 73 %. At ε = 8 they can become 99.97 %: such a budget is a promise on paper for the
# worst case, and how far real attacks get is a matter of experience, not of proof.
#
# ## Budgets add up
#
# The ledger lies beside the data. A dataset has a *limit*, which the first run sets; runs add up under it, in the
# currency of the accountant, in which two runs of ε = 1 cost less than ε = 2 together.

# %%
folder = Path(tempfile.mkdtemp())
rng = np.random.default_rng(0)
n = 1500
pd.DataFrame(
    {
        "age": rng.integers(18, 99, n),
        "sex": rng.choice(["female", "male"], n),
        "died": (rng.random(n) < 0.2).astype(int),
    }
).to_csv(folder / "ward.csv", index=False)
schema = dpsynth.Schema.parse("""
name: ward
confirmed: true
description: Invented patients
target: died
columns:
  age:  {type: numeric, min: 18, max: 110, unit: years}
  sex:  {type: categorical, values: [female, male]}
  died: {type: boolean, labels: [0, 1]}
""")
cohort = dpsynth.Cohort.read(folder / "ward.csv", schema)
model = dpsynth.fit(cohort, "independent", epsilon=1.0, delta=1e-6, limit=2.0, label="first")
totals = []
for k in range(30):
    totals.append(Ledger.beside(folder / "ward.csv").spent().epsilon)
    try:
        dpsynth.fit(cohort, "independent", epsilon=0.5, delta=1e-6, label=f"further {k + 1}")
    except BudgetExceeded as refusal:
        print(refusal)
        break

# %%
fig, ax = plt.subplots(figsize=(6, 2.8))
ax.bar(range(len(totals)), totals, color=SYNTHETIC, width=0.6)
ax.axhline(2.0, color=CLAIM, lw=2)
ax.text(len(totals) - 0.5, 2.06, "limit", color=CLAIM, ha="right")
naive = 1 + 0.5 * np.arange(len(totals))
ax.plot(range(len(totals)), naive, "o--", color=REAL, label="adding up ε by hand")
ax.set(xlabel="runs: one of ε = 1, then each of ε = 0.5", ylabel="ε of all runs together")
ax.set_xticks(range(len(totals)), range(1, len(totals) + 1))
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# Raising a limit is possible, on purpose, with a reason that stays in the file: `dpsynth ledger raise-limit`.
#
# ## A release is checked against itself
#
# Anybody can recompute what a release says of itself, without any patient:

# %%
dpsynth.release(model, folder / "release")
for check in audit_release(folder / "release").checks:
    print(f"{check.verdict!s:32} {check.name}: {check.detail}")

# %% [markdown]
# ## An attack
#
# The audit fits a model hundreds of times with and without one made-up patient (the *canary*), and lets an attacker
# guess which fits had the patient in them. From how often the guess is right follows a **lower bound** on ε. If the
# bound passes the claim, the claim is false. If it does not, that proves nothing: the *ceiling* says how much so many
# runs could have shown at all. We attack the floor model (its fits take a fraction of a second) on three columns of
# SUPPORT2.

# %%
auditor = Auditor(demo_cohort(), "independent", epsilon=1.0, delta=1e-6, runs=RUNS)
auditor.run()
audit = auditor.found()
print("verdict:", audit.verdict, "\n")
for attack in audit.attacks:
    for bound in attack.bounds:
        print(
            f"{attack.name}: {attack.runs} runs, lower bound {bound.epsilon:.2f} by {bound.method}, "
            f"ceiling {bound.ceiling:.2f}"
        )

# %%
shown = [(attack, bound) for attack in audit.attacks for bound in attack.bounds]
fig, ax = plt.subplots(figsize=(7, 0.9 + 0.5 * len(shown)))
for y, (_, bound) in enumerate(shown):
    ax.barh(
        y,
        bound.ceiling,
        color="#dddddd",
        height=0.6,
        label="ceiling: the most that these runs could show" if y == 0 else None,
    )
    ax.barh(y, bound.epsilon, color=SYNTHETIC, height=0.6, label="lower bound that they did show" if y == 0 else None)
ax.axvline(audit.claim.epsilon, color=CLAIM, lw=2, label=f"claim: ε = {audit.claim.epsilon:g}")
ax.set_yticks(range(len(shown)), [f"{a.name}, {b.method}" for a, b in shown])
ax.set(xlabel="ε (longer bars are cut)", xlim=(0, 8))
ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, -0.3))
ax.set_title("An audit can refute a claim, never confirm it", loc="left")
plt.show()

# %% [markdown]
# A blue bar past the line would be a violation. A blue bar short of the line is one of two things: either the model
# protects better than it says, or the attack was not good enough. Which of the two no audit can tell.
#
# What is promised rests on the proof and on the code, not on attacks: the page *What is guaranteed* names for each
# promise the place that keeps it and the test that breaks when it does not.
#
# Next: [06_bring_your_own_model](06_bring_your_own_model.ipynb).
