"""How fast rows of PostgreSQL are read, beside a plain COPY of the same rows to a file.

A server of the tests' own is started on this machine, with a table of ten columns of usual types. Each way runs several
times in turn, so that a busy machine is busy for all of them; the least time counts.

    python benchmarks/postgres.py --rows 2000000 --times 5
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from sources.postgres_server import running

from dpsynth.schema import Schema
from dpsynth.sources.scanned import scan

TABLE = """
CREATE TABLE visits AS SELECT
    'P' || (i::int8 * 7919 % (n / 3 + 1)) AS id, (i % 97)::smallint AS age, i AS number, random() * 100 AS dose,
    round((random() * 50)::numeric, 2) AS lab, date '2001-01-01' + i % 3000 AS seen,
    timestamp '2001-01-01' + i * interval '1 minute' AS began, (array['a', 'b', 'c'])[i % 3 + 1] AS unit,
    i % 7 = 0 AS died, CASE WHEN i % 10 > 0 THEN i % 4 END AS score
FROM generate_series(1, {rows}) AS i, (SELECT {rows} AS n) AS size
"""
SCHEMA = """
name: visits
confirmed: true
patient: id
max_rows_per_patient: 3
columns:
  id: {type: identifier}
  age: {type: numeric, min: 0, max: 99}
  number: {type: numeric, min: 0, max: 100000000}
  dose: {type: numeric, min: 0, max: 100, decimals: 1}
  lab: {type: numeric, min: 0, max: 50, decimals: 2}
  seen: {type: datetime, min: "2001-01-01", max: "2010-12-31"}
  began: {type: datetime, min: "2001-01-01", max: "2010-12-31"}
  unit: {type: categorical, values: [a, b, c]}
  died: {type: boolean}
  score: {type: categorical, values: [0, 1, 2, 3], missing: true}
"""


def copied(address: str, file: Path, form: str) -> None:
    """Copy the table to a file, as the copy command of psql does."""
    import psycopg

    command = f"COPY visits TO STDOUT (FORMAT {form})"
    with psycopg.connect(address) as connection, connection.cursor().copy(command) as copy, file.open("wb") as out:
        for block in copy:
            out.write(block)


def ways(address: str, folder: Path) -> dict[str, Callable[[], Any]]:
    """Return the ways to read the table."""
    schema = Schema.parse(SCHEMA)

    def read() -> None:
        for _ in scan(f"{address}::visits", schema, public=True).rows.batches(schema):
            pass

    def divided() -> None:
        scan(f"{address}::visits", schema, public=True).parts(3, bytes(32)).close()

    return {
        "COPY to a file, text": lambda: copied(address, folder / "text", "text"),
        "COPY to a file, binary": lambda: copied(address, folder / "binary", "binary"),
        "counted and read as Arrow batches": read,
        "read, typed and divided into parts on disk": divided,
    }


def measured(way: Callable[[], Any]) -> tuple[float, float]:
    """Return the wall and CPU seconds of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    way()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    with running() as server, tempfile.TemporaryDirectory() as folder:
        with server.connect() as connection:
            connection.execute(TABLE.format(rows=options.rows))
            connection.execute("VACUUM ANALYZE visits")
        todo = ways(server.url(), Path(folder))
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in todo}
        for _ in range(options.times):
            for name, way in todo.items():
                taken[name].append(measured(way))
    print("| way | rows a second | rows a CPU second of the reader |\n|---|---|---|")
    for name, times in taken.items():
        wall, cpu = (min(column) for column in zip(*times, strict=True))
        print(f"| {name} | {options.rows / wall:,.0f} | {options.rows / cpu:,.0f} |")


if __name__ == "__main__":
    main()
