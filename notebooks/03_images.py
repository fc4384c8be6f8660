# %% [markdown]
# # 3. Patients with images
#
# A cohort may have images beside its table. They are learned under **one** budget and one ledger, patient by patient: a
# patient with two images is protected with both of them. A release holds whole invented patients, whose images belong
# to their rows.
#
# **The images here are a stand-in.** They are the handwritten digits of scikit-learn (8 x 8 pixels), and the patients
# are made up: no clinical claim can be read off this notebook. It shows how the tool is used and what it keeps.

# %%
import dataclasses
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import dpsynth
from dpsynth.files.image_set import ImageSet

SMALL = os.environ.get("DPSYNTH_NOTEBOOK_SMALL") == "1"
EPSILON = 8.0
REAL, SYNTHETIC = "#4d4d4d", "#0072b2"
plt.rcParams.update({"figure.dpi": 80, "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# ## Invented patients
#
# The *condition* of a patient is the digit (0, 1, 2 or 3) that their images show. Older patients have higher conditions
# more often, so that there is something to learn across the table. One patient in four has two images.

# %%
schema = dpsynth.Schema.parse("""
name: demonstration cohort
confirmed: true
description: Invented patients with handwritten digits for images. Nothing in it is medical.
source: The notebook that made it.
patient: patient_id
target: condition
subgroups: [sex]
columns:
  patient_id: {type: identifier}
  age: {type: numeric, min: 18, max: 95, unit: years}
  sex: {type: categorical, values: [female, male]}
  condition: {type: categorical, values: [zero, one, two, three]}
images: {size: [8, 8], range: [0, 255], max_per_patient: 2}
""")
CONDITIONS = ["zero", "one", "two", "three"]
digits = load_digits()
pixels = np.round(digits.images * 255 / 16).astype(np.uint8)[:, None]  # (images, channel, height, width)
rng = np.random.default_rng(0)
left = {digit: rng.permutation(np.flatnonzero(digits.target == digit)).tolist() for digit in range(4)}
rows, dealt = [], []
while min(map(len, left.values())) > 1:
    age = int(np.clip(rng.normal(60, 16), 18, 95))
    odds = np.exp(0.03 * (age - 60) * np.linspace(-1, 1, 4))
    digit = int(rng.choice(4, p=odds / odds.sum()))
    dealt += [(len(rows), left[digit].pop()) for _ in range(rng.choice([1, 2], p=[0.75, 0.25]))]
    rows.append((f"P{len(rows):04d}", age, rng.choice(["female", "male"]), CONDITIONS[digit]))
table = pd.DataFrame(rows, columns=list(schema.columns))
row, place = np.array(dealt).T
cohort = dataclasses.replace(
    dpsynth.Cohort.from_pandas(table, schema, public=True), images=ImageSet(pixels[place], row.astype(np.int64))
)
len(cohort), len(cohort.images)

# %% [markdown]
# On disk a cohort is a folder: a table of patients, an index, and files of images (PNG, JPEG, DICOM, NIfTI or `.npy`).

# %%
folder = Path(tempfile.mkdtemp()) / "cohort"
cohort.write_folder(folder)
for path in sorted(folder.iterdir()):
    print(path.name, f"({len(list(path.iterdir()))} files)" if path.is_dir() else "")
cohort = dpsynth.Cohort.read(folder, schema, public=True)

# %% [markdown]
# ## Fit
#
# `moments` asks one round of noisy questions: how many patients, and the means and covariances of what is coarse in
# their images, condition by condition. It takes seconds. The networks (`diffusion`, `gan`, `mean-embedding`) begin
# where it ends and need more patients than this cohort has.

# %%
model = dpsynth.fit(cohort, "moments", epsilon=EPSILON, delta=1e-6, conditions="condition")
synthetic = model.sample(len(cohort))
synthetic


# %%
def images_of(some, condition):
    """Return the images of the patients with a condition."""
    wanted = some.to_pandas()["condition"].to_numpy() == condition
    return some.images.pixels[wanted[some.images.row]][:, 0]


fig, axes = plt.subplots(4, 17, figsize=(10, 3.1))
fig.subplots_adjust(top=0.86)
for i, condition in enumerate(CONDITIONS):
    both = (images_of(cohort, condition)[:8], images_of(synthetic, condition)[:8])
    for j in range(17):
        ax = axes[i, j]
        ax.axis("off")
        part, k = (both[0], j) if j < 8 else (both[1], j - 9)
        if j != 8 and k < len(part):
            ax.imshow(part[k], cmap="gray_r", vmin=0, vmax=255)
    axes[i, 0].text(-0.5, 0.5, condition, transform=axes[i, 0].transAxes, ha="right", va="center")
axes[0, 3].set_title("real", color=REAL, pad=10)
axes[0, 12].set_title(f"synthetic, ε = {EPSILON:g}", color=SYNTHETIC, pad=10)
plt.show()

# %% [markdown]
# The noise is plain to see: there are few patients to hide among. What one sees are coarse shapes, and it takes a
# measurement to tell whether they are the right ones.
#
# ## Do the images belong to their rows?
#
# A classifier learns to read the condition from **real** images. It then reads the synthetic ones: if their images
# belong to their rows, it finds the condition that the row states. Chance is the share of the commonest condition.


# %%
def flat(some):
    """Return images as rows of numbers, and the condition of each."""
    labels = some.to_pandas()["condition"].to_numpy()[some.images.row]
    return some.images.pixels.reshape(len(some.images), -1) / 255, labels


x, y = flat(cohort)
half = rng.permutation(len(x)) < len(x) // 2
reader = LogisticRegression(max_iter=2000).fit(x[half], y[half])
x_synthetic, y_synthetic = flat(synthetic)
agreement = pd.DataFrame(
    {
        "images": [int((~half).sum()), len(x_synthetic)],
        "condition read as stated": [reader.score(x[~half], y[~half]), reader.score(x_synthetic, y_synthetic)],
        "chance": [pd.Series(one).value_counts(normalize=True).max() for one in (y[~half], y_synthetic)],
    },
    index=["real, not seen by the reader", "synthetic"],
)
agreement.round(3)

# %% [markdown]
# ## Does the table know its patients?

# %%
fig, ax = plt.subplots(figsize=(6, 3))
for some, colour, name, shift in ((cohort, REAL, "real", 0.18), (synthetic, SYNTHETIC, "synthetic", -0.18)):
    ages = some.to_pandas().assign(age=lambda t: t["age"].astype(float)).groupby("condition", observed=True)["age"]
    ends = pd.DataFrame({share: ages.quantile(share) for share in (0.25, 0.5, 0.75)}).reindex(CONDITIONS)
    heights = np.arange(4) + shift
    ax.hlines(heights, ends[0.25], ends[0.75], color=colour, lw=6, alpha=0.4)
    ax.plot(ends[0.5], heights, "o", color=colour, label=name)
ax.set_yticks(range(4), CONDITIONS)
ax.set(xlabel="age: median and quartiles", ylabel="condition")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## One ledger
#
# Table and images draw on the same budget. The statement lists what was asked, and the parts add up to the whole:

# %%
for event in model.statement["events"]:
    print({key: value for key, value in event.items() if key in ("what", "kind", "count", "sigma", "rho")})
print("spent:", model.statement["epsilon_spent"], "of", model.statement["epsilon"])

# %% [markdown]
# ## A release of whole patients

# %%
release = dpsynth.release(model, folder.parent / "release", rows=40 if SMALL else 200)
for path in sorted(release.rglob("*")):
    if path.is_file() and "images" not in path.relative_to(release).parts[:-1]:
        print(path.relative_to(release))

# %% [markdown]
# ε = 8 protects far less than ε = 1: images need more patients, or more budget, than tables. What each model gives for
# which budget on a larger set stands in the project's `benchmarks/results`.
#
# Next: [04_scarce_subgroups](04_scarce_subgroups.ipynb).
