"""How close synthetic cohorts are and how well classifiers learn from them: every model, several budgets and seeds.

Every model is fitted from the typed table and a public schema with the whole budget counted, at patient level. Results
are added to ``<results>/quality_<dataset>.csv`` (a row a fit; the same fit run again replaces its row), and
``quality_<dataset>.md`` is written from all of them.

Examples
--------
::

    python benchmarks/quality.py support2 --epsilon 1 --seeds 5
    python benchmarks/quality.py nmes_codes --data nmes_codes.csv --epsilon 0.3 1 3
    python benchmarks/quality.py framingham --data framingham_long.csv --models independent prism
"""

import argparse
import dataclasses
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import dpsynth
from dpsynth import Cohort, Schema
from dpsynth.datasets import load_support2
from dpsynth.evaluation.arrays.bins import BinKind, JudgingBins
from dpsynth.evaluation.arrays.table import Table, tables
from dpsynth.evaluation.learners.tabular import fit_predict, task_of
from dpsynth.evaluation.metrics.utility import score
from dpsynth.evaluation.protocol import split
from dpsynth.evaluation.statistics.scores import ones
from dpsynth.evaluation.statistics.tvd import Counter, cliques, tvd

HERE = Path(__file__).parent
MODELS = ("independent", "mst", "aim", "prism")
ROWS = 10_000
DELTA = 1e-6
SHORT = {"gradient boosting": "GB", "logistic regression": "LR"}
KEYS = ["arm", "model", "epsilon", "seed"]


@dataclass(frozen=True)
class Task:
    """A cohort to learn from, and the real patients to be judged by.

    Parameters
    ----------
    arm : str
        How the cohort is used, for the table; empty where there is one way.
    train : Cohort
        What the models are fitted on.
    reference : Cohort
        Real training patients as they are, the reference of every distance.
    test : Cohort or None
        Real test patients, for classifiers.
    """

    arm: str
    train: Cohort
    reference: Cohort
    test: Cohort | None


def capped(cohort: Cohort, limit: int) -> Cohort:
    """Return the same rows under a schema that lets a patient have at most `limit` of them."""
    schema = cohort.schema.model_copy(update={"max_rows_per_patient": limit, "rows": None})
    return dataclasses.replace(cohort, schema=schema)


def tasks(dataset: str, data: Path | None) -> list[Task]:
    """Return the ways in which a dataset is used."""
    if dataset == "support2":
        cohort = load_support2()
    elif data is None:
        raise SystemExit(f"{dataset}: name its file with --data")
    else:
        cohort = Cohort.read(data, Schema.load(HERE / "schemas" / f"{dataset}.yaml"), public=True)
    if dataset == "nmes_codes":
        return [Task("", cohort, cohort, None)]
    train, test = split(cohort, 0.3, key="benchmark")
    if dataset == "framingham":
        return [Task(f"at most {k} rows a patient", capped(train, k), train, test) for k in (3, 1)]
    return [Task("", train, train, test)]


def distances(reference: Table, other: Table, kind: BinKind) -> dict[str, float]:
    """Return the mean TVD over all marginals of 1, 2 and 3 columns."""
    rule = JudgingBins.of(reference, kind)
    counters = [Counter(rule.apply(table), 0) for table in (reference, other)]
    found = {}
    for order in (1, 2, 3):
        sets, _ = cliques(reference.names, order, 10**9)
        each = [tvd(*(counter.count(one).sum(axis=0) for counter in counters)) for one in sets]
        found[f"{order}-way"] = float(np.mean(each))
    return found


def auroc(train: Table, test: Table, target: str) -> dict[str, float]:
    """Return the AUROC on `test` of every learner trained on `train`; 0.5 where the training rows have one outcome."""
    task = task_of(test, target)
    exam = task.known(test)
    found = {}
    for learner, short in SHORT.items():
        if len(np.unique(task.truth(task.known(train)))) < 2:
            found[f"AUROC {short}"] = 0.5
            continue
        prediction = fit_predict(train, task, learner)(exam)
        found[f"AUROC {short}"] = float(score(task, task.truth(exam), prediction, ones(len(exam)))["auroc"][0])
    return found


