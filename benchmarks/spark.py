"""What a fit of PRISM costs on Spark with two executors beside the same folder of Parquet files scanned without it.

Rows are those of `larger_than_memory.py`. Executors are processes of this machine (``local-cluster``), each with one
core; CPU seconds and memory are those of all processes of the run, as the operating system counts them.

    python benchmarks/spark.py --rows 1000000 4000000
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from larger_than_memory import make, schema

WAYS = ("spark", "folder")
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Watch(threading.Thread):
    """Notes the CPU seconds and the memory of this process and of all that it started, twice a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.cpu: dict[int, float] = {}
        self.peak = {"driver": 0.0, "Java": 0.0, "Python": 0.0}

    def run(self) -> None:
        """Look until the process ends."""
        while True:
            self.look()
            time.sleep(0.5)

    def look(self) -> None:
        """Read the tables of the operating system."""
        facts, parents = {}, {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "stat").read_text().rpartition(")")[2].split()
                parents[int(folder.name)] = int(words[1])
                facts[int(folder.name)] = (words, (folder / "cmdline").read_text())
            except (OSError, ValueError):
                continue
        now = dict.fromkeys(self.peak, 0.0)
        for pid, (words, command) in facts.items():
            if not _is_ours(pid, parents):
                continue
            self.cpu[pid] = (int(words[11]) + int(words[12])) / TICK
            kind = "driver" if pid == os.getpid() else "Java" if "java" in command.split("\0")[0] else "Python"
            now[kind] += int(words[21]) * PAGE / 2**30
        self.peak = {kind: max(most, now[kind]) for kind, most in self.peak.items()}


def _is_ours(pid: int, parents: dict[int, int]) -> bool:
    while pid > 1 and pid != os.getpid():
        pid = parents.get(pid, 0)
    return pid == os.getpid()


def fit(folder: Path, way: str) -> dict[str, Any]:
    """Fit PRISM in this process and return what it took, the start of Spark apart."""
    from dpsynth import Schema, scan
    from dpsynth import fit as fitted

    watch, facts = Watch(), Schema.parse(schema())
    watch.start()
    if way == "spark":
        from dpsynth.sources.spark_session import session_at

        os.environ |= {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_DIRS": str(folder.parent / "spark")}
        session_at("local-cluster[2,1,2048]").range(10).count()
    began = time.perf_counter()
    watch.look()
    start = sum(watch.cpu.values())
    if way == "spark":
        cohort: Any = scan(f"parquet:{folder}", facts, public=True, spark="local-cluster[2,1,2048]")
    else:
        cohort = scan(folder, facts, public=True)
    fitted(cohort, "prism", epsilon=1.0)
    watch.look()
    return {"wall_s": time.perf_counter() - began, "cpu_s": sum(watch.cpu.values()) - start, **watch.peak}


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
    print("| rows | way | wall s | CPU s | CPU s a million rows | GB: driver | all Java | all Python workers |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "rows"
            folder.mkdir()
            make(folder, rows)
            for way in options.ways:
                command = [sys.executable, __file__, "--one", str(folder), way]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                cost = json.loads(done.stdout.splitlines()[-1])
                seconds = f"{cost['wall_s']:.0f} | {cost['cpu_s']:.0f} | {cost['cpu_s'] / rows * 1e6:.1f}"
                memory = " | ".join(f"{cost[kind]:.1f}" for kind in ("driver", "Java", "Python"))
                print(f"| {rows:,} | {way} | {seconds} | {memory} |", flush=True)


if __name__ == "__main__":
    main()
