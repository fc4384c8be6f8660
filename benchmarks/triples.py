"""What PRISM makes of parities, thresholds and pairs that its tree cannot hold, before and after: figures by code.

The parity: 10,000 rows of six bits and six digits of three values, ``y = b0 xor b1`` with 5 % flipped, ``t5 = t0 + t1
modulo 3`` with 5 % drawn again; boosting learns each from drawn rows and is judged on 10,000 others. The other tasks
are those of ``quality.py``. Every fit is a row of ``results/triples.csv``; ``results/triples.md`` is written from them.

Examples
--------
::

    python benchmarks/triples.py parity --epsilon 1 3 10
    python benchmarks/triples.py thyroid --data thyroid.csv --code before
    python benchmarks/triples.py support2 --epsilon 0.3 1 --prior test
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from quality import Task, cell, code, judged, tasks

import dpsynth
from dpsynth import Cohort, Schema

HERE = Path(__file__).parent
DELTA = 1e-6
ROWS = 10_000
FLIPPED = 0.05
KEYS = ["task", "epsilon", "prior", "code", "seed"]


def parity(n: int, seed: int) -> pd.DataFrame:
    """Return rows of which no pair of columns tells anything, and two triples nearly all."""
    rng = np.random.default_rng(seed)
    frame = {f"b{i}": rng.integers(0, 2, n) for i in range(5)} | {f"t{i}": rng.integers(0, 3, n) for i in range(5)}
    frame["y"] = frame["b0"] ^ frame["b1"] ^ (rng.random(n) < FLIPPED)
    total = (frame["t0"] + frame["t1"]) % 3
    frame["t5"] = np.where(rng.random(n) < FLIPPED, rng.integers(0, 3, n), total)
    return pd.DataFrame(frame)


def parity_cohort(seed: int) -> Cohort:
    """Return such rows as a cohort with the target y."""
    frame = parity(ROWS, seed)
    columns = {
        name: {"type": "categorical", "values": [0, 1] if name[0] != "t" else [0, 1, 2]} for name in frame.columns
    }
    schema = Schema.parse({"name": "parity", "confirmed": True, "target": "y", "columns": columns})
    return Cohort.from_pandas(frame, schema, public=True)


def auroc(train: pd.DataFrame, test: pd.DataFrame, target: str) -> float:
    """Return the AUROC (mean over classes) of boosting that learned from `train`."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score

    features = [name for name in train.columns if name != target]
    learned = HistGradientBoostingClassifier().fit(train[features], train[target])
    chances = learned.predict_proba(test[features])
    if chances.shape[1] == 2:
        return float(roc_auc_score(test[target], chances[:, 1]))
    return float(roc_auc_score(test[target], chances, multi_class="ovr"))


def of_parity(epsilon: float, seed: int) -> dict[str, float]:
    """Fit, draw and judge the parity once."""
    start = time.process_time()
    fitted = dpsynth.fit(parity_cohort(seed), "prism", epsilon=epsilon, delta=DELTA)
    drawn = fitted.sample(ROWS, seed=seed).to_pandas().astype(int)
    seconds = time.process_time() - start
    test = parity(ROWS, 999)
    return {"CPU s": seconds, "AUROC y": auroc(drawn, test, "y"), "AUROC t5": auroc(drawn, test, "t5")}


def of_task(task: Task, epsilon: float, seed: int, prior: str) -> dict[str, float]:
    """Fit, draw and judge a task of ``quality.py`` once; `prior` names a public prior."""
    priors: dict[str, Any] = {"none": {}, "schema": {"prior": "schema"}, "test": {"prior": task.test}}
    start = time.process_time()
    fitted = dpsynth.fit(task.train, "prism", epsilon=epsilon, delta=DELTA, **priors[prior])
    drawn = fitted.sample(ROWS, seed=seed)
    seconds = time.process_time() - start
    figures = judged(task, drawn)
    return {"CPU s": seconds} | {name: value for name, value in figures.items() if "public" not in name}


def page(frame: pd.DataFrame) -> str:
    """Return the Markdown file."""
    lines = [
        "# Parities, thresholds, and pairs that the tree cannot hold",
        "",
        "Written by `benchmarks/triples.py`. PRISM with δ = 1e-6 and the system's noise; mean (least–most) over fits.",  # noqa: RUF001
        "*parity*: what boosting learns from drawn rows of y = b0 xor b1 and t5 = t0 + t1 modulo 3 (see the script).",
        "The other tasks, distances and AUROC are those of `quality.py`; constants were looked at on thyroid. Code",
        "*before*: commit ff8440f. *prior*: a public prior; *test* takes the test patients for a public cohort, so its",
        "AUROC is no fair one. CPU seconds of fit and draw, single-threaded, on a machine that others used too.",
    ]
    names = [name for name in frame.columns if name not in KEYS]
    for task, rows in frame.groupby("task", sort=False):
        used = [name for name in names if rows[name].notna().any()]
        head = ["ε", "prior", "code", "fits", *used]
        lines += ["", f"## {task}", "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        for (epsilon, prior, commit), fits in rows.groupby(["epsilon", "prior", "code"], sort=True):
            cells = [cell(fits[name], 4 if "way" in name else 3 if "AUROC" in name else 1) for name in used]
            lines.append("| " + " | ".join([f"{epsilon:g}", prior, commit, str(len(fits)), *cells]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what was asked for; the files are brought up to date after every fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["parity", "support2", "nmes_codes", "thyroid", "framingham"])
    parser.add_argument("--data", type=Path, help="the dataset's CSV; support2 ships with dpsynth")
    parser.add_argument("--epsilon", nargs="+", type=float, default=[1.0, 3.0, 10.0])
    parser.add_argument("--seeds", type=int, default=3, help="fits of each budget")
    parser.add_argument("--prior", choices=["none", "schema", "test"], default="none")
    parser.add_argument("--code", default="", help="name of the code in the table; its commit where left out")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    asked = parser.parse_args()
    path = asked.results / "triples.csv"
    task = None if asked.task == "parity" else tasks(asked.task, asked.data)[-1]
    for epsilon in asked.epsilon:
        for seed in range(asked.seeds):
            found = of_parity(epsilon, seed) if task is None else of_task(task, epsilon, seed, asked.prior)
            row = dict(zip(KEYS, (asked.task, epsilon, asked.prior, asked.code or code(), seed), strict=True)) | found
            frame = pd.DataFrame([row])
            if path.exists():
                frame = pd.concat([pd.read_csv(path, dtype={"code": "str"}), frame])
            frame = frame.drop_duplicates(KEYS, keep="last").sort_values(KEYS, kind="stable")
            frame.to_csv(path, index=False, float_format="%.5g")
            (asked.results / "triples.md").write_text(page(frame), encoding="utf-8")
            print(row, flush=True)


if __name__ == "__main__":
    main()