def judged(task: Task, other: Cohort) -> dict[str, float]:
    """Return all figures of a cohort that was not used for the fit: distances, and AUROC where there is a target."""
    given = {"reference": task.reference, "other": other}
    found = tables(given if task.test is None else given | {"test": task.test})
    numbers = any(variable.numeric for variable in found["reference"].variables.values())
    figures = {}
    for kind in ("quantile", "public") if numbers else ("public",):
        each = distances(found["reference"], found["other"], kind)
        figures |= {f"{name}{' (public cells)' if numbers and kind == 'public' else ''}": v for name, v in each.items()}
    target = task.train.schema.target
    if task.test is not None and target is not None:
        figures |= auroc(found["other"], found["test"], target)
    return figures


def ceiling(task: Task) -> dict[str, Any]:
    """Return the figures of real patients: the test patients' distances, the training patients' AUROC."""
    if task.test is None:
        return {}
    figures = judged(task, task.test)
    found = tables({"train": task.reference, "test": task.test})
    target = task.train.schema.target
    if target is not None:
        figures |= auroc(found["train"], found["test"], target)
    return {"arm": task.arm, "model": "real patients", "epsilon": np.inf, "seed": 0, **figures}


def fitted(task: Task, model: str, epsilon: float, seed: int, *, seeded: bool) -> dict[str, Any]:
    """Fit, sample and judge once."""
    start, start_cpu = time.perf_counter(), time.process_time()
    learned = dpsynth.fit(task.train, model, epsilon=epsilon, delta=DELTA, seed=seed if seeded else None)
    middle = time.perf_counter()
    synthetic = learned.sample(ROWS, seed=seed)
    times = {"fit s": middle - start, "fit + sample s": time.perf_counter() - start}
    times["CPU s"] = time.process_time() - start_cpu
    figures = times | judged(task, synthetic)
    if task.train.schema.rows is not None:
        same = judged(task, learned.sample(task.train.schema.rows, seed=1000 + seed))
        figures |= {f"{name}, n rows": value for name, value in same.items()}
    return {
        "arm": task.arm,
        "model": model,
        "epsilon": epsilon,
        "seed": seed,
        "noise": noise(seeded),
        "code": code(),
        **figures,
    }


def code() -> str:
    """Return the short commit of the repository that this script stands in, empty where there is none."""
    command = ["git", "-C", str(HERE), "log", "-1", "--format=%h", "--", "../models", "../dpsynth"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


def noise(seeded: bool) -> str:
    """Return what stands in the table about the randomness of the noise."""
    return "seeded" if seeded else "system"


def kept(path: Path, new: list[dict[str, Any]]) -> pd.DataFrame:
    """Add rows to a CSV, in place of earlier ones with the same keys, and return all of it."""
    frame = pd.DataFrame(new)
    if path.exists():
        frame = pd.concat([pd.read_csv(path, dtype={"arm": "str", "code": "str"}).fillna({"arm": ""}), frame])
    frame = frame.drop_duplicates(KEYS, keep="last").sort_values(KEYS, kind="stable", key=_order)
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False, float_format="%.6g")
    return frame


