"""Patients with several visits: the Framingham examinations, real and synthetic, over epsilon.

Each fit learns one flat row a patient under patient-level privacy with all noise for one row, from all 4,434
participants. ``results/visits.csv`` has every number, ``results/visits.md`` the table.

Examples
--------
::

    python benchmarks/visits.py --data framingham_long.csv --epsilon 1 3 10 --seeds 2
"""

import argparse
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import dpsynth
from dpsynth import Cohort, Schema
from dpsynth.evaluation.metrics.visits import visit_results

HERE = Path(__file__).parent
DELTA = 1e-6
SHOWN = ("SYSBP", "DIABP", "BMI", "TOTCHOL", "AGE", "HEARTRTE", "GLUCOSE")
KEYS = ["model", "epsilon", "seed", "metric", "subject"]


@cache
def code() -> str:
    """Return the short commit of the code that is run, asked at the start."""
    command = ["git", "-C", str(HERE), "log", "-1", "--format=%h", "--", "../models", "../dpsynth"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


def numbers(cohort: Cohort, arm: str, **keys: Any) -> list[dict[str, Any]]:
    """Return every result of a cohort as a row, and which share of patients have their visits in order."""
    rows = []
    for one in visit_results({arm: cohort}):
        if one.ok:
            ends = one.interval
            rows.append(
                {**keys, "metric": one.metric, "subject": one.subject, "value": one.value}
                | {"low": ends.low if ends else np.nan, "high": ends.high if ends else np.nan, "n": one.n}
            )
    visits: Any = cohort.schema.visits
    frame = cohort.to_pandas()
    patient = frame[str(cohort.schema.patient)]
    for name in (visits.column, *visits.rising):
        falls = frame[name].astype(float).groupby(patient).diff() < 0
        share = 1 - float(falls.groupby(patient).any().mean())
        rows.append({**keys, "metric": "rises", "subject": name, "value": share, "n": patient.nunique()})
    for visit in visits.values:  # noqa: PD011  (the schema's, not a frame's)
        share = float((frame[visits.column] == visit).groupby(patient).any().mean())
        rows.append({**keys, "metric": "seen", "subject": str(visit), "value": share, "n": patient.nunique()})
    return rows


def page(frame: pd.DataFrame) -> str:
    """Return the Markdown page."""
    cells = list(frame.groupby(["model", "epsilon"], sort=False))
    heads = [model if np.isinf(epsilon) else f"{model}, ε = {epsilon:g}" for (model, epsilon), _ in cells]
    lines = [
        "# Visits: the Framingham examinations",
        "",
        f"Written by `benchmarks/visits.py`. δ = {DELTA:g}; unit: the patient, with all examinations; one flat row a",
        "patient, so that noise is that of one row. Noise of the operating system; mean (least to most) over fits,",
        "each drawn once with 4,434 patients. Correlations (Spearman's and Pearson's) of one quantity between two",
        "examinations of a patient; pairs of consecutive examinations are measured, that of the first and the third",
        "follows from them.",
        "",
        "| | " + " | ".join(heads) + " |",
        "|---" * (len(heads) + 1) + "|",
        "| fits | " + " | ".join(str(rows["seed"].nunique()) for _, rows in cells) + " |",
    ]
    pairs = [f"{c}: {a} and {b}" for c in SHOWN for a, b in ((1, 2), (2, 3), (1, 3))]
    wanted = [(metric, pair) for metric in ("visit_rank_correlation", "visit_correlation") for pair in pairs]
    wanted += [("visit_change", f"{c}: {a} and {b}") for c in ("SYSBP", "BMI", "TOTCHOL") for a, b in ((1, 2), (2, 3))]
    for metric in ("constant_share", "rises", "seen"):
        wanted += [(metric, one) for one in frame.loc[frame["metric"] == metric, "subject"].drop_duplicates()]
    words = {
        "visit_rank_correlation": "rank correlation, {}",
        "visit_correlation": "correlation, {}",
        "visit_change": "standard deviation of the change, {}",
        "constant_share": "patients with one {}",
        "rises": "patients whose {} never falls",
        "seen": "patients with examination {}",
    }
    for metric, subject in wanted:
        texts = []
        for _, rows in cells:
            found = rows.loc[(rows["metric"] == metric) & (rows["subject"] == subject), "value"]
            texts.append(cell(found))
        lines.append(f"| {words[metric].format(subject)} | " + " | ".join(texts) + " |")
    times = frame.drop_duplicates(["model", "epsilon", "seed"])["CPU s"].dropna()
    lines += ["", f"A fit takes {times.min():.0f} to {times.max():.0f} s of processor time."] if len(times) else []
    return "\n".join(lines) + "\n"


def cell(values: "pd.Series[float]") -> str:
    """Return mean and range; empty where there is none."""
    if values.empty:
        return ""
    text = f"{values.mean():.3f}"
    return text if len(values) == 1 else f"{text} ({values.min():.3f} to {values.max():.3f})"


def kept(path: Path, new: list[dict[str, Any]]) -> pd.DataFrame:
    """Add rows to a CSV, in place of earlier ones with the same keys, and return all of it."""
    frame = pd.DataFrame(new)
    if path.exists():
        frame = pd.concat([pd.read_csv(path, dtype={"code": "str", "subject": "str"}), frame])
    frame = frame.drop_duplicates(KEYS, keep="last")
    order = frame["epsilon"].replace(np.inf, -1.0)
    frame = frame.iloc[np.lexsort((frame["seed"], order))]
    frame.to_csv(path, index=False, float_format="%.6g")
    return frame


def main() -> None:
    """Run what was asked for; the files are brought up to date after every fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="framingham_long.csv")
    parser.add_argument("--epsilon", nargs="+", type=float, default=[1.0, 3.0, 10.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="numbers of the fits")
    parser.add_argument("--cells", type=int, default=20_000, help="size limit of the junction tree")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    asked = parser.parse_args()
    code()
    cohort = Cohort.read(asked.data, Schema.load(HERE / "schemas" / "framingham_visits.yaml"), public=True)
    new = numbers(cohort, "real", model="real patients", epsilon=np.inf, seed=0)
    path = asked.results / "visits.csv"
    for seed in asked.seeds:
        for epsilon in asked.epsilon:
            start = time.process_time()
            model = dpsynth.fit(cohort, "prism", epsilon=epsilon, delta=DELTA, cells=asked.cells)
            seconds = time.process_time() - start
            keys = {"model": "prism", "epsilon": epsilon, "seed": seed, "code": code(), "CPU s": seconds}
            new += numbers(model.sample(4_434, seed=seed), "synthetic", **keys)
            path.with_suffix(".md").write_text(page(kept(path, new)), encoding="utf-8")
            print(seed, epsilon, f"{seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
