"""Several hospitals against one: SUPPORT2 divided evenly, by disease and by size; together, alone, put together.

Every joint fit goes through the whole protocol (shares of noise, masks, messages) within this process, with noise of
the operating system. Only the rehearsal, by which a hospital finds out for itself which question comes next, is left
out: it changes no number and would fit the model once more at each hospital. A row a fit is added to
``results/federated.csv``, which is written after each, and ``federated.md`` is written from it at the end; what is
there is not run again.

Examples
--------
::

    OMP_NUM_THREADS=1 python benchmarks/federated.py --seeds 5 --local-seeds 2
"""

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from quality import auroc, distances
from sklearn.metrics import roc_auc_score

import dpsynth
from dpsynth import Cohort
from dpsynth.datasets import load_support2
from dpsynth.evaluation.arrays.table import Table, tables
from dpsynth.evaluation.learners.tabular import fit_predict, task_of
from dpsynth.evaluation.protocol import split
from dpsynth.federated.hospital import Hospital
from dpsynth.federated.transport import InProcess
from dpsynth.jobs.federate import allowed, fit_together, study_of
from dpsynth.jobs.local_releases import put_together
from dpsynth.models.base import Model

HERE = Path(__file__).parent
RESULTS = HERE / "results"
ROWS = 10_000
KEYS = ["split", "n", "arm", "t", "seed"]
FIGURES = ["AUROC LR", "AUROC GB", "2-way", "worst group", "worst hospital"]
SIZES = {3: (0.7, 0.2, 0.1), 5: (0.6, 0.2, 0.1, 0.06, 0.04), 10: (0.55, *[0.05] * 9)}


class Agreeing:
    """A rehearsal that agrees with every question."""

    def check(self, asked: Any, heard: Any) -> None:
        """Agree."""

    def training(self, heard: Any) -> Any:
        """Have none."""
        raise NotImplementedError

    def close(self) -> None:
        """Hold nothing."""


def places(cohort: Cohort, how: str, n: int) -> np.ndarray:
    """Return the hospital of each row: at random, by disease group, or by size (one large, many small)."""
    rng = np.random.default_rng(n)
    if how == "even":
        return rng.integers(n, size=len(cohort))
    if how == "size":
        return rng.choice(n, size=len(cohort), p=SIZES[n])
    group = cohort.to_pandas()["dzgroup"].astype("category").cat.codes.to_numpy()
    home = group % n  # each disease has a hospital where most of its patients are, and the rest are anywhere
    return np.where(rng.random(len(cohort)) < 0.8, home, rng.integers(n, size=len(cohort)))


def at(cohort: Cohort, place: np.ndarray, names: tuple[str, ...]) -> dict[str, Cohort]:
    """Return the patients of each hospital."""
    part = dataclasses.replace(cohort, schema=cohort.schema.without_counts())
    return {name: part.take(np.flatnonzero(place == i)) for i, name in enumerate(names)}


def joint(cohorts: Mapping[str, Cohort], t: int) -> Model:
    """Fit PRISM over the hospitals."""
    schema = next(iter(cohorts.values())).schema
    study, keys = study_of(schema, tuple(cohorts), name="benchmark", epsilon=1.0, model="prism", colluding=t)
    asked = dataclasses.replace(allowed(study), rehearse=Agreeing)
    with tempfile.TemporaryDirectory() as folder:
        hospitals = {
            name: Hospital(study, name, cohort, folder=Path(folder, name), allowed=asked, **keys[name])
            for name, cohort in cohorts.items()
        }
        return fit_together(study, InProcess(hospitals))


def judged(synthetic: Cohort, train: Cohort, test: Cohort, homes: np.ndarray) -> dict[str, float]:
    """Return all figures; `homes` are the hospitals of the test patients."""
    found = tables({"train": train, "made": synthetic, "test": test})
    figures = {"2-way": distances(found["train"], found["made"], "public")["2-way"]}
    figures |= auroc(found["made"], found["test"], "hospdead")
    frame = test.to_pandas()
    groups = [(frame[name] == value).to_numpy() for name in ("sex", "race") for value in frame[name].dropna().unique()]
    parts = {"worst group": groups, "worst hospital": [homes == home for home in np.unique(homes)]}
    return figures | _worst(found["made"], found["test"], parts)


def _worst(made: Table, test: Table, parts: Mapping[str, list[np.ndarray]]) -> dict[str, float]:
    """Return the least AUROC of logistic regression over groups with 20 deaths and 20 others at least."""
    task = task_of(test, "hospdead")
    exam = task.known(test)
    truth, risks = task.truth(exam), fit_predict(made, task, "logistic regression")(exam).scores
    worst = {}
    for name, groups in parts.items():
        large = [one for one in groups if min(np.bincount(truth[one].astype(int), minlength=2)) >= 20]
        areas = [float(roc_auc_score(truth[one], risks[one])) for one in large]
        worst[name] = min(areas, default=float("nan"))
    return worst