def _order(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Sort models as `MODELS` lists them."""
    return column.map(lambda name: MODELS.index(name) if name in MODELS else -1) if column.name == "model" else column


def cell(values: "pd.Series[float]", digits: int) -> str:
    """Return mean and range, such as ``.052 (.050-.055)``."""
    texts = [f"{value:.{digits}f}" for value in (values.mean(), values.min(), values.max())]
    return texts[0] if len(values) == 1 else f"{texts[0]} ({texts[1]}–{texts[2]})"  # noqa: RUF001  (a range's dash)


def blocks(frame: pd.DataFrame) -> Iterator[str]:
    """Yield a Markdown table for each arm and budget."""
    figures = [
        name for name in frame.columns if name not in (*KEYS, "noise", "code", "fit s", "fit + sample s", "CPU s")
    ]
    budgets = sorted(value for value in frame["epsilon"].unique() if np.isfinite(value))
    for arm in frame["arm"].unique():
        mine = frame[frame["arm"] == arm]
        for epsilon in budgets:
            chosen = mine[(mine["epsilon"] == epsilon) | np.isinf(mine["epsilon"])]
            yield f"\n## ε = {epsilon:g}{', ' + arm if arm else ''}\n\n" + table(chosen, figures)


def table(frame: pd.DataFrame, figures: list[str]) -> str:
    """Return one Markdown table, a line a model."""
    used = [name for name in figures if frame[name].notna().any()]
    lines = ["| model | code | fits | fit + sample, s | of it CPU, s | " + " | ".join(used) + " |"]
    lines.append("|---" * (len(used) + 5) + "|")
    for model, rows in frame.groupby("model", sort=False):
        real = model == "real patients"
        made = ", ".join(sorted(rows["code"].dropna().unique()))
        times = [""] * 4 if real else [made, str(len(rows)), *(cell(rows[n], 1) for n in ("fit + sample s", "CPU s"))]
        cells = [
            cell(rows[name].dropna(), 4 if "way" in name else 3) if rows[name].notna().any() else "" for name in used
        ]
        lines.append("| " + " | ".join([str(model), *times, *cells]) + " |")
    return "\n".join(lines) + "\n"


def page(dataset: str, frame: pd.DataFrame) -> str:
    """Return the whole Markdown file."""
    kinds = sorted(frame["noise"].dropna().unique())
    words = {"system": "of the operating system, as in use", "seeded": "from seeds, repeatable (test mode)"}
    head = [
        f"# Quality: {dataset}",
        "",
        f"Written by `benchmarks/quality.py {dataset}`. δ = {DELTA:g}; the whole budget is counted and protects a",
        f"patient. Mean (least–most) over fits; noise {' and '.join(words[kind] for kind in kinds)}.",  # noqa: RUF001
        f"TVD: mean over all marginals of 1, 2 and 3 columns between {ROWS:,} synthetic rows and the real training",
        "patients, missing and special values as cells of their own. Seconds are of a machine with two cores that",
        "others may have used at the same time, therefore the CPU seconds beside them. *fits*: each with its own",
        "noise, on the same patients; slow models have fewer than others where time was short. *code*: commit.",
    ]
    if "1-way (public cells)" in frame.columns:
        head += [
            "Numbers are cut at 8 quantiles of the real training patients; *public cells*: at 8 cells of the schema's",
            "ranges with its clinical cut points.",
        ]
    if "AUROC GB" in frame.columns:
        head += [
            "AUROC of gradient boosting (GB) and logistic regression (LR) trained on the synthetic rows, on the real",
            "test patients (30 %, patient-disjoint, one split). *Real patients*: TVD of the test patients from the",
            "training patients, AUROC of learners trained on the real training patients.",
        ]
    return "\n".join(head) + "\n" + "".join(blocks(frame))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=["support2", "nmes_codes", "framingham", "thyroid"])
    parser.add_argument("--data", type=Path, help="the dataset's CSV; support2 ships with dpsynth")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--epsilon", nargs="+", type=float, default=[1.0])
    parser.add_argument("--seeds", type=int, default=5, help="fits of each model and budget")
    parser.add_argument("--seeded", action="store_true", help="repeatable noise in place of the system's")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    return parser.parse_args()


def main() -> None:
    """Run what was asked for; the files are brought up to date after every fit."""
    asked = arguments()
    path = asked.results / f"quality_{asked.dataset}.csv"
    for task in tasks(asked.dataset, asked.data):
        new = [ceiling(task)] if task.test is not None else []
        for epsilon in asked.epsilon:
            for model in asked.models:
                for seed in range(asked.seeds):
                    new.append(fitted(task, model, epsilon, seed, seeded=asked.seeded))
                    path.with_suffix(".md").write_text(page(asked.dataset, kept(path, new)), encoding="utf-8")
                    print(task.arm, epsilon, model, seed, {k: v for k, v in new[-1].items() if isinstance(v, float)})


if __name__ == "__main__":
    main()
