"""How long an evaluation takes and how much memory: 10,000 x 40 and 1,000,000 x 40, from files to report.

The command line in a process of its own: ``dpsynth evaluate`` reads real and synthetic rows from Parquet, judges them
and writes the page. Both tables are SUPPORT2 resampled, see `scale.py`; each with its own draw of patients. Results are
written to ``<results>/evaluation.csv`` and ``evaluation.md``.

Examples
--------
::

    python benchmarks/evaluation.py
    python benchmarks/evaluation.py --rows 10000 --repeat 3
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
from scale import resampled

COLUMNS = 40
SECONDS = {10_000: 60, 1_000_000: 300}
MIB = 2**20


def prepare(rows: int, folder: Path) -> None:
    """Write real rows, made-up rows and their schema."""
    real = resampled(rows, COLUMNS, seed=0)
    real.write(folder / "real.parquet")
    real.schema.dump(folder / "schema.yaml")
    resampled(rows, COLUMNS, seed=1).write(folder / "synthetic.parquet")


def measured(folder: Path) -> dict[str, float]:
    """Evaluate once and return seconds and peak memory. Runs in its own process."""
    from dpsynth.cli.app import app

    files = ["--real", folder / "real.parquet", "--synthetic", folder / "synthetic.parquet"]
    files += ["--schema", folder / "schema.yaml", "--out", folder / "report.html", "--force"]
    start = time.perf_counter()
    app([str(one) for one in ("evaluate", *files)], standalone_mode=False)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    size = (folder / "report.html").stat().st_size
    return {"seconds": seconds, "CPU s": time.process_time(), "peak MiB": peak / MIB, "page KiB": size / 1024}


def counted(folder: Path) -> dict[str, Any]:
    """Return on how many rows the results of the last report stand, by kind."""
    results = json.loads((folder / "report.json").read_text(encoding="utf-8"))["results"]
    found = {one["metric"]: one for one in reversed(results) if one["value"] is not None}
    return {
        "tables": found["tvd_2way"]["detail"]["rows"],
        "pairs": found["tvd_2way"]["n"],
        "training": found["auroc"]["detail"]["trained_rows"],
        "test": found["auroc"]["n"],
    }


def job(rows: int, folder: Path) -> dict[str, Any]:
    """Run one evaluation in its own process and return its figures."""
    load = os.getloadavg()[0]
    command = [sys.executable, __file__, "--job", str(folder)]
    made = subprocess.run(command, check=False, capture_output=True, text=True)
    if made.returncode:
        raise SystemExit(made.stderr)
    facts = json.loads(made.stdout.splitlines()[-1])
    return {"rows": rows, "load": load, **facts, **counted(folder)}


def page(rows: list[dict[Any, Any]]) -> str:
    """Return the Markdown file."""
    names = ("rows", "seconds", "target, s", "runs", "CPU, s", "load", "peak, MiB", "page, KiB")
    parts = ("rows of each table of counts", "pairs of columns", "training rows", "test rows")
    lines = [
        "# Time of an evaluation",
        "",
        f"By `benchmarks/evaluation.py`: `dpsynth evaluate` of {COLUMNS} columns from Parquet to the written page, a",
        f"process each, fastest of *runs*; {os.cpu_count()} CPU cores ({platform.machine()}), Python",
        f"{platform.python_version()}, BLAS threads: {os.environ.get('OPENBLAS_NUM_THREADS', 'default')}. *load*: of",
        "the machine at the start; above 1 others were using it too. The patients of a large cohort are subsampled, as",
        "the page says: what the numbers stand on is in the last four columns.",
        "",
        f"| {' | '.join((*names, *parts))} |",
        "|---" * (len(names) + len(parts)) + "|",
    ]
    for row in rows:
        target = SECONDS.get(int(row["rows"]))
        verdict = "" if target is None else f"< {target}: {'met' if row['seconds'] < target else 'missed'}"
        if verdict.endswith("missed") and row["load"] > (os.cpu_count() or 1):
            verdict += f" at load {row['load']:.1f}"
        size = f"{row['rows']:,.0f} x {COLUMNS}"
        facts = [size, f"{row['seconds']:.1f}", verdict, f"{row['runs']:.0f}", f"{row['CPU s']:.1f}"]
        facts += [f"{row['load']:.1f}", f"{row['peak MiB']:,.0f}", f"{row['page KiB']:,.0f}"]
        facts += [f"{row[name]:,.0f}" for name in ("tables", "pairs", "training", "test")]
        lines.append(f"| {' | '.join(facts)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the sizes, or, as a child process, one evaluation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", type=int, default=list(SECONDS))
    parser.add_argument("--repeat", type=int, default=1, help="runs of each, of which the fastest is shown")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.job:
        print(json.dumps(measured(asked.job)))
        return
    path = asked.results / "evaluation.csv"
    for rows in asked.rows:
        with tempfile.TemporaryDirectory() as folder:
            prepare(rows, Path(folder))
            runs = [job(rows, Path(folder)) for _ in range(asked.repeat)]
        fastest = min(runs, key=lambda row: float(row["seconds"])) | {"runs": asked.repeat}
        there = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=list(fastest))
        table = pd.DataFrame([*there[there["rows"] != rows].to_dict("records"), fastest]).sort_values("rows")
        table.to_csv(path, index=False, float_format="%.6g")
        path.with_suffix(".md").write_text(page(table.to_dict("records")), encoding="utf-8")
        print(fastest)


if __name__ == "__main__":
    main()