def arms(seeds: int, local_seeds: int) -> Iterator[tuple[str, int, str, int, int]]:
    """Yield split, number of hospitals, arm, t and seed; what is most worth knowing first."""
    for seed in range(seeds):
        yield ("even", 1, "central", 0, seed)
        for n in (3, 5, 10):
            for t in sorted({0, 1, n // 2}):
                yield ("even", n, "together", t, seed)
        for how in ("disease", "size"):
            for n in (3, 5, 10):
                yield (how, n, "together", 1, seed)
                if seed < local_seeds:
                    yield (how, n, "local", 0, seed)
        if seed < local_seeds:
            for n in (3, 5, 10):
                yield ("even", n, "local", 0, seed)


def run(arm: tuple[str, int, str, int, int], train: Cohort, test: Cohort) -> list[dict[str, Any]]:
    """Fit and judge one arm; of local releases also each hospital alone."""
    how, n, what, t, seed = arm
    start, cpu = time.perf_counter(), time.process_time()
    homes = places(test, how, n) if n > 1 else np.zeros(len(test), dtype=int)
    names = tuple(f"hospital{i}" for i in range(n))
    base = {"split": how, "n": n, "t": t, "seed": seed}
    if what == "local":
        models = {
            name: dpsynth.fit(cohort, "prism", epsilon=1.0, delta=1e-6, anyway=True)
            for name, cohort in at(train, places(train, how, n), names).items()
        }
        drawn = [model.sample(max(model.rows, 1)) for model in models.values()]
        alone = [judged(model.sample(ROWS), train, test, homes) for model in models.values()]
        return [
            {**base, "arm": "local", **judged(put_together(drawn), train, test, homes)},
            {**base, "arm": "alone, mean", **pd.DataFrame(alone).mean().to_dict()},
            {**base, "arm": "alone, worst", **worst_of(pd.DataFrame(alone))},
        ]
    if what == "central":
        model: Model = dpsynth.fit(train, "prism", epsilon=1.0, delta=1e-6)
    else:
        model = joint(at(train, places(train, how, n), names), t)
    spent = {"fit s": time.perf_counter() - start, "fit CPU s": time.process_time() - cpu}
    return [{**base, "arm": what, **judged(model.sample(ROWS), train, test, homes), **spent}]


def worst_of(frame: pd.DataFrame) -> dict[str, float]:
    """Return the worst hospital's figures."""
    return {name: float(frame[name].max() if name == "2-way" else frame[name].min()) for name in frame.columns}


def page(frame: pd.DataFrame) -> str:
    """Return the Markdown."""
    lines = [
        "# Several hospitals: SUPPORT2, ε = 1, PRISM",
        "",
        "Written by `benchmarks/federated.py`. δ = 1e-6, 70 % of 9,105 patients; the rest are tested on. Mean",
        "(least-most) over fits. *together, t*: the protocol of n hospitals with noise for t who collude; its sums do",
        "not depend on how patients are divided. *local*: each hospital's own release at the same ε, rows put",
        "together. *alone*: one hospital's release, the mean and the worst hospital. AUROC of logistic regression (LR)",
        "and gradient boosting (GB) on real test patients; 2-way: mean TVD of pairs (public cells); worst group: least",
        "AUROC (LR) over sex and race; worst hospital: over hospitals' own test patients, with 20 deaths and 20 others",
        "at least.",
        "*disease*: 80 % of a disease group's patients are at one hospital; *size*: the largest has 70, 60 or 55 %.",
        "",
        "| split | n | arm | t | fits | " + " | ".join(FIGURES) + " |",
        "|---" * (5 + len(FIGURES)) + "|",
    ]
    for (how, n, arm, t), rows in frame.groupby(["split", "n", "arm", "t"], sort=True):
        cells = [_cell(rows[name].dropna()) for name in FIGURES]
        lines.append(f"| {how} | {n} | {arm} | {t} | {len(rows)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(values: "pd.Series[float]") -> str:
    if values.empty:
        return ""
    return f"{values.mean():.3f}" + ("" if len(values) == 1 else f" ({values.min():.3f}-{values.max():.3f})")


def main() -> None:
    """Run what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--local-seeds", type=int, default=2)
    asked = parser.parse_args()
    train, test = split(load_support2(), 0.3, key="benchmark")
    train = dataclasses.replace(train, schema=train.schema.without_counts())
    path = RESULTS / "federated.csv"
    frame = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=KEYS)
    done = {tuple(row) for row in frame[KEYS].itertuples(index=False)}
    for arm in arms(asked.seeds, asked.local_seeds):
        if arm in done:
            continue
        rows = run(arm, train, test)
        frame = pd.concat([frame, pd.DataFrame(rows)]) if len(frame) else pd.DataFrame(rows)
        frame.to_csv(path, index=False, float_format="%.5g")
        print(rows[0], flush=True)
    path.with_suffix(".md").write_text(page(frame), encoding="utf-8")


if __name__ == "__main__":
    main()
