"""How long a release takes and how much memory: SUPPORT2 as it is, a million patients, a hundred columns.

Every fit runs in a process of its own, whose greatest resident memory is the figure shown. Large tables are SUPPORT2
resampled: blocks of its columns, each from its own draw of patients, under new names. Results are written to
``<results>/scale.csv`` and ``scale.md``.

Examples
--------
::

    python benchmarks/scale.py
    python benchmarks/scale.py --cases support2 --models prism mst
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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

HERE = Path(__file__).parent
EPSILON, DELTA = 1.0, 1e-6
ROWS = 10_000
MIB = 2**20


@dataclass(frozen=True)
class Case:
    """A table size and what is asked of it.

    Parameters
    ----------
    title : str
        For the table.
    rows, columns : int or None
        Size of the resampled table; None for SUPPORT2 as it is.
    models : tuple of str
        Models that are run.
    seconds : dict of str to float
        Target of the whole run in seconds, by model.
    """

    title: str
    rows: int | None
    columns: int | None
    models: tuple[str, ...]
    seconds: dict[str, float]


CASES = {
    "support2": Case(
        "SUPPORT2 (9,105 x 30), fit + 10,000 rows",
        None,
        None,
        ("independent", "mst", "aim", "prism"),
        {"prism": 10, "mst": 5, "aim": 30},
    ),
    "long": Case("1,000,000 x 50, Parquet to release", 1_000_000, 50, ("prism", "mst"), {"prism": 300, "mst": 300}),
    "wide": Case("10,000 x 100, Parquet to release", 10_000, 100, ("prism", "mst"), {}),
}


def resampled(rows: int, columns: int, seed: int = 0) -> Any:
    """Return a cohort like SUPPORT2 of any size.

    Columns come in blocks of those of SUPPORT2, each block from its own draw of patients with replacement, so that
    columns depend on each other within a block as in the real table and not at all between blocks.
    """
    from dpsynth import Cohort
    from dpsynth.datasets import load_support2

    source = load_support2()
    schema, rng = source.schema, np.random.default_rng(seed)
    arrays: dict[str, Any] = {schema.patient or "patient": pa.array(np.arange(rows))}
    specs = {schema.patient or "patient": {"type": "identifier"}}
    place, given = 0, schema.model_dump(mode="json", exclude_unset=True)
    while len(arrays) <= columns:
        if place % len(schema.modelled) == 0:
            drawn = pa.array(rng.integers(0, len(source), rows))
        name = schema.modelled[place % len(schema.modelled)]
        block = place // len(schema.modelled)
        fresh = f"{name} {block + 1}" if block else name
        arrays[fresh], specs[fresh] = source.table[name].take(drawn), given["columns"][name]
        place += 1
    made = type(schema).parse(given | {"columns": specs, "rows": None, "drop": []})
    return Cohort(made, pa.table(arrays), public=True)


def prepare(case: Case, folder: Path) -> None:
    """Write the case's table and schema, where it has its own."""
    if case.rows is not None and case.columns is not None:
        cohort = resampled(case.rows, case.columns)
        cohort.write(folder / "table.parquet")
        cohort.schema.dump(folder / "schema.yaml")


def measured(model: str, folder: Path) -> dict[str, float]:
    """Read, fit and release; return seconds by phase and the peak memory. Runs in its own process."""
    import dpsynth
    from dpsynth.datasets import load_support2

    own = (folder / "table.parquet").exists()
    times = [time.perf_counter()]
    if own:
        schema = dpsynth.Schema.load(folder / "schema.yaml")
        cohort = dpsynth.Cohort.read(folder / "table.parquet", schema, public=True)
    else:
        cohort = load_support2()
    times.append(time.perf_counter())
    learned = dpsynth.fit(cohort, model, epsilon=EPSILON, delta=DELTA)
    times.append(time.perf_counter())
    if own:
        dpsynth.release(learned, folder / f"release_{model}_{os.getpid()}", rows=ROWS)
    else:
        learned.sample(ROWS)
    times.append(time.perf_counter())
    read, fit, after = np.diff(times)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    spent = {"CPU s": time.process_time(), "peak MiB": peak / MIB}
    return {"read s": read, "fit s": fit, "sample or release s": after, **spent}


