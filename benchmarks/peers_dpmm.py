"""Side by side with dpmm (PyPI): MST and AIM on codes that both are given, the same budget, the same figures.

dpmm is run by the Python of its own environment (``--peer-python``; dpmm pins old versions of its dependencies); rows
come back as CSV. Fits alternate between the libraries, each in a process of its own. Results are added to
``<results>/peers_dpmm.csv`` (a row a fit), and ``peers_dpmm.md`` is written from all of them.

Examples
--------
::

    python benchmarks/peers_dpmm.py --data nmes_codes.csv --peer-python peers/bin/python --fits 3
    python benchmarks/peers_dpmm.py --data nmes_codes.csv --peer-python peers/bin/python --peer-models aim
"""

import argparse
import importlib.metadata
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

HERE = Path(__file__).parent
EPSILON, DELTA = 1.0, 1e-6
ROWS = 10_000
MIB = 2**20
OWN = ("mst", "aim", "prism")
KEYS = ["library", "model", "fit"]
FIGURES = [f"{order}-way{which}" for which in ("", ", n rows") for order in (1, 2, 3)]
COLUMNS = [*KEYS, "status", "load", "fit s", "fit + sample s", "CPU s", "peak MiB", *FIGURES, "version", "python"]


def cpu() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    every = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in every)


def peer(job: dict[str, Any]) -> tuple[Any, Any]:
    """Return what fits and what samples with dpmm, on codes and domain sizes as they are given.

    By default dpmm's pipelines spend ``proc_epsilon`` = 0.1 on cutting numeric columns, beside `epsilon`. Here nothing
    is to be cut: with ``disable_processing`` the codes go to the mechanism as they are and `epsilon` is all that is
    spent. Every other option is dpmm's default.
    """
    import pandas as pd
    from dpmm.pipelines import AIMPipeline, MSTPipeline

    frame = pd.read_csv(job["data"])[list(job["sizes"])].astype(int)
    kind = {"mst": MSTPipeline, "aim": AIMPipeline}[job["model"]]
    made = kind(epsilon=EPSILON, delta=DELTA, disable_processing=True, proc_epsilon=None)

    def fit() -> Any:
        made.fit(frame, domain=dict(job["sizes"]), random_state=job["seed"])
        return made

    return fit, lambda fitted, rows: fitted.generate(n_records=rows, random_state=job["seed"])


def own(job: dict[str, Any]) -> tuple[Any, Any]:
    """Return what fits and what samples with dpsynth."""
    import dpsynth

    cohort = dpsynth.Cohort.read(job["data"], dpsynth.Schema.load(job["schema"]), public=True)
    return (
        lambda: dpsynth.fit(cohort, job["model"], epsilon=EPSILON, delta=DELTA),
        lambda fitted, rows: fitted.sample(rows, seed=job["seed"]).to_pandas(),
    )


def work(folder: Path) -> None:
    """Do the job of a folder: fit, sample, write the rows and the seconds. Runs in a process of its own."""
    job = json.loads((folder / "job.json").read_text())
    fit, sample = {"dpmm": peer, "dpsynth": own}[job["library"]](job)
    start, start_cpu = time.perf_counter(), cpu()
    fitted = fit()
    middle = time.perf_counter()
    synthetic = sample(fitted, ROWS)
    figures = {"fit s": middle - start, "fit + sample s": time.perf_counter() - start, "CPU s": cpu() - start_cpu}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    synthetic.to_csv(folder / "many.csv", index=False)
    sample(fitted, job["rows"]).to_csv(folder / "same.csv", index=False)
    figures |= {"peak MiB": peak / MIB, "version": importlib.metadata.version(job["library"])}
    figures |= {"python": platform.python_version()}
    (folder / "figures.json").write_text(json.dumps(figures))


