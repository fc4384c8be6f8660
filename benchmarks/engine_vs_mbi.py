"""Our inference engine beside PyPI `mbi` (Private-PGM) on the same noisy marginals: time, loss and agreement.

NMES codes at epsilon 1: all columns and the pairs of a tree, and of a wider graph; and a made-up tree of 50 columns.
Both engines minimise the weighted squared error of the measured marginals; ours with a slack of one noise variance.
mbi runs in its own environment.

Examples
--------
::

    python benchmarks/engine_vs_mbi.py --data nmes_codes.csv --peer-python peers/bin/python
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
ITERATIONS = (250, 1000, 4000)
FIRST = 50  # mbi compiles for so many steps at a time


def nmes(data: Path) -> Any:
    """Return the NMES codes, (rows, columns)."""
    import pandas as pd

    return pd.read_csv(data).to_numpy()


def made_up(columns: int, rows: int) -> Any:
    """Return codes of a random tree: each column depends on one before it; 2 to 12 codes a column."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(2, 13, columns)
    codes = np.zeros((rows, columns), dtype=np.int64)
    for j in range(columns):
        given = codes[:, int(rng.integers(j))] if j else codes[:, 0]
        chances = rng.dirichlet(np.full(sizes[j], 0.5), int(given.max()) + 1).cumsum(axis=1)
        codes[:, j] = np.minimum((rng.random((rows, 1)) > chances[given]).sum(axis=1), sizes[j] - 1)
    return codes


def problem(codes: Any, extra: int) -> dict[str, Any]:
    """Return noisy one-way and pair counts: a spanning tree of the most dependent pairs and `extra` pairs more."""
    from dpsynth.privacy.spending.accounting import rho_for
    from dpsynth.privacy.spending.budget import Budget

    names = range(codes.shape[1])
    sizes = [int(column.max()) + 1 for column in codes.T]
    tables = {p: _count(codes, sizes, p) for p in itertools.combinations(names, 2)}
    strength = {p: np.abs(t - np.outer(t.sum(1), t.sum(0)) / len(codes)).sum() for p, t in tables.items()}
    ranked = sorted(tables, key=strength.__getitem__, reverse=True)
    pairs = _tree(ranked, len(names))
    pairs += [p for p in ranked if p not in pairs][:extra]
    rho, rng = rho_for(Budget(1.0, 1e-6), "gaussian"), np.random.default_rng(0)
    cliques = [(i,) for i in range(len(names))] + pairs
    prices = [rho / 3 / len(names)] * len(names) + [rho * 2 / 3 / len(pairs)] * len(pairs)
    sigmas = [float(1 / np.sqrt(2 * price)) for price in prices]
    noisy = [_count(codes, sizes, c) for c in cliques]
    noisy = [t + rng.normal(0, s, t.shape) for t, s in zip(noisy, sigmas, strict=True)]
    return {"rows": len(codes), "sizes": sizes, "cliques": cliques, "sigmas": sigmas, "tables": noisy}


def _count(codes: Any, sizes: list[int], columns: tuple[int, ...]) -> Any:
    shape = [sizes[i] for i in columns]
    cells = np.ravel_multi_index(codes[:, list(columns)].T, shape)
    return np.bincount(cells, minlength=int(np.prod(shape))).reshape(shape).astype(float)


def _tree(ranked: list[tuple[int, int]], columns: int) -> list[tuple[int, int]]:
    part, tree = list(range(columns)), []
    for a, b in ranked:
        if part[a] != part[b]:
            tree.append((a, b))
            part = [part[a] if p == part[b] else p for p in part]
    return tree


def loss(made: list[Any], task: dict[str, Any]) -> float:
    """Return half the squared error of the measured tables, in noise units."""
    pairs = zip(made, task["tables"], task["sigmas"], strict=True)
    return float(sum(0.5 * (((m - t) / s) ** 2).sum() for m, t, s in pairs))