def job(case: str, model: str, folder: Path) -> dict[str, Any]:
    """Run one fit in its own process and return its figures with the time that the process took."""
    command = [sys.executable, __file__, "--job", model, "--folder", str(folder)]
    start, load = time.perf_counter(), os.getloadavg()[0]
    made = subprocess.run(command, check=False, capture_output=True, text=True)
    whole = time.perf_counter() - start
    row = {"case": case, "model": model, "process s": whole, "load": load, "status": "done"}
    if made.returncode:
        print(made.stderr)
        return row | {"status": f"failed ({made.returncode})"}
    return row | json.loads(made.stdout)


def fastest(case: str, model: str, folder: Path, repeat: int) -> dict[str, Any]:
    """Run a job several times and return the fastest that was done: what else the machine did only adds time."""
    runs = [job(case, model, folder) for _ in range(repeat)]
    return min(runs, key=lambda row: (row["status"] != "done", row["process s"])) | {"runs": repeat}


def line(row: dict[str, Any]) -> str:
    """Return a row of the Markdown table; the target is compared with fit and sample, or with the whole process."""
    target = CASES[row["case"]].seconds.get(row["model"])
    if row["status"] != "done":
        return f"| {row['model']} | {row['status']} after {row['process s']:.0f} s |" + " |" * 8
    whole = row["fit s"] + row["sample or release s"] if row["case"] == "support2" else row["process s"]
    verdict = "" if target is None else f"≤ {target:g}: {'met' if whole <= target else 'missed'}"
    if verdict.endswith("missed") and row["load"] > (os.cpu_count() or 1):
        verdict += f" at load {row['load']:.1f}"
    seconds = [f"{row[name]:.1f}" for name in ("read s", "fit s", "sample or release s")]
    rest = [f"{row.get('runs', 1):.0f}", f"{row['CPU s']:.1f}", f"{row['load']:.1f}", f"{row['peak MiB']:,.0f}"]
    return f"| {row['model']} | " + " | ".join([*seconds, f"{whole:.1f}", verdict, *rest]) + " |"


def page(rows: Sequence[dict[str, Any]]) -> str:
    """Return the Markdown file."""
    lines = [
        "# Time and memory",
        "",
        f"By `benchmarks/scale.py`: ε = {EPSILON:g}, δ = {DELTA:g}, noise of the operating system, a process each,",
        f"fastest of *runs*; {os.cpu_count()} CPU cores ({platform.machine()}), Python {platform.python_version()},",
        f"BLAS threads: {os.environ.get('OPENBLAS_NUM_THREADS', 'default')}. *whole*: fit and sample on SUPPORT2, else",
        "the process from its start to the written release of 10,000 rows. *CPU*: of the process with all imports.",
        "*load*: of the machine at the start; above 1 others were using it too. *peak*: greatest resident memory.",
    ]
    for name, case in CASES.items():
        mine = [line(row) for row in rows if row["case"] == name]
        if mine:
            names = ["model", "read, s", "fit, s", "sample or release, s", "whole, s", "target, s"]
            head = "| " + " | ".join([*names, "runs", "CPU, s", "load", "peak, MiB"]) + " |"
            lines += ["", f"## {case.title}", "", head, "|---" * 10 + "|", *mine]
    return "\n".join(lines) + "\n"


def kept(path: Path, new: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add rows to a CSV in place of earlier ones of the same case and model, and return all of it."""
    frame = pd.DataFrame(list(new))
    if path.exists():
        frame = pd.concat([pd.read_csv(path), frame])
    frame = frame.fillna({"runs": 1}).drop_duplicates(["case", "model"], keep="last").sort_values(["case", "model"])
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False, float_format="%.6g")
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--models", nargs="+", help="default: those of each case")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each, of which the fastest is shown")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run the cases, or, as a child process, one fit."""
    asked = arguments()
    if asked.job:
        print(json.dumps(measured(asked.job, asked.folder)))
        return
    path = asked.results / "scale.csv"
    for name in asked.cases:
        with tempfile.TemporaryDirectory() as folder:
            prepare(CASES[name], Path(folder))
            for model in asked.models or CASES[name].models:
                rows = kept(path, [fastest(name, model, Path(folder), asked.repeat)])
                path.with_suffix(".md").write_text(page(rows), encoding="utf-8")
                print(name, model, rows[-1]["status"])


if __name__ == "__main__":
    main()