def run(python: str, job: dict[str, Any], minutes: float) -> dict[str, Any]:
    """Run one fit in its own process and return its figures; the child is ended after `minutes`."""
    row: dict[str, Any] = {
        "library": job["library"],
        "model": job["model"],
        "fit": job["seed"],
        "load": os.getloadavg()[0],
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "job.json").write_text(json.dumps(job))
        command = [python, __file__, "--work", name]
        try:
            made = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60 * minutes)
        except subprocess.TimeoutExpired:
            return row | {"status": f"did not finish in {minutes:g} minutes"}
        if made.returncode:
            print(made.stderr)
            return row | {"status": f"failed ({made.returncode})"}
        return row | {"status": "done"} | judged(folder, job["schema"], job["data"])


def judged(folder: Path, schema: str, data: str) -> dict[str, Any]:
    """Return the seconds of a job that is done, and the mean TVD over all marginals of 1, 2 and 3 columns."""
    from quality import distances

    from dpsynth import Cohort, Schema
    from dpsynth.evaluation.arrays.table import tables

    facts = Schema.load(schema)
    real = Cohort.read(data, facts, public=True)
    figures = json.loads((folder / "figures.json").read_text())
    for name, title in (("many", ""), ("same", ", n rows")):
        other = Cohort.read(folder / f"{name}.csv", facts, synthetic=True)
        found = tables({"reference": real, "other": other})
        each = distances(found["reference"], found["other"], "public")
        figures |= {f"{order}{title}": value for order, value in each.items()}
    return figures


def kept(path: Path, new: dict[str, Any]) -> Any:
    """Add a row to a CSV in place of an earlier one with the same keys, and return all of it."""
    import pandas as pd

    frame = pd.DataFrame([new], columns=COLUMNS)
    if path.exists():
        frame = pd.concat([pd.read_csv(path), frame])
    frame = frame.drop_duplicates(KEYS, keep="last").sort_values(KEYS, kind="stable")
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False, float_format="%.6g")
    return frame


def line(library: str, model: str, rows: Any) -> str:
    """Return a row of the table of figures."""
    from quality import cell

    done = rows[rows["status"] == "done"]
    if done.empty:
        return f"| {library} {model} | 0 | {rows['status'].iloc[-1]} |" + " |" * (2 + len(FIGURES))
    cells = [cell(done[name], 1) for name in ("fit + sample s", "CPU s")] + [f"{done['peak MiB'].max():,.0f}"]
    cells += [cell(done[name], 4) for name in FIGURES]
    return f"| {library} {model} | {len(done)} | " + " | ".join(cells) + " |"


def ratios(frame: Any) -> list[str]:
    """Return the table of dpmm's means over ours, each of its mechanisms beside the same of ours and PRISM."""
    means = frame[frame["status"] == "done"].groupby(["library", "model"]).mean(numeric_only=True)
    lines = []
    for theirs in ("mst", "aim"):
        for ours in (theirs, "prism"):
            if ("dpmm", theirs) in means.index and ("dpsynth", ours) in means.index:
                each = means.loc[("dpmm", theirs)] / means.loc[("dpsynth", ours)]
                cells = [f"{each['CPU s']:,.0f}"]
                cells += [f"{each[name]:.2f}" for name in FIGURES]
                lines.append(f"| dpmm {theirs} : dpsynth {ours} | " + " | ".join(cells) + " |")
    return lines