def ours(task: dict[str, Any]) -> tuple[float, list[Any], str]:
    """Return the seconds of our fit, the tables of its model, in rows, and what it had to do."""
    from dpsynth.models.tabular.graphical.estimation import Measurement, estimate
    from dpsynth.models.tabular.graphical.model import GraphicalModel

    rows, domain = task["rows"], {str(i): size for i, size in enumerate(task["sizes"])}
    cliques = [tuple(map(str, c)) for c in task["cliques"]]
    measured = [
        Measurement(c, t / rows, (s / rows) ** 2)
        for c, t, s in zip(cliques, task["tables"], task["sigmas"], strict=True)
    ]
    start = time.perf_counter()
    fit = estimate(domain, measured)
    seconds = time.perf_counter() - start
    model = GraphicalModel(fit.tree, fit.beliefs)
    largest = max(int(np.prod([domain[c] for c in clique])) for clique in fit.tree.cliques)
    work = f"{fit.steps} steps; {len(cliques)} tables, {fit.tree.cells:,} cells, largest clique {largest:,}"
    return seconds, [rows * model.marginal(c) for c in cliques], work


def as_peer(folder: Path) -> None:
    """Run mbi on the task in `folder`, in mbi's own environment; writes its tables beside it."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import mbi

    task = _read(folder / "task.npz")
    domain = mbi.Domain([str(i) for i in range(len(task["sizes"]))], task["sizes"])
    cliques = [tuple(map(str, c)) for c in task["cliques"]]
    measured = [
        mbi.LinearMeasurement(t.ravel(), c, s) for c, t, s in zip(cliques, task["tables"], task["sigmas"], strict=True)
    ]
    for iterations in (FIRST, *ITERATIONS):
        start = time.perf_counter()
        model = mbi.estimation.MirrorDescent().estimate(
            domain, measured, known_total=float(task["rows"]), iters=iterations
        )
        made = [np.asarray(model.project(c).datavector(flatten=False)) for c in cliques]
        np.savez(folder / f"{iterations}.npz", seconds=time.perf_counter() - start, **_named(made))


def _named(tables: list[Any]) -> dict[str, Any]:
    return {f"t{i}": table for i, table in enumerate(tables)}


def _read(path: Path) -> dict[str, Any]:
    file = np.load(path)
    facts = json.loads(str(file["facts"]))
    facts["cliques"] = [tuple(c) for c in facts["cliques"]]
    return facts | {"tables": [file[f"t{i}"] for i in range(len(facts["cliques"]))]}


def compare(name: str, task: dict[str, Any], peer: str) -> list[str]:
    """Return the table's rows for one problem."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        facts = json.dumps({k: task[k] for k in ("rows", "sizes", "cliques", "sigmas")})
        np.savez(folder / "task.npz", facts=facts, **_named(task["tables"]))
        seconds, own, work = ours(task)
        rows = [f"| {name} | dpsynth, {work} | {seconds:.2f} | {loss(own, task):.2f} | |"]
        subprocess.run([peer, __file__, "--as-peer", str(folder)], check=True)
        for iterations in (FIRST, *ITERATIONS):
            file = np.load(folder / f"{iterations}.npz")
            made = [file[f"t{i}"] for i in range(len(own))]
            apart = max(0.5 * np.abs(a - b).sum() / task["rows"] for a, b in zip(own, made, strict=True))
            took = float(file["seconds"])
            what = f"{iterations} steps{' and compilation' if iterations == FIRST else ''}"
            rows.append(f"| {name} | mbi, {what} | {took:.2f} | {loss(made, task):.2f} | {apart:.4f} |")
    return rows


def main() -> None:
    """Compare on both problems and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--peer-python")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--as-peer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_peer:
        as_peer(options.as_peer)
        return
    if options.data is None or options.peer_python is None:
        sys.exit("--data and --peer-python are needed")
    lines = [
        "# Inference engine beside mbi",
        "",
        "By `benchmarks/engine_vs_mbi.py`: NMES codes (19 columns) and a made-up tree of 50 columns and 10,000 rows,",
        "epsilon 1, the same noisy counts for both; one run each on two shared cores, one BLAS thread. Loss: half the",
        "squared error in noise units. mbi 2.0: mirror descent, its recommended method, float64; the first call",
        "compiles, later ones of the same shape need not, while a mechanism that adds a table between fits compiles",
        "anew. Apart: greatest total variation between a measured table of ours and of theirs.",
        "",
        "| problem | engine | seconds | loss | apart |",
        "|---|---|---|---|---|",
    ]
    codes, tree = nmes(options.data), made_up(50, 10_000)
    problems = {"NMES tree": (codes, 0), "NMES tree and 20 pairs": (codes, 20), "made-up tree": (tree, 0)}
    for name, (table, extra) in problems.items():
        lines += compare(name, problem(table, extra), options.peer_python)
    (options.results / "engine_vs_mbi.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
