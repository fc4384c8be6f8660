"""Whether intervals hold: of counts with their known noise, beside those that take synthetic rows for patients.

SUPPORT2, each model fitted several times. For every cell of every table of counts that a model paid for and releases,
the 95 % interval from the noisy count and its sigma (`dpsynth.evaluation.count_intervals`) and the interval of a
proportion from as many synthetic rows (Wilson 1927, as somebody would compute it who takes the rows for patients) are
compared with the exact count among the training patients. Written to ``<results>/coverage.csv`` and ``coverage.md``.

Examples
--------
::

    python benchmarks/coverage.py --models independent prism --epsilon 0.3 1 --fits 5
"""

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from sweep import commit

import dpsynth
from dpsynth import Cohort
from dpsynth.coding.query import Query
from dpsynth.datasets import load_support2
from dpsynth.evaluation import count_intervals
from dpsynth.models import Model
from dpsynth.privacy.tables.counting import contingency

DELTA, LEVEL = 1e-6, 0.95
SIZES = (0, 10, 100, 1000, np.inf)
COLUMNS = ["model", "epsilon", "fit", "code", "size", "cells", "noise-aware", "naive"]


def cells(model: Model, real: Cohort) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield of each released table the exact counts, and whether the noise-aware and the naive interval hold them."""
    tables, synthetic = model.released(), model.sample(len(real))
    queries = [Query(table.columns, table.maps) for table in tables]
    exact, mine = (contingency(model.codec.encode(one), len(one), queries) for one in (real, synthetic))
    for table, truth, own in zip(tables, exact, mine, strict=True):
        low, high = count_intervals(table.counts, table.sigma, LEVEL)
        aware = (low.ravel() - 0.5 <= truth.ravel()) & (truth.ravel() <= high.ravel() + 0.5)
        yield truth.ravel(), aware, naive(own.ravel(), truth.ravel())


def naive(own: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return whether Wilson's interval of a share among the synthetic rows holds the share among the patients."""
    n, z = own.sum(), 1.959964
    share = own / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    held: np.ndarray = np.abs(truth / truth.sum() - middle) <= reach
    return held


def rows(real: Cohort, name: str, epsilon: float) -> Iterator[tuple[object, ...]]:
    """Yield the shares of cells whose intervals hold, by the exact size of the cell, after one fit."""
    model = dpsynth.fit(real, name, epsilon=epsilon, delta=DELTA)
    truth, aware, plain = (np.concatenate(side) for side in zip(*cells(model, real), strict=True))
    for low, high in itertools.pairwise(SIZES):
        inside = (truth >= low) & (truth < high)
        if inside.any():
            words = f"{low:g} to {high - 1:g}" if np.isfinite(high) else f"{low:g} and more"
            yield words, int(inside.sum()), aware[inside].mean(), plain[inside].mean()


def page(frame: pd.DataFrame) -> str:
    """Return the Markdown file."""
    lines = [
        "# Coverage of intervals of counts",
        "",
        f"By `benchmarks/coverage.py`: SUPPORT2, δ = {DELTA:g}, all tables of counts that a model releases, commit",
        f"{', '.join(sorted(frame['code'].unique()))}. Share of cells whose {LEVEL:.0%} interval holds the exact count",
        "among the patients, mean over cells and fits, by that count. *Noise-aware*: from the released count and its",
        "known noise. *Naive*: of the share among as many synthetic rows, as if they were patients; between two",
        "samples of patients from one population such an interval holds in 83 %.",
        "",
        "| model | ε | fits | patients in the cell | cells | noise-aware | naive |",
        "|---|---|---|---|---|---|---|",
    ]
    for (name, epsilon, size), part in frame.groupby(["model", "epsilon", "size"], sort=False):
        weights = part["cells"] / part["cells"].sum()
        shares = [f"{float((part[side] * weights).sum()):.3f}" for side in ("noise-aware", "naive")]
        facts = [str(name), f"{epsilon:g}", str(part["fit"].nunique()), str(size), f"{part['cells'].sum():,}"]
        lines.append(f"| {' | '.join([*facts, *shares])} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Fit, count and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["independent", "mst", "prism"])
    parser.add_argument("--epsilon", nargs="+", type=float, default=[0.3, 1.0, 3.0])
    parser.add_argument("--fits", type=int, default=10)
    parser.add_argument("--code", default=commit(), help="state of the code, for the table; default: the commit")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    asked = parser.parse_args()
    real, found = load_support2(), []
    for name in asked.models:
        for epsilon in asked.epsilon:
            for fit in range(asked.fits):
                found += [(name, epsilon, fit, asked.code, *row) for row in rows(real, name, epsilon)]
            frame = pd.DataFrame(found, columns=COLUMNS)
            frame.to_csv(asked.results / "coverage.csv", index=False, float_format="%.5g")
            (asked.results / "coverage.md").write_text(page(frame), encoding="utf-8")
            print(name, epsilon, frame.iloc[-1].to_dict(), flush=True)


if __name__ == "__main__":
    main()