def page(frame: Any) -> str:
    """Return the whole Markdown file."""
    done = frame[frame["status"] == "done"]
    names = (done["library"] + " " + done["version"] + " (Python " + done["python"] + ")").unique()
    threads = os.environ.get("OPENBLAS_NUM_THREADS", "default")
    head = [
        "# Side by side with dpmm",
        "",
        f"By `benchmarks/peers_dpmm.py`: {', '.join(names)}.",
        f"NMES codes (19 columns), ε = {EPSILON:g}, δ = {DELTA:g}; a machine with {os.cpu_count()} shared CPU cores",
        f"({platform.machine()}), BLAS threads: {threads}; fits of both libraries in one session, each in a fresh",
        f"process. Seconds are of fit and {ROWS:,} sampled rows, without reading; dpmm is imported before the clock",
        "starts, dpsynth loads most of what it needs when it is first used, so its seconds hold that too. Others used",
        "the machine at the same time, which stretches long fits most: compare the CPU seconds, not the wall clock.",
        "Mean (least–most) over fits; noise of the operating system in both.",  # noqa: RUF001  (a range's dash)
        f"TVD: mean over all marginals of 1, 2 and 3 columns between {ROWS:,} synthetic rows (*n rows*: as many as",
        "there are real ones) and the real rows; the same code judges both.",
        "",
        "Both get the same integer codes and the number of codes of each column from the public schema. dpmm's",
        "pipelines by default spend 0.1 more than the ε that is asked (`proc_epsilon`, for cutting numeric columns);",
        "here nothing is cut, the step is switched off (`disable_processing=True`), so that both spend the same ε.",
        "Every other option of dpmm is its default. Two differences stay: dpsynth is told the number of rows, a",
        "public fact in the schema, where dpmm estimates it; dpsynth accounts by the Gaussian curve, dpmm by zCDP.",
        "",
        "| | fits | fit + sample, s | of it CPU, s | peak, MiB | " + " | ".join(FIGURES) + " |",
        "|---" * (5 + len(FIGURES)) + "|",
    ]
    order = [("dpmm", name) for name in ("mst", "aim")] + [("dpsynth", name) for name in OWN]
    body = [
        line(*key, frame[(frame["library"] == key[0]) & (frame["model"] == key[1])])
        for key in order
        if ((frame["library"] == key[0]) & (frame["model"] == key[1])).any()
    ]
    tail = [
        "",
        "dpmm's mean divided by ours (above 1: ours is faster, or closer):",
        "",
        "| | CPU seconds | " + " | ".join(FIGURES) + " |",
        "|---" * (2 + len(FIGURES)) + "|",
    ]
    return "\n".join(head + body + tail + ratios(frame)) + "\n"


def jobs(asked: argparse.Namespace) -> list[tuple[str, dict[str, Any]]]:
    """Return each fit's Python and job, in the order in which they are run: ours, theirs, ours, theirs."""
    from dpsynth import Schema
    from dpsynth.coding.codec import Codec

    path = HERE / "schemas" / "nmes_codes.yaml"
    schema = Schema.load(path)
    job = {"data": str(asked.data.resolve()), "schema": str(path), "rows": schema.rows}
    job["sizes"] = {name: code.size for name, code in Codec(schema).columns.items()}
    found = []
    for seed in range(asked.first, asked.first + asked.fits):
        for theirs in asked.peer_models:
            found += [(sys.executable, job | {"library": "dpsynth", "model": m, "seed": seed}) for m in asked.models]
            found.append((asked.peer_python, job | {"library": "dpmm", "model": theirs, "seed": seed}))
    return found


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CSV of the NMES codes")
    parser.add_argument("--peer-python", required=True, help="Python of the environment that has dpmm")
    parser.add_argument("--peer-models", nargs="*", choices=["mst", "aim"], default=["mst", "aim"])
    parser.add_argument("--models", nargs="*", choices=OWN, default=list(OWN), help="of ours, before each of theirs")
    parser.add_argument("--fits", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first fit; a number met again is replaced")
    parser.add_argument("--minutes", type=float, default=60, help="after which a fit is given up")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    return parser.parse_args()


def main() -> None:
    """Run the fits; the files are brought up to date after each."""
    asked = arguments()
    path = asked.results / "peers_dpmm.csv"
    for python, job in jobs(asked):
        row = run(python, job, asked.minutes)
        path.with_suffix(".md").write_text(page(kept(path, row)), encoding="utf-8")
        print({name: value for name, value in row.items() if value is not None}, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(Path(sys.argv[2]))
    else:
        main()
