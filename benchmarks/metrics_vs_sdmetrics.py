"""Our distances beside their nearest equivalents in SDMetrics (PyPI), on SUPPORT2 and on a shuffled copy.

SDMetrics is run by the Python of its own environment (``--peer-python``) on the same cells, and on the values as they
are. Its scores are similarities; they are turned into distances here: 1 - score, for correlations 2 (1 - score).

Examples
--------
::

    python -m venv peers && peers/bin/pip install sdmetrics
    python benchmarks/metrics_vs_sdmetrics.py --peer-python peers/bin/python
"""

import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from itertools import combinations
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ARMS = {"real": "other real patients", "shuffled": "shuffled copy"}
COLUMNS = ("metric", "cohort", "ours", "SDMetrics, same cells", "SDMetrics, raw values", "equivalent")


def mean(values: list[float]) -> float:
    """Return the mean without what SDMetrics could not compute."""
    found = [value for value in values if value == value]  # noqa: PLR0124  (NaN differs from itself)
    return sum(found) / len(found) if found else float("nan")


def peer(folder: Path) -> dict[str, Any]:
    """Return SDMetrics' distances for both cohorts; runs in its own environment."""
    import pandas as pd
    import sdmetrics
    from sdmetrics.column_pairs import ContingencySimilarity, CorrelationSimilarity
    from sdmetrics.single_column import KSComplement, MissingValueSimilarity, TVComplement

    warnings.simplefilter("ignore")
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    numbers = facts["numeric"]
    test, cells = values(folder / "test.values", numbers), pd.read_csv(folder / "test.cells")
    names = list(cells.columns)
    found: dict[str, Any] = {"version": sdmetrics.__version__}
    for arm in ARMS:
        other, codes = values(folder / f"{arm}.values", numbers), pd.read_csv(folder / f"{arm}.cells")
        ranks = [pd.read_csv(folder / f"{one}.ranks") for one in ("test", arm)]
        pairs = list(combinations(names, 2))
        ordered = list(combinations(facts["ordered"], 2))
        raw_pairs = list(combinations(numbers, 2))
        found[arm] = {
            "TVD, 1-way": [
                mean([1 - TVComplement.compute(cells[n].astype(str), codes[n].astype(str)) for n in names]),
                mean([1 - TVComplement.compute(test[n], other[n]) for n in names if n not in numbers]),
            ],
            "TVD, pairs": [
                mean(
                    [1 - ContingencySimilarity.compute(cells[[*p]].astype(str), codes[[*p]].astype(str)) for p in pairs]
                ),
                mean(
                    [
                        1
                        - ContingencySimilarity.compute(
                            test[[*p]], other[[*p]], continuous_column_names=[n for n in p if n in numbers]
                        )
                        for p in pairs
                    ]
                ),
            ],
            "KS": [
                mean([1 - KSComplement.compute(*plain(n, (test, other), ranks)) for n in numbers]),
                mean([1 - KSComplement.compute(test[n], other[n]) for n in numbers]),
            ],
            "missing rate": [None, mean([1 - MissingValueSimilarity.compute(test[n], other[n]) for n in names])],
            "Spearman": [
                mean([2 * (1 - spearman(CorrelationSimilarity, ranks[0], ranks[1], p)) for p in ordered]),
                mean([2 * (1 - spearman(CorrelationSimilarity, test, other, p)) for p in raw_pairs]),
            ],
        }
    return found


def plain(name: str, frames: Any, ranks: Any) -> list[Any]:
    """Return the values of a number without its special ones, as our KS looks at them."""
    return [frame.loc[rank[name].notna(), name] for frame, rank in zip(frames, ranks, strict=True)]


def spearman(metric: Any, left: Any, right: Any, pair: tuple[str, str]) -> float:
    """Return SDMetrics' similarity of Spearman's correlation, for rows that have both values."""
    sides = [frame[[*pair]].dropna().astype(float) for frame in (left, right)]
    return float(metric.compute(*sides, coefficient="Spearman"))


def raw(variable: Any) -> Any:
    """Return the values of a column, NaN where missing; categories as text."""
    import numpy as np

    codes, missing = variable.values, variable.missing  # noqa: PD011  (a field of ours, not pandas)
    if variable.numeric:
        return np.where(missing, np.nan, codes)
    return np.where(missing, None, np.char.add("c", codes.astype(str)).astype(object))


def values(path: Path, numeric: list[str]) -> Any:
    """Read what `raw` gave."""
    import pandas as pd

    frame = pd.read_csv(path)
    return frame.astype({name: "float64" if name in numeric else "object" for name in frame.columns})


