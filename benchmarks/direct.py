"""Is a synthetic cohort worth its noise? Classifiers that learned one outcome by DP-SGD, beside those of the sweeps.

At the same epsilon and delta, on the same split of patients as `sweep.py`: logistic regression and a small network that
were trained privately on the real patients themselves. They answer one question and leave no table; what is learned
from a synthetic cohort (here PRISM's, from ``<results>/sweep_<dataset>.csv``) answers any. Each fit adds its rows to
``<results>/direct.csv``, and ``direct.md`` is written from all of them; fits that are in the file are not made again.

Examples
--------
::

    python benchmarks/direct.py support2
    python benchmarks/direct.py thyroid --data thyroid.csv --fits 3
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from sweep import DELTA, EPSILONS, GROUPS, HERE, cohort, commit, interval, of, there

from dpsynth import Cohort
from dpsynth.evaluation import split
from dpsynth.evaluation.arrays.groups import grouping
from dpsynth.evaluation.arrays.table import tables
from dpsynth.jobs.sweep import TEST
from dpsynth.models.tabular.deep.classifier import fit_classifier

#: Beside which learner of the sweep each kind stands.
KINDS = {"logistic": "auroc LR", "mlp": "auroc"}
LEAST = 10
KEYS = ["dataset", "kind", "epsilon", "fit"]


def auroc(truth: np.ndarray, scores: np.ndarray, classes: int) -> float:
    """Return the AUROC; of several classes the mean over classes that are there, each against the rest."""
    if classes == 2:
        return float(roc_auc_score(truth == 1, scores[:, 1]))
    there_ = [code for code in range(classes) if 0 < (truth == code).sum() < len(truth)]
    return float(np.mean([roc_auc_score(truth == code, scores[:, code]) for code in there_]))


def scored(test: Cohort, scores: np.ndarray, dataset: str) -> dict[str, float]:
    """Return the AUROC of all test patients and of each group that has enough of them."""
    table = tables({"test": test})["test"]
    target = table[str(test.schema.target)]
    classes, truth = len(target.categories or ()), np.asarray(target.values)
    if (truth < 0).any():
        raise SystemExit("the outcome is missing in some test rows")
    found = {"": auroc(truth, scores, classes)}
    for one in GROUPS[dataset] or test.schema.subgroups:
        groups = grouping(table, one)
        codes = groups.codes(table)
        for code, label in enumerate(groups.labels):
            inside = codes == code
            if classes == 2 and min((truth[inside] == 1).sum(), (truth[inside] == 0).sum()) >= LEAST:
                found[label] = auroc(truth[inside], scores[inside], classes)
    return found


def page(frame: pd.DataFrame, results: Path) -> str:
    """Return the Markdown page."""
    lines = [
        "# Is synthesis worth it? A classifier trained privately on the patients themselves",
        "",
        f"By `benchmarks/direct.py`, commit {', '.join(sorted(frame['code'].unique()))}. DP-SGD on the real training",
        f"patients (70 %, one split), δ = {DELTA:g}, the whole budget for this one question; hyperparameters fixed on",
        "SUPPORT2. AUROC on the real test patients, mean (least to greatest) over fits; of three classes or more the",
        "mean over classes. *From PRISM*: the same learner (beside the network: gradient boosting) trained on a",
        "synthetic cohort at the same ε, from the sweeps, with its 95 % interval for one fit.",
    ]
    for dataset, part in frame.groupby("dataset", sort=False):
        sweep = there(results / f"sweep_{dataset}.csv")
        head = "| ε | group | fits | logistic, direct | logistic, from PRISM | network, direct | boosting, from PRISM |"
        lines += ["", f"## {dataset}", "", head, "|" + "---|" * 7]
        shown = part[~part["group"].str.contains(" & ")]  # combinations are in the CSV
        for (epsilon, group), rows in shown.groupby(["epsilon", "group"], sort=False):
            mine = sweep[(sweep["model"] == "prism") & (sweep["epsilon"] == epsilon)]
            cells = []
            for kind, measure in KINDS.items():
                values = rows.loc[rows["kind"] == kind, "auroc"]
                cells += [f"{values.mean():.3f} ({values.min():.3f} to {values.max():.3f})" if len(values) else ""]
                cells += [interval(of(mine, measure, group))]
            fits = rows["fit"].nunique()
            lines.append(f"| {epsilon:g} | {group or 'all'} | {fits} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Make the fits that are not there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=list(GROUPS))
    parser.add_argument("--data", type=Path, help="the dataset's CSV; support2 ships with dpsynth")
    parser.add_argument("--epsilon", nargs="+", type=float, default=list(EPSILONS))
    parser.add_argument("--fits", type=int, default=5)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    asked = parser.parse_args()
    path, code = asked.results / "direct.csv", commit()
    train, test = split(cohort(asked.dataset, asked.data), TEST, key="benchmark")
    for fit in range(asked.fits):
        for epsilon in asked.epsilon:
            for kind in KINDS:
                frame = (
                    pd.read_csv(path, keep_default_na=False, dtype={"code": str}) if path.exists() else pd.DataFrame()
                )
                if len(frame) and (frame[KEYS] == [asked.dataset, kind, epsilon, fit]).all(axis=1).any():
                    continue
                found = fit_classifier(train, epsilon=epsilon, delta=DELTA, kind=kind)
                scores = scored(test, found.predict_proba(test), asked.dataset)
                rows = [(asked.dataset, kind, epsilon, fit, code, group, value) for group, value in scores.items()]
                new = pd.DataFrame(rows, columns=[*KEYS, "code", "group", "auroc"])
                frame = pd.concat([frame, new]).sort_values(KEYS, kind="stable")
                frame.to_csv(path, index=False, float_format="%.5g")
                path.with_suffix(".md").write_text(page(frame, asked.results), encoding="utf-8")
                print(asked.dataset, kind, epsilon, fit, round(scores[""], 4), flush=True)


if __name__ == "__main__":
    main()
