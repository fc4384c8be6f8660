"""What a fit of PRISM costs from a folder of Parquet files beside the same rows in memory.

Rows are made up from independent columns, which costs little; how well they are learned is not the question here. Each
fit runs in a process of its own, whose time and peak memory are the operating system's.

    python benchmarks/larger_than_memory.py --rows 1000000 4000000
"""

import argparse
import json
import resource
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


def fit(folder: Path, way: str) -> dict[str, float]:
    """Fit PRISM in this process and return what it took."""
    from dpsynth import Cohort, Schema, scan
    from dpsynth import fit as fitted

    began, facts = time.perf_counter(), Schema.parse(schema())
    if way == "folder":
        cohort: Any = scan(folder, facts, public=True)
    else:
        cohort = Cohort.read(folder.with_suffix(".parquet"), facts, public=True)
    fitted(cohort, "prism", epsilon=1.0)
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "wall_s": time.perf_counter() - began,
        "cpu_s": after.ru_utime + after.ru_stime,
        "peak_gb": after.ru_maxrss / 2**20,
    }


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--one", nargs=2, metavar=("FOLDER", "WAY"), help="used by itself: one fit in this process")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(fit(Path(options.one[0]), options.one[1])))
        return
    print("| rows | patients are in | wall s | CPU s | s a million rows | peak memory GB |")
    print("|---|---|---|---|---|---|", flush=True)
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "rows"
            folder.mkdir()
            make(folder, rows)
            for way in options.ways:
                command = [sys.executable, __file__, "--one", str(folder), way]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                cost = json.loads(done.stdout)
                print(
                    f"| {rows:,} | {way} | {cost['wall_s']:.0f} | {cost['cpu_s']:.0f} | "
                    f"{cost['wall_s'] / rows * 1e6:.1f} | {cost['peak_gb']:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
