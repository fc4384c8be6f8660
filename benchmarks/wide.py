"""What a release of a wide table costs: 10,000 rows of 100 and of 300 columns, from Parquet to the written release.

Columns are those of SUPPORT2 in blocks of 30, as in `scale.py`: they depend on each other within a block. Each release
is a run of the command line in a process of its own, whose time and peak memory are the operating system's. Results
are written to ``<results>/wide.csv`` and ``wide.md``.

    python benchmarks/wide.py --columns 100 300 --epsilon 1 10
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
from scale import resampled

HERE = Path(__file__).parent
ROWS = 10_000
TARGET = 300
"""Seconds that a release of 300 columns may take."""


def release(folder: Path, epsilon: float, holdout: float | None) -> dict[str, float]:
    """Release the table of a folder and return what it took."""
    command = [sys.executable, "-m", "dpsynth", "release", "table.parquet", "-s", "schema.yaml", "-e", f"{epsilon:g}"]
    command += ["--out", f"out-{epsilon:g}-{holdout}", "--limit", "100", "--anyway"]
    command += [] if holdout is None else ["--holdout", f"{holdout:g}"]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": wall, "cpu_s": cpu, "peak_gb": after.ru_maxrss / 2**20}


def page(rows: pd.DataFrame) -> str:
    """Return the Markdown file."""
    lines = [
        "# Wide tables",
        "",
        f"By `benchmarks/wide.py`: PRISM, {ROWS:,} rows, `dpsynth release` from Parquet to the written release in a",
        "process of its own. *held out*: that share of the patients; the release is judged by them and by the others.",
        f"*load*: of the machine of {os.cpu_count()} cores when the run began; where it is above that number, **CPU",
        "seconds are what to compare**, and wall seconds are an upper bound. *peak*: the largest process so far.",
        "",
        "| columns | ε | held out | wall s | CPU s | peak GB | load | target |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows.itertuples():
        verdict = "met" if row.wall_s <= TARGET else f"missed at load {row.load:.0f}; CPU {row.cpu_s:.0f} s"
        target = "" if row.columns < 300 else f"≤ {TARGET} s: {verdict}"
        lines.append(
            f"| {row.columns} | {row.epsilon:g} | {row.held_out:g} | {row.wall_s:.0f} | {row.cpu_s:.0f} | "
            f"{row.peak_gb:.1f} | {row.load:.1f} | {target} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the releases and write the results after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--columns", type=int, nargs="+", default=[100, 300])
    parser.add_argument("--epsilon", type=float, nargs="+", default=[1.0, 10.0])
    parser.add_argument("--holdout", type=float, nargs="+", default=[0.0, 0.2])
    parser.add_argument("--results", type=Path, default=HERE / "results")
    asked = parser.parse_args()
    done: list[dict[str, Any]] = []
    for columns in asked.columns:
        with tempfile.TemporaryDirectory() as folder:
            cohort = resampled(ROWS, columns)
            cohort.write(Path(folder) / "table.parquet")
            cohort.schema.model_copy(update={"confirmed": True}).dump(Path(folder) / "schema.yaml")
            for epsilon in asked.epsilon:
                for holdout in asked.holdout:
                    facts = {"columns": columns, "epsilon": epsilon, "held_out": holdout, "load": os.getloadavg()[0]}
                    done.append(facts | release(Path(folder), epsilon, holdout or None))
                    print(done[-1], flush=True)
                    frame = pd.DataFrame(done)
                    frame.to_csv(asked.results / "wide.csv", index=False, float_format="%.4g")
                    (asked.results / "wide.md").write_text(page(frame), encoding="utf-8")


if __name__ == "__main__":
    main()
