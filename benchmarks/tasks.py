"""A proving ground: many tabular tasks from many public cohorts, so that no model is tuned to a single one.

A task is a cohort with a target and a number of patients. On each, and for each budget, the models are ranked, and
what each loses to the best of them (its *regret*) is averaged; a constant that is not derived has to win on cohorts
on which it was not chosen (leave one cohort out, ``--choose``). The cohorts are in `task_cohorts.py`, the models in
`task_models.py`. Every fit adds a row to ``<results>/tasks.csv``; a fit that is there is not run again, so a run can be
stopped and taken up, and several may run side by side (``--part``). ``tasks.md`` is written from all rows.

Examples
--------
::

    python benchmarks/tasks.py --data FOLDER --rows 500 1500 5000 0 --epsilon 0.1 0.3 1 3 10 --part 1/2
    python benchmarks/tasks.py --report
    python benchmarks/tasks.py --choose prism "prism@stage.TYPICAL=0.03" "prism@stage.TYPICAL=0.08"
"""

import argparse
import fcntl
import os
import time
import warnings
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from task_cohorts import Ground, grounds, prepared
from task_models import rows_of

from dpsynth import Cohort

HERE = Path(__file__).parent
TESTED = 0.3
"""Share of the patients who judge."""
MOST_TESTED = 10_000
BINS = 16
"""Cells of a number in which distances are counted, of equal mass in the real training patients; and missing."""
MOST_TABLES = 150
"""Marginals of each order over which distances are averaged; the same for every model."""
KEYS = ["task", "rows", "epsilon", "model", "seed"]
FIGURES = ["tvd1", "tvd2", "tvd3", "auroc", "rmse"]
MEASURES = {"auroc": -1, "rmse": 1, "tvd2": 1, "tvd3": 1}
"""What is ranked, and whether less (1) or more (-1) is better."""
COLUMNS = [*KEYS, "cohort", "kind", "n", "d", "cpu_s", *FIGURES]


TRIED = 5
"""Splits from this number on are those on which constants are chosen."""
HEAD = """By `benchmarks/tasks.py` (`task_cohorts.py` has the cohorts, `task_models.py` the models). delta 1e-6, all
the budget counted, one fit a cell with the noise of the operating system, so single cells are noisy: read means. AUROC
(macro over classes) and RMSE (in standard deviations) of boosting that learned from synthetic rows, on real test
patients (30 %); TVD of marginals of 2 and 3 columns from the real training patients, numbers in 16 cells of equal
mass. *rank*: 1 is best; *regret*: what is lost to the best of the models on a cell, its mean and its worst. Tables
hold only cells that every named model has.

*prism-before*: the code before, with at most 8 groups a pair and 8 states a column for every noise and number of rows.
dpmm's MST was started on four tasks of 1,500 patients and had finished none in 500 seconds on a busy machine of two
cores; google/dpsynth and Tab-PE are in no registry that this machine reaches.

Constants were tried on 8 to 9 tasks of 1,500 patients with one fit each, too few to tell small differences. What is
chosen with one cohort left out mostly loses more on that cohort than the default, so the defaults stay. `SURVIVING` =
.12 was also run on whole cohorts (AUROC at epsilon 0.3 .756, the default .772, before .765; at 1 .804, .795, .795)."""


@dataclass(frozen=True)
class Task:
    """Real patients to learn from and to judge by.

    Attributes
    ----------
    ground
        The cohort and its target.
    train, test
        Disjoint patients.
    """

    ground: Ground
    train: Cohort
    test: Cohort


def task_of(ground: Ground, rows: int, seed: int) -> Task | None:
    """Return a task of so many patients (0: all that do not judge); None where there are not so many."""
    frame, schema = prepared(ground)
    order = np.random.default_rng(seed).permutation(len(frame))
    held = int(TESTED * len(frame))
    if rows > len(frame) - held:
        return None
    chosen, test = order[held : held + rows if rows else None], order[: min(held, MOST_TESTED)]
    facts = schema.model_copy(update={"rows": len(chosen)})
    return Task(ground, *(Cohort.from_pandas(frame.iloc[part], facts, public=True) for part in (chosen, test)))


