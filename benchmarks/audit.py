"""Audit our own models in two worlds, and keep how often each attack was wrong.

Three columns of SUPPORT2 (its first 100 patients), one canary in an otherwise empty corner. The tests are fixed before
the runs that they are judged on, so counts of errors add up: each invocation adds its runs to ``<results>/audit.csv``,
and the Markdown table is written from all of them.

Examples
--------
::

    python benchmarks/audit.py --models independent prism --epsilon 1 --runs 500
    python benchmarks/audit.py --minutes 30
"""

import argparse
import itertools
import subprocess
import time
from pathlib import Path

import pandas as pd

from dpsynth.auditing import ATTACKS, Auditor, demo_cohort
from dpsynth.evaluation.audit.bounds import CURVE, GAUSSIAN, Errors, bound_of, gaussian_mu
from dpsynth.privacy.budget import default_delta

RESULTS = Path(__file__).parent / "results"
MODELS = ("independent", "prism", "mst", "aim")
COLUMNS = ["model", "epsilon", "attack", "code", "false_positives", "out", "false_negatives", "inside"]
CONFIDENCE = 0.95
PATIENTS = 100


def commit() -> str:
    """Return the commit that is checked out, with a plus where files differ from it."""
    command = ["git", "-C", str(RESULTS), "describe", "--always", "--dirty=+"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def played(model: str, epsilon: float, runs: int, code: str) -> list[tuple[object, ...]]:
    """Play one game and return the errors of each attack."""
    auditor = Auditor(demo_cohort(), model, epsilon=epsilon, runs=runs, patients=PATIENTS)
    auditor.run()
    rows: list[tuple[object, ...]] = []
    for attack in auditor.found().attacks:
        errors = attack.bounds[0].errors
        assert errors is not None  # noqa: S101  (a bound of two worlds has its counts)
        counts = (errors.false_positives, errors.out, errors.false_negatives, errors.inside)
        rows.append((model, epsilon, attack.name, code, *counts))
    return rows


def kept(path: Path, rows: list[tuple[object, ...]]) -> pd.DataFrame:
    """Add rows to the CSV, one a model, epsilon, attack and code, and return all of it."""
    new = pd.DataFrame(rows, columns=COLUMNS)
    there = pd.read_csv(path, dtype={"code": "str"}) if path.exists() else new.iloc[:0]
    both = pd.concat([there, new]) if len(there) else new
    frame = both.groupby(COLUMNS[:4], as_index=False, sort=False).sum()
    order = frame["model"].map(MODELS.index)
    frame = frame.assign(order=order).sort_values(["order", "epsilon", "attack", "code"], kind="stable")
    frame = frame.drop(columns="order")
    frame.to_csv(path, index=False)
    return frame


def line(model: str, epsilon: float, attack: str, counts: "pd.Series[int]") -> str:
    """Return one line of the table."""
    errors = Errors(*(int(counts[name]) for name in COLUMNS[4:]))
    settings = {"delta": default_delta(), "confidence": CONFIDENCE}
    curve, gaussian = (bound_of(method, errors, **settings) for method in (CURVE, GAUSSIAN))
    mu = gaussian_mu(epsilon, default_delta())
    cells = [
        model,
        attack,
        f"{epsilon:g}",
        f"{errors.out:,}",
        f"{errors.false_positives / errors.out:.3f}",
        f"{errors.false_negatives / errors.inside:.3f}",
        f"{curve.epsilon:.2f}",
        f"{curve.ceiling:.2f}",
        f"{gaussian.mu:.3f}",
        f"{mu:.3f}",
        f"{gaussian.epsilon:.2f}",
        f"{gaussian.ceiling:.1f}",
        f"{gaussian.epsilon / epsilon:.0%}",
    ]
    return "| " + " | ".join(cells) + " |"


def page(frame: pd.DataFrame) -> str:
    """Return the Markdown file."""
    head = [
        "model", "attack", "claimed ε", "N", "FPR", "FNR", "ε, no assumption", "ceiling", "μ", "claimed μ",
        "ε, Gaussian curve", "ceiling", "share of the claim",
    ]  # fmt: skip
    lines = [
        "# Audits in two worlds",
        "",
        "Written by `benchmarks/audit.py`. Three columns of SUPPORT2 (sex, ca, hospdead), its first 100 patients,",
        "with and without one more patient in an otherwise empty corner; δ = 1e-6, noise of the operating system.",
        "N: runs in each world that count (black-box: the half on which its test was not learned). FPR, FNR: error",
        f"rates of the attack. Every bound holds with {CONFIDENCE:.0%} confidence by itself. *No assumption*: the",
        "largest (ε, δ) curve that is refuted. *μ*: the largest Gaussian curve that is refuted; a Gaussian curve is",
        "what these models claim. *ε, Gaussian curve*: the ε of that μ at δ, a bound for mechanisms whose curve is",
        "Gaussian, as that of independent and prism is; mst and aim also select, which no canary makes tight.",
        "Ceiling: the most that N runs without an error would show.",
        "",
    ]
    lines += [f"- {name}: {words}." for name, words in ATTACKS.items()]
    codes = ", ".join(sorted(frame["code"].astype(str).unique()))
    lines += ["", f"Commits: {codes}.", "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    sums = frame.groupby(["model", "epsilon", "attack"], sort=False)[COLUMNS[4:]].sum()
    cells = sorted(itertools.product(("white-box", "black-box"), (1.0, 4.0), MODELS), key=lambda c: c[0] != "white-box")
    for attack, epsilon, model in cells:
        if (model, epsilon, attack) in sums.index:
            lines.append(line(model, epsilon, attack, sums.loc[(model, epsilon, attack)]))
    return "\n".join(lines) + "\n"


def main() -> None:
    """Play in rounds until the time is over; the files are brought up to date after every game."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--epsilon", nargs="+", type=float, default=[1.0, 4.0])
    parser.add_argument("--runs", type=int, default=100, help="fits in each world of one game")
    parser.add_argument("--minutes", type=float, default=0.0, help="play further rounds until so much time is over")
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    end, code = time.monotonic() + 60 * asked.minutes, commit()
    while True:
        for epsilon, model in itertools.product(asked.epsilon, asked.models):
            start = time.monotonic()
            frame = kept(asked.results / "audit.csv", played(model, epsilon, asked.runs, code))
            print(model, epsilon, f"{time.monotonic() - start:.0f} s", flush=True)
        (asked.results / "audit.md").write_text(page(frame), encoding="utf-8")
        if time.monotonic() > end:
            break


if __name__ == "__main__":
    main()
