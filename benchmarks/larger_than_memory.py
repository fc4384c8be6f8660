"""What a fit and a release of PRISM cost from a folder of Parquet files beside the same rows in memory.

Rows are made up from independent columns, which costs little; how well they are learned is not the question here. As
many rows are released as were read. Each run is a process of its own, whose time and peak memory are the operating
system's.

    python benchmarks/larger_than_memory.py --rows 1000000 4000000
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = 50
FILE_ROWS = 250_000
WAYS = ("folder", "memory")


def schema() -> dict[str, Any]:
    """Return the schema: 20 numbers, 20 lists of categories and 9 dates or booleans of patients with one row each."""
    columns: dict[str, Any] = {"patient": {"type": "identifier"}}
    columns |= {f"n{i}": {"type": "numeric", "min": 0, "max": 100, "decimals": 1} for i in range(20)}
    columns |= {f"c{i}": {"type": "categorical", "values": [f"v{j}" for j in range(3 + i % 8)]} for i in range(20)}
    columns |= {f"b{i}": {"type": "boolean"} for i in range(9)}
    return {"name": "made up", "confirmed": True, "patient": "patient", "columns": columns}


def make(folder: Path, rows: int) -> None:
    """Write rows of independent columns as files of 250,000 rows, and the same rows as one file beside the folder."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng, whole = np.random.default_rng(rows), None
    for start in range(0, rows, FILE_ROWS):
        n = min(FILE_ROWS, rows - start)
        table: dict[str, Any] = {"patient": [f"P{i:09}" for i in range(start, start + n)]}
        table |= {f"n{i}": np.round(100 * rng.beta(2, 2 + i, n), 1) for i in range(20)}
        for i in range(20):
            values = pa.array([f"v{j}" for j in range(3 + i % 8)])
            table[f"c{i}"] = values.take(pa.array(rng.integers(0, 3 + i % 8, n) * rng.integers(0, 2, n)))
        table |= {f"b{i}": rng.random(n) < (i + 1) / 10 for i in range(9)}
        piece = pa.table(table)
        pq.write_table(piece, folder / f"rows-{start // FILE_ROWS:04}.parquet")
        whole = whole or pq.ParquetWriter(folder.with_suffix(".parquet"), piece.schema)
        whole.write_table(piece)
    if whole is not None:
        whole.close()


def run(folder: Path, way: str) -> dict[str, float]:
    """Fit PRISM in this process, release as many rows, and return what each took."""
    from dpsynth import Cohort, Schema, fit, release

    began, facts = time.perf_counter(), Schema.parse(schema())
    if way == "folder":
        cohort: Any = Cohort.scan(folder, facts, public=True)
    else:
        cohort = Cohort.read(folder.with_suffix(".parquet"), facts, public=True)
    model = fit(cohort, "prism", epsilon=1.0)
    del cohort
    fitted = {"fit_wall_s": time.perf_counter() - began, "fit_cpu_s": time.process_time(), "fit_peak_gb": peak()}
    release(model, folder.with_name(f"release of {way}"))
    return {
        **fitted,
        "wall_s": time.perf_counter() - began,
        "cpu_s": time.process_time(),
        "peak_gb": peak(),
    }


def peak() -> float:
    """Return the most memory that this process has held, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--one", nargs=2, metavar=("FOLDER", "WAY"), help="used by itself: one run in this process")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run(Path(options.one[0]), options.one[1])))
        return
    print("| rows | patients are in | fit: wall s | CPU s | peak GB | with the release: wall s | CPU s | peak GB |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "rows"
            folder.mkdir()
            make(folder, rows)
            for way in options.ways:
                command = [sys.executable, __file__, "--one", str(folder), way]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                cost = json.loads(done.stdout)
                numbers = [
                    f"{cost[kind + name]:.{digits}f}"
                    for kind in ("fit_", "")
                    for name, digits in (("wall_s", 0), ("cpu_s", 0), ("peak_gb", 1))
                ]
                print(f"| {rows:,} | {way} | {' | '.join(numbers)} |", flush=True)
                shutil.rmtree(folder.with_name(f"release of {way}"))


if __name__ == "__main__":
    main()