def prepare(folder: Path) -> dict[str, dict[str, float]]:
    """Write both cohorts as values, cells and ranks for SDMetrics; return our distances."""
    import numpy as np
    import pandas as pd

    from dpsynth import Cohort
    from dpsynth.datasets import load_support2
    from dpsynth.evaluation import evaluate, split
    from dpsynth.evaluation.arrays.bins import JudgingBins
    from dpsynth.evaluation.arrays.table import tables

    cohort = load_support2()
    train, test = split(cohort, 0.5, key="benchmark")
    rng = np.random.default_rng(0)
    frame = train.to_pandas()
    mixed = frame.apply(lambda column: column.sample(frac=1, random_state=int(rng.integers(2**31))).to_numpy())
    mixed = mixed.astype(frame.dtypes)
    shuffled = Cohort.from_pandas(mixed, train.schema, public=True)
    found = tables({"test": test, "real": train, "shuffled": shuffled})
    rule = JudgingBins.of(found["test"], "quantile")
    ordered = rule.ordered(found["test"])
    names = found["test"].names
    for name, table in found.items():
        codes = pd.DataFrame({one: rule.apply(table).codes[one].astype(int) for one in names})
        codes.to_csv(folder / f"{name}.cells", index=False)
        ranks = codes[list(ordered)].astype(float)
        ranks.where(ranks < pd.Series(ordered)).to_csv(folder / f"{name}.ranks", index=False)
        pd.DataFrame({one: raw(table[one]) for one in names}).to_csv(folder / f"{name}.values", index=False)
    numeric = [one for one in names if found["test"][one].numeric]
    (folder / "facts.json").write_text(json.dumps({"numeric": numeric, "ordered": list(ordered)}), encoding="utf-8")
    results = evaluate(test, shuffled, real_train=train, subgroups=[]).results
    wanted = {
        "TVD, 1-way": "tvd_1way",
        "TVD, pairs": "tvd_2way",
        "KS": "ks",
        "missing rate": "missing_rate_error",
        "Spearman": "spearman_error",
    }
    arms = {"real": "real", "shuffled": "synthetic"}
    return {
        mine: {name: results.one(metric, arm=arm).number for name, metric in wanted.items()}
        for mine, arm in arms.items()
    }


EQUIVALENT = {
    "TVD, 1-way": "TVComplement; raw: categories only",
    "TVD, pairs": "ContingencySimilarity; raw: its own 10 equal cells of a number",
    "KS": "KSComplement; *same cells*: without special values (no urine at all), as ours",
    "missing rate": "MissingValueSimilarity",
    "Spearman": "CorrelationSimilarity, ranks of cells; raw: ranks of values, numbers only",
}


def page(ours: dict[str, dict[str, float]], theirs: dict[str, Any]) -> str:
    """Return the table."""
    lines = [
        "# Our metrics beside SDMetrics",
        "",
        f"Written by `benchmarks/metrics_vs_sdmetrics.py`; SDMetrics {theirs['version']} in an environment of its own.",
        "Reference: one half of SUPPORT2; *other real patients*: the other half; *shuffled copy*: the other half, each",
        "column shuffled by itself, so that columns keep their distribution and lose their associations. Means over",
        "columns or pairs; distances, 0 is equal. *Same cells*: SDMetrics was given our cells (quantiles of the",
        "reference, missing as a cell of its own), which must give the same number; *raw values*: SDMetrics by itself.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|---" * len(COLUMNS) + "|",
    ]
    for metric, words in EQUIVALENT.items():
        for arm, name in ARMS.items():
            same, raw = theirs[arm][metric]
            cells = [metric, name, *("" if one is None else f"{one:.6f}" for one in (ours[arm][metric], same, raw))]
            lines.append("| " + " | ".join([*cells, words]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Prepare, ask SDMetrics, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path, help="Python of an environment with sdmetrics")
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    asked = parser.parse_args()
    if asked.peer is not None:
        print(json.dumps(peer(asked.peer)))
        return
    if asked.peer_python is None:
        raise SystemExit("name the Python of an environment with sdmetrics: --peer-python")
    with tempfile.TemporaryDirectory() as name:
        ours = prepare(Path(name))
        command = [str(asked.peer_python), __file__, "--peer", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    path = asked.results / "metrics_vs_sdmetrics.md"
    path.write_text(page(ours, json.loads(done.stdout.splitlines()[-1])), encoding="utf-8")
    print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
