"""A demonstration cohort with images, from a labelled image set: a stand-in, there is no patient in it.

The images of an .npz (in the layout of MedMNIST or of Keras) become those of invented patients. A patient's
``condition`` is the label of their images; its odds depend on age and sex, so that there is something to learn across
table and images; ``site`` has a scarce group. Three patients in ten have two images of their condition, one in ten has
none. Written are ``train`` and ``test``, folders that `dpsynth.Cohort.read` reads, and ``cohort.yaml``; said is how
long it took.

Examples
--------
::

    python benchmarks/image_cohort.py --data fashion_mnist_12k.npz --out demonstration
"""

import argparse
import dataclasses
import time
from pathlib import Path

import numpy as np
import pandas as pd

from dpsynth import Cohort, Schema
from dpsynth.drafting.draft import draft_schema
from dpsynth.files.image_set import ImageSet

SITES = {"university": 0.6, "district": 0.33, "island": 0.07}
IMAGES = {0: 0.1, 1: 0.6, 2: 0.3}


def schema_for(drafted: Schema) -> Schema:
    """Return the schema of the invented patients, whose images are as drafted."""
    conditions = [f"condition {value}" for value in drafted.to_dict()["columns"]["label"]["values"]]
    return Schema.parse(
        {
            "name": "demonstration cohort",
            "confirmed": True,
            "description": "Invented patients with the images of a public image set, which show nothing medical.",
            "source": "The script that made it.",
            "patient": "patient_id",
            "target": "condition",
            "subgroups": ["sex", "site"],
            "columns": {
                "patient_id": {"type": "identifier"},
                "age": {"type": "numeric", "min": 18, "max": 95, "unit": "years"},
                "sex": {"type": "categorical", "values": ["female", "male"]},
                "site": {"type": "categorical", "values": list(SITES)},
                "condition": {"type": "categorical", "values": conditions},
            },
            "images": {**drafted.to_dict()["images"], "max_per_patient": max(IMAGES)},
        }
    )


def invented(images: ImageSet, labels: np.ndarray, schema: Schema, seed: int) -> Cohort:
    """Deal the images out to patients, none twice, until the first condition has run out of them."""
    rng = np.random.default_rng(seed)
    codes = np.unique(labels)
    left = [rng.permutation(np.flatnonzero(labels == code)).tolist() for code in codes]
    slopes, by_sex = np.linspace(-1, 1, len(codes)), np.where(codes % 2, 0.5, -0.5)
    rows, dealt = [], []
    while True:
        age, sex = int(np.clip(rng.normal(62, 16), 18, 95)), int(rng.integers(2))
        odds = np.exp(0.03 * (age - 62) * slopes + by_sex * sex)
        kind, number = rng.choice(len(codes), p=odds / odds.sum()), rng.choice(list(IMAGES), p=list(IMAGES.values()))
        if len(left[kind]) < number:
            break
        dealt += [(len(rows), left[kind].pop()) for _ in range(number)]
        site = rng.choice(list(SITES), p=list(SITES.values()))
        rows.append((f"P{len(rows):06d}", age, ["female", "male"][sex], site, f"condition {codes[kind]}"))
    table = Cohort.from_pandas(pd.DataFrame(rows, columns=list(schema.columns)), schema, public=True)
    row, place = np.array(dealt).T
    return dataclasses.replace(table, images=ImageSet(images.pixels[place], row.astype(np.int64)))


def main() -> None:
    """Write both parts, read them again, and say how long it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="labelled image set, .npz")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    drafted = draft_schema(given.data)
    schema = schema_for(drafted)
    given.out.mkdir()
    schema.dump(given.out / "cohort.yaml")
    for part in ("train", "test"):
        whole = Cohort.read(given.data, drafted, part=part, public=True)
        made = invented(whole.images, whole.to_pandas()["label"].to_numpy().astype(int), schema, given.seed)
        start = time.perf_counter()
        made.write_folder(given.out / part)
        written = time.perf_counter()
        found = Cohort.read(given.out / part, schema, public=True)
        seconds = time.perf_counter() - written
        assert np.array_equal(found.images.pixels, made.images.pixels)  # noqa: S101
        print(
            f"{part}: {len(found):,} patients, {len(found.images):,} images; written in {written - start:.1f} s, "
            f"read in {seconds:.1f} s; by site {found.to_pandas()['site'].value_counts().to_dict()}"
        )


if __name__ == "__main__":
    main()