class Judge:
    """Distances of marginals from the training patients, and what boosting learns, on the test patients."""

    def __init__(self, task: Task) -> None:
        self.target, self.kind = task.ground.target, task.ground.kind
        train, self.test = task.train.to_pandas(), task.test.to_pandas()
        self.cuts = {
            name: np.unique(np.nanquantile(values.astype(float), np.linspace(0, 1, BINS + 1)[1:-1]))
            for name, values in train.items()
            if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
        }
        self.levels = {n: sorted(train[n].dropna().unique(), key=str) for n in train if n not in self.cuts}
        self.reference = self.codes(train)

    def codes(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return small integers; missing is a cell of its own."""
        codes = {}
        for name in self.cuts:
            values = frame[name].astype(float)
            codes[name] = np.where(values.isna(), len(self.cuts[name]) + 1, np.searchsorted(self.cuts[name], values))
        for name, levels in self.levels.items():
            codes[name] = pd.Categorical(frame[name], levels).codes + 1
        return pd.DataFrame(codes)

    def tvd(self, codes: pd.DataFrame, order: int) -> float:
        """Return the mean total variation distance over marginals of so many columns."""
        sets = list(combinations(codes, order))
        sets = [sets[i] for i in np.random.default_rng(order).permutation(len(sets))[:MOST_TABLES]]
        sizes = {name: int(max(self.reference[name].max(), codes[name].max())) + 1 for name in codes}
        distances = []
        for columns in sets:
            shape = tuple(sizes[c] for c in columns)
            tables = [
                np.bincount(np.ravel_multi_index([f[c] for c in columns], shape), minlength=np.prod(shape)) / len(f)
                for f in (self.reference, codes)
            ]
            distances.append(np.abs(tables[0] - tables[1]).sum() / 2)
        return float(np.mean(distances))

    def inputs(self, frame: pd.DataFrame) -> Any:
        """Return every column but the target as numbers, missing as NaN."""
        parts = [frame[n].astype(float).to_numpy() for n in self.cuts if n != self.target]
        codes = [pd.Categorical(frame[n], v).codes.astype(float) for n, v in self.levels.items() if n != self.target]
        return np.column_stack([*parts, *(np.where(c < 0, np.nan, c) for c in codes)])

    def auroc(self, frame: pd.DataFrame) -> float:
        """Return the AUROC, the mean over the classes against all others where there are several."""
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.metrics import roc_auc_score

        levels = self.levels[self.target]
        outcome, truth = (pd.Categorical(f[self.target], levels).codes for f in (frame, self.test))
        scores = np.zeros((len(truth), len(levels)))
        if len(np.unique(outcome)) > 1:
            learner = HistGradientBoostingClassifier(max_iter=60, random_state=0).fit(self.inputs(frame), outcome)
            scores[:, learner.classes_] = learner.predict_proba(self.inputs(self.test))
        classes = range(1, 2) if len(levels) == 2 else range(len(levels))
        return float(np.mean([roc_auc_score(truth == k, scores[:, k]) for k in classes if (truth == k).sum() >= 10]))

    def rmse(self, frame: pd.DataFrame) -> float:
        """Return the root mean squared error, in standard deviations of the test patients (1: the mean alone)."""
        from sklearn.ensemble import HistGradientBoostingRegressor

        learner = HistGradientBoostingRegressor(max_iter=60, random_state=0)
        learner.fit(self.inputs(frame), frame[self.target].astype(float))
        truth = self.test[self.target].astype(float).to_numpy()
        return float(np.sqrt(np.mean((learner.predict(self.inputs(self.test)) - truth) ** 2)) / truth.std())

    def __call__(self, rows: Cohort) -> dict[str, float]:
        """Return all figures of synthetic rows."""
        frame = rows.to_pandas()
        frame = frame.dropna(subset=[self.target])
        figures = {f"tvd{k}": self.tvd(self.codes(rows.to_pandas()), k) for k in (1, 2, 3)}
        told = {"rmse": self.rmse(frame)} if self.kind == "number" else {"auroc": self.auroc(frame)}
        return figures | told


def add(path: Path, row: dict[str, Any]) -> None:
    """Append a row to the results; processes that run side by side wait for each other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        line = pd.DataFrame([row], columns=COLUMNS)
        file.write(line.to_csv(index=False, header=os.fstat(file.fileno()).st_size == 0, float_format="%.6g"))


def present(path: Path) -> set[tuple[Any, ...]]:
    """Return the keys of the rows that are there."""
    return set(pd.read_csv(path)[KEYS].itertuples(index=False, name=None)) if path.exists() else set()


def run(asked: argparse.Namespace) -> None:
    """Run every fit that was asked for, belongs to this part, and is not there yet."""
    part, parts = map(int, asked.part.split("/"))
    chosen = [g for g in grounds(asked.data) if not asked.only or g.cohort in asked.only or g.name in asked.only]
    for seed in range(asked.first, asked.first + asked.seeds):
        for rows in asked.rows:
            for ground in chosen[part - 1 :: parts]:
                one_task(ground, rows, seed, asked)


def one_task(ground: Ground, rows: int, seed: int, asked: argparse.Namespace) -> None:
    """Run the fits of one task that are missing."""
    todo = [(e, m) for e in asked.epsilon for m in asked.models]
    there = present(asked.results)
    todo = [(e, m) for e, m in todo if (ground.name, rows, e, m, seed) not in there]
    task = task_of(ground, rows, seed) if todo else None
    if task is None:
        return
    judge, n = Judge(task), len(task.train)
    facts = {"task": ground.name, "rows": rows, "seed": seed, "cohort": ground.cohort, "kind": ground.kind}
    facts |= {"n": n, "d": len(judge.reference.columns)}
    for epsilon, model in todo:
        start = time.process_time()
        synthetic = rows_of(model, task.train, epsilon, rows=max(10_000, n), seed=seed, peer_python=asked.peer_python)
        seconds = time.process_time() - start
        row = facts | {"epsilon": epsilon, "model": model, "cpu_s": round(seconds, 2)} | judge(synthetic)
        add(asked.results, row)
        print({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}, flush=True)


def losses(table: pd.DataFrame, measure: str, models: list[str]) -> pd.DataFrame:
    """Return what each model reached on every cell that all of them have: a row a task, rows and budget."""
    keys = ["cohort", "task", "rows", "epsilon"]
    part = table[table["model"].isin(models) & table[measure].notna()]
    cells = part.pivot_table(measure, keys, "model")
    return cells.reindex(columns=models).dropna()


def summary(cells: pd.DataFrame, sign: int) -> pd.DataFrame:
    """Return mean, rank, mean regret and worst regret of each model."""
    lost = cells * sign
    regret = lost.sub(lost.min(axis=1), axis=0)
    return pd.DataFrame(
        {"mean": cells.mean(), "rank": lost.rank(axis=1).mean(), "regret": regret.mean(), "worst": regret.max()}
    )


def left_out(cells: pd.DataFrame, sign: int) -> pd.DataFrame:
    """Return for each cohort the model that is best on all others, and what it and the first model lose on this one."""
    lost = cells * sign
    regret = lost.sub(lost.min(axis=1), axis=0)
    by_cohort = regret.groupby(level="cohort").mean()
    chosen = {cohort: str(by_cohort.drop(index=cohort).mean().idxmin()) for cohort in by_cohort.index}
    columns = {"chosen": chosen, "regret": {c: by_cohort.loc[c, m] for c, m in chosen.items()}}
    return pd.DataFrame(columns | {str(by_cohort.columns[0]): by_cohort.iloc[:, 0].to_dict()})


def markdown(table: pd.DataFrame) -> str:
    """Return a Markdown table."""
    head = [str(table.index.name or ""), *map(str, table.columns)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    lines += [
        "| " + " | ".join([str(i), *(f"{v:.4f}" if isinstance(v, float) else str(v) for v in row)]) + " |"
        for i, row in zip(table.index, table.itertuples(index=False), strict=True)
    ]
    return "\n".join(lines) + "\n"


def report(table: pd.DataFrame, models: list[str]) -> str:
    """Return rank and regret of each model over all cells that all have, and by budget."""
    text = ""
    for measure, sign in MEASURES.items():
        cells = losses(table, measure, models)
        if cells.empty:
            continue
        budgets = cells.index.get_level_values("epsilon")
        for title, part in [
            ("all budgets", cells),
            *((f"ε = {e:g}", cells[budgets == e]) for e in sorted(set(budgets))),
        ]:
            text += f"\n### {measure}, {title}: {len(part)} cells\n\n" + markdown(summary(part, sign))
    return text


def choice(table: pd.DataFrame, models: list[str]) -> str:
    """Return which of the models is chosen where one cohort is left out, and what it loses there."""
    text = ""
    for measure, sign in MEASURES.items():
        cells = losses(table, measure, models)
        if not cells.empty:
            text += f"\n### {measure}, one cohort left out\n\n" + markdown(left_out(cells, sign))
    return text


def page(table: pd.DataFrame, models: list[str]) -> str:
    """Return the Markdown file: all rows of all patients, then small cohorts, then the variants that were tried."""
    whole, small = table[(table["rows"] == 0)], table[(table["rows"] > 0) & (table["seed"] == 0)]
    tried = table[table["seed"] >= TRIED]
    text = f"# The proving ground\n\n{HEAD}\n\n## All patients\n" + report(whole, models)
    here = [model for model in ("prism", "aim", "mst", "independent", "rule-of-thumb") if model in set(small["model"])]
    text += "\n## 1,500 patients\n" + report(small, here)
    variants = list(dict.fromkeys(tried["model"]))
    return text + "\n## Constants\n" + report(tried, variants) + choice(tried, variants) if variants else text


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with framingham_long.csv, thyroid.csv and nmes_codes.csv")
    parser.add_argument("--models", nargs="+", default=["prism", "aim", "mst", "independent", "rule-of-thumb"])
    parser.add_argument("--rows", nargs="+", type=int, default=[500, 1500, 5000, 0], help="patients; 0: all")
    parser.add_argument("--epsilon", nargs="+", type=float, default=[0.1, 0.3, 1.0, 3.0, 10.0])
    parser.add_argument("--seeds", type=int, default=1, help="splits of the patients, each with its own fit")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--only", nargs="*", default=[], help="cohorts, or cohort/target")
    parser.add_argument("--part", default="1/1", help="which part of the tasks this process runs: 2/3")
    parser.add_argument("--peer-python", help="Python of the environment that has dpmm")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "tasks.csv")
    parser.add_argument("--report", action="store_true", help="write the Markdown tables, run nothing")
    parser.add_argument("--choose", nargs="+", help="models among which one is chosen with each cohort left out")
    return parser.parse_args()


def main() -> None:
    """Run, or report on the rows that are there."""
    asked = arguments()
    warnings.simplefilter("ignore")
    if not (asked.report or asked.choose):
        return run(asked)
    table = pd.read_csv(asked.results)
    if asked.report:
        asked.results.with_suffix(".md").write_text(page(table, asked.models), encoding="utf-8")
    else:
        print(report(table, asked.choose) + choice(table, asked.choose))
    return None


if __name__ == "__main__":
    main()
