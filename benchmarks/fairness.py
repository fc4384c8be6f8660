"""What the fairness policy gives to scarce groups, and what the majority pays: SUPPORT2, groups of race and sex.

PRISM and AIM are fitted on 70 % of the patients with the schema's policy off and on, several times at each epsilon. All
rows of ``results/fairness.csv`` are single fits; ``results/fairness.md`` is written from them.

Examples
--------
::

    python benchmarks/fairness.py --epsilon 1 3 --seeds 5
"""

import argparse
import dataclasses
import subprocess
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import dpsynth
from dpsynth import Cohort
from dpsynth.datasets import load_support2
from dpsynth.evaluation.arrays.bins import JudgingBins
from dpsynth.evaluation.arrays.groups import Grouping, grouping
from dpsynth.evaluation.arrays.table import Table, tables
from dpsynth.evaluation.learners.tabular import Prediction, fit_predict, task_of
from dpsynth.evaluation.metrics.representation import slope
from dpsynth.evaluation.protocol import split
from dpsynth.evaluation.statistics.scores import Ranking, ones
from dpsynth.evaluation.statistics.tvd import Counter, cliques, tvd
from dpsynth.models import Model
from dpsynth.schema.fairness import Fairness

HERE = Path(__file__).parent
COLUMNS = ("sex", "race")
ROWS = 10_000
DELTA = 1e-6
LEARNERS = {"gradient boosting": "GB", "logistic regression": "LR"}
SMALLEST = 150
"""Training patients that a group needs to be a reference of distances."""
OUTCOMES = 20
"""Test patients with and without the outcome that a group needs for an AUROC."""
KEYS = ["model", "policy", "epsilon", "seed"]


@dataclasses.dataclass(frozen=True)
class Real:
    """Real patients as arrays, and their groups.

    Parameters
    ----------
    train, test : Table
    groupings : tuple of Grouping
        Of each column alone, and of both together.
    """

    train: Table
    test: Table
    groupings: tuple[Grouping, ...]

    def members(self, table: Table) -> Iterator[tuple[str, dict[str, str | None], "np.ndarray[Any, Any]"]]:
        """Yield each group of one column with its condition and its rows in a table."""
        for one in self.groupings[:-1]:
            codes = one.codes(table)
            for code, label in enumerate(one.labels):
                value = label.partition("=")[2]
                yield label, {one.columns[0]: None if value == "missing" else value}, codes == code


def distance(reference: Table, other: Table, rule: JudgingBins, order: int) -> float:
    """Return the mean total variation distance over all tables of `order` columns."""
    sets, _ = cliques(reference.names, order, 10**9)
    counters = [Counter(rule.apply(table), 0) for table in (reference, other)]
    return float(np.mean([tvd(*(counter.count(one).sum(axis=0) for counter in counters)) for one in sets]))


def debiased(reference: Table, other: Table, rule: JudgingBins) -> float:
    """Return the root mean square over columns of the distance of one-way tables, less what sampling makes of it."""
    sets, _ = cliques(reference.names, 1, 10**9)
    counters = [Counter(rule.apply(table), 0) for table in (reference, other)]
    squares = []
    for one in sets:
        counts = [counter.count(one).sum(axis=0).astype(float) for counter in counters]
        shares = [table / table.sum() for table in counts]
        sampling = sum((1 - (p**2).sum()) / (n.sum() - 1) for p, n in zip(shares, counts, strict=True))
        squares.append(float(((shares[0] - shares[1]) ** 2).sum() - sampling))
    return float(np.sqrt(max(np.mean(squares), 0.0)))


def within(real: Real, model: Model, schema: Any, seed: int) -> dict[str, float]:
    """Return how far rows drawn for each large enough group are from its own training patients."""
    rule = JudgingBins.of(real.train, "quantile")
    found: dict[str, float] = {}
    for label, where, rows in real.members(real.train):
        if rows.sum() < SMALLEST:
            continue
        drawn = model.sample(ROWS, where=where, scarce=True, seed=seed)
        mine = real.train.take(rows)
        table = tables({"drawn": dataclasses.replace(drawn, schema=schema)})["drawn"]
        found |= {f"tvd{order} {label}": distance(mine, table, rule, order) for order in (1, 2)}
        found[f"debiased {label}"] = debiased(mine, table, rule)
    return found


def scores(real: Real, train: Table, target: str) -> dict[str, float]:
    """Return the AUROC of each learner trained on `train`, for all test patients and for each group that has enough."""
    task = task_of(real.test, target)
    exam = task.known(real.test)
    truth = task.truth(exam)
    found = {}
    for learner, short in LEARNERS.items():
        risk: Prediction = fit_predict(train, task, learner)(exam)
        found[f"{short} all"] = float(Ranking(truth, risk.scores).auroc(ones(len(exam)))[0])
        for one in real.groupings:
            codes = one.codes(exam)
            for code in np.unique(codes):
                rows = codes == code
                if min(truth[rows].sum(), (~truth[rows]).sum()) >= OUTCOMES:
                    score = Ranking(truth[rows], risk.scores[rows]).auroc(ones(int(rows.sum())))[0]
                    found[f"{short} {one.labels[code]}"] = float(score)
    return found


def shares(real: Real, drawn: Table, target: str) -> dict[str, float]:
    """Return how groups are represented, and how far the outcome's share is off in each."""
    found = {}
    task = task_of(real.train, target)
    for one in real.groupings:
        counts = [np.bincount(one.codes(table), minlength=len(one.labels)) for table in (real.train, drawn)]
        kept = counts[0] > 0
        if kept.sum() >= 3:
            found[f"slope {one.name}"] = float(slope(counts[0][kept].astype(float), counts[1][kept].astype(float)))
    for label, _, rows in real.members(real.train):
        mine = next(inside for other, _, inside in real.members(drawn) if other == label)
        if rows.sum() >= SMALLEST and mine.any():
            rates = [task.truth(table.take(which)).mean() for table, which in ((real.train, rows), (drawn, mine))]
            found[f"outcome {label}"] = abs(float(rates[1] - rates[0]))
    return found


def fitted(train: Cohort, real: Real, model: str, *, floor: float, epsilon: float, seed: int) -> dict[str, Any]:
    """Fit once under a policy, and judge."""
    policy = Fairness(columns=COLUMNS, floor=floor) if floor else None
    schema = train.schema.model_copy(update={"fairness": policy})
    start = time.process_time()
    learned = dpsynth.fit(dataclasses.replace(train, schema=schema), model, epsilon=epsilon, delta=DELTA)
    seconds = time.process_time() - start
    drawn = tables({"drawn": dataclasses.replace(learned.sample(ROWS, seed=seed), schema=train.schema)})["drawn"]
    target = str(train.schema.target)
    rule = JudgingBins.of(real.train, "quantile")
    return {
        "model": model,
        "policy": f"floor {floor:g}" if floor else "off",
        "epsilon": epsilon,
        "seed": seed,
        "code": code(),
        "CPU s": seconds,
        **{f"tvd{order} all": distance(real.train, drawn, rule, order) for order in (1, 2)},
        **within(real, learned, train.schema, seed),
        **scores(real, drawn, target),
        **shares(real, drawn, target),
    }


@cache
def code() -> str:
    """Return the short commit of the code that is run, asked at the start."""
    command = ["git", "-C", str(HERE), "log", "-1", "--format=%h", "--", "../models", "../dpsynth"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


def worst(frame: pd.DataFrame, real: "pd.Series[Any]") -> pd.DataFrame:
    """Return for each fit what the table shows: worst groups, the majority, and everybody."""
    found = frame[["model", "policy", "epsilon", "seed"]].copy()
    groups = {n: [c for c in frame if c.startswith(f"tvd{n} ") and not c.endswith(" all")] for n in (1, 2)}
    for order, names in groups.items():
        found[f"worst group's TVD, {order}-way"] = frame[names].max(axis=1)
    found["worst group's debiased distance"] = frame[[c for c in frame if c.startswith("debiased ")]].max(axis=1)
    for short in LEARNERS.values():
        names = [c for c in frame if c.startswith(f"{short} ") and c != f"{short} all"]
        found[f"worst group's AUROC {short}"] = frame[names].min(axis=1)
        gaps = frame[names].astype(float) - real[names].astype(float)
        found[f"worst group's gap {short}"] = gaps.min(axis=1)
        found[f"gap black {short}"] = gaps[f"{short} race=black"]
        found[f"gap white {short}"] = gaps[f"{short} race=white"]
        found[f"gap all {short}"] = frame[f"{short} all"].astype(float) - float(real[f"{short} all"])
    found["worst error of a group's outcome share"] = frame[[c for c in frame if c.startswith("outcome ")]].max(axis=1)
    found["slope race"], found["slope sex & race"] = frame["slope race"], frame["slope sex & race"]
    found["debiased black"], found["debiased white"] = frame["debiased race=black"], frame["debiased race=white"]
    found["TVD white, 2-way"], found["TVD black, 2-way"] = frame["tvd2 race=white"], frame["tvd2 race=black"]
    found["TVD all, 2-way"] = frame["tvd2 all"]
    return found


def cell(values: "pd.Series[float]") -> str:
    """Return mean and range."""
    return f"{values.mean():.4f} ({values.min():.4f} to {values.max():.4f})"


def page(frame: pd.DataFrame) -> str:
    """Return the Markdown page."""
    real = frame[frame["model"] == "real patients"].iloc[0]
    fits = worst(frame[frame["model"] != "real patients"], real)
    figures = [name for name in fits if name not in KEYS]
    scores_of = [name for name in real.index if name[:3] in ("GB ", "LR ") and pd.notna(real[name])]
    lines = [
        "# The fairness policy: SUPPORT2, groups of sex and race",
        "",
        f"Written by `benchmarks/fairness.py`. δ = {DELTA:g}, whole budget, noise of the operating system; mean and",
        "range over fits on the same training patients (70 %). *Policy*: off, or `fairness: {columns: [sex, race],",
        "floor: ...}`.",
        "",
        f"- A group's TVD: {ROWS:,} rows drawn under the condition beside the group's training patients (groups of",
        f"  {SMALLEST} and more), mean over tables of one or two columns, numbers in 8 quantiles. Most of it is the",
        "  group's own small number: *debiased* is the root mean square, over columns, of the Euclidean distance of",
        "  the one-way tables less what samples of these sizes differ by.",
        f"- AUROC of gradient boosting (GB) and logistic regression (LR) trained on {ROWS:,} synthetic rows, on the",
        f"  real test patients of each group, of one column or both, with {OUTCOMES} patients with and without the",
        "  outcome.",
        "- *Gap*: to the same learner trained on the real training patients. The *worst* of several noisy groups lies",
        "  below each group's mean by its making.",
        "- *Slope*: log ratio of shares on log size; 0 is fair, above 0 small groups are lost.",
        "",
        "Real patients: " + ", ".join(f"{name} {real[name]:.3f}" for name in scores_of) + ".",
    ]
    for epsilon, some in fits.groupby("epsilon"):
        cells = list(some.groupby(["model", "policy"], sort=False))
        lines += ["", f"## ε = {epsilon:g}", "", "| | " + " | ".join(f"{m}, {p}" for (m, p), _ in cells) + " |"]
        lines.append("|---" * (len(cells) + 1) + "|")
        lines.append("| fits | " + " | ".join(str(len(rows)) for _, rows in cells) + " |")
        lines += [f"| {name} | " + " | ".join(cell(rows[name]) for _, rows in cells) + " |" for name in figures]
    return "\n".join(lines) + "\n"


def kept(path: Path, new: list[dict[str, Any]]) -> pd.DataFrame:
    """Add rows to a CSV, in place of earlier ones with the same keys, and return all of it."""
    frame = pd.DataFrame(new)
    if path.exists():
        frame = pd.concat([pd.read_csv(path, dtype={"code": "str"}), frame])
    frame = frame.drop_duplicates(KEYS, keep="last").sort_values(KEYS, kind="stable")
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False, float_format="%.6g")
    return frame


def main() -> None:
    """Run what was asked for; the files are brought up to date after every fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["prism"])
    parser.add_argument("--epsilon", nargs="+", type=float, default=[1.0])
    parser.add_argument("--floors", nargs="+", type=float, default=[0.0, 0.2], help="0 is the policy off")
    parser.add_argument("--seeds", type=int, default=5, help="fits of each")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    asked = parser.parse_args()
    code()
    train, test = split(load_support2(), 0.3, key="benchmark")
    found = tables({"train": train, "test": test})
    groups = tuple(grouping(found["test"], columns) for columns in (*COLUMNS, COLUMNS))
    real = Real(found["train"], found["test"], groups)
    ceiling = {"model": "real patients", "policy": "", "epsilon": np.inf, "seed": 0}
    new: list[dict[str, Any]] = [ceiling | scores(real, real.train, str(train.schema.target))]
    path = asked.results / "fairness.csv"
    for seed in range(asked.seeds):
        for epsilon in asked.epsilon:
            for model in asked.models:
                for floor in asked.floors:
                    new.append(fitted(train, real, model, floor=floor, epsilon=epsilon, seed=seed))
                    path.with_suffix(".md").write_text(page(kept(path, new)), encoding="utf-8")
                    print(seed, epsilon, model, floor, f"{new[-1]['CPU s']:.1f} s", flush=True)


if __name__ == "__main__":
    main()
