"""Audit our own models in two worlds, and keep how often each attack was wrong.

Three columns of SUPPORT2 (its first 100 patients), one canary in an otherwise empty corner. The tests are fixed before
the runs that they are judged on, so counts of errors add up: each invocation adds its runs to ``<results>/audit.csv``,
and the Markdown table is written from all of them. Private trainings are played for themselves, on the kernel's
gradient door. Attacks on one run stand each for itself, in ``<results>/audit_one_run.csv``.

Examples
--------
::

    python benchmarks/audit.py --models independent prism --epsilon 1 --runs 500
    python benchmarks/audit.py --minutes 30
    python benchmarks/audit.py --models "all patients" sampled --runs 8000
    python benchmarks/audit.py --models --one-run logistic tvae
"""

import argparse
import itertools
import math
import subprocess
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from dpsynth.datasets import load_support2
from dpsynth.evaluation.audit.bounds import CURVE, GAUSSIAN, bound_of, one_run, p_value
from dpsynth.evaluation.audit.canaries import capped, strangers
from dpsynth.evaluation.audit.curves import gaussian_mu
from dpsynth.evaluation.audit.error_counts import Errors
from dpsynth.evaluation.audit.games import play
from dpsynth.evaluation.audit.one_run import guess
from dpsynth.jobs.audit import ATTACKS, COINS, GUESSES, TRAINED, Auditor, demo_cohort
from dpsynth.models.registry import make
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget, default_delta
from dpsynth.privacy.spending.composition import epsilon_sampled
from dpsynth.privacy.spending.training_plan import LEAST_NOISE, TrainingPlan

RESULTS = Path(__file__).parent / "results"
MODELS = ("independent", "prism", "mst", "aim")
PLANS = {"all patients": (1.0, 2), "sampled": (0.1, 20)}
"""Private trainings: sampling rate and steps."""
SUBJECTS = (*MODELS, *PLANS)
ONE_RUN = ("logistic", "ctgan", "tvae", "tabular-diffusion")
ONE_RUN_COLUMNS = ["model", "epsilon", "code", "patients", "canaries", "guesses", "right"]
COLUMNS = ["model", "epsilon", "attack", "code", "false_positives", "out", "false_negatives", "inside"]
CONFIDENCE = 0.95
PATIENTS = 100


def commit() -> str:
    """Return the commit that is checked out, with a plus where files differ from it."""
    command = ["git", "-C", str(RESULTS), "describe", "--always", "--dirty=+"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


@lru_cache(maxsize=16)
def plan_of(name: str, epsilon: float) -> TrainingPlan:
    """Return the private training of that name that costs epsilon."""
    rate, steps = PLANS[name]
    return TrainingPlan.within(Budget(epsilon, default_delta()), sampling_rate=rate, steps=steps)


def trained(name: str, epsilon: float, runs: int, code: str) -> list[tuple[object, ...]]:
    """Play a private training in two worlds and return the errors of its attack."""
    from dpsynth.evaluation.audit.gradients import GradientGame

    *_, seen = play(GradientGame(plan_of(name, epsilon)), runs)
    errors = Errors.at(0.0, *seen.scores("gradients"))
    counts = (errors.false_positives, errors.out, errors.false_negatives, errors.inside)
    return [(name, epsilon, "gradients", code, *counts)]


def told(model: str, epsilon: float, code: str, patients: int = 200) -> dict[str, object]:
    """Fit once on all columns of SUPPORT2 with many canaries, and count the coins that the gradients tell."""
    from dpsynth.evaluation.audit.gradients import GradientCoins

    base, budget, rng = capped(load_support2(), patients), Budget(epsilon, default_delta()), np.random.default_rng()
    rows, put_in = strangers(base, COINS, rng), rng.random(COINS) < 0.5
    coins = GradientCoins(base, rows, put_in, 1)
    if model == "logistic":
        plan = TrainingPlan.within(budget, sampling_rate=0.1, steps=200)
        with Session.open(base, budget, training=plan, answers=coins, cells=16) as session:
            regress(session, patients + COINS / 2)
    else:
        maker = make(model)
        plan = maker.training(base.schema, budget)
        with Session.open(base, budget, accounting=maker.accounting, training=plan, answers=coins) as session:
            maker.fit(session)
    right = guess(coins.scores, put_in, GUESSES)
    return dict(zip(ONE_RUN_COLUMNS, (model, epsilon, code, patients, COINS, GUESSES, right), strict=True))


def regress(session: Session, expected: float) -> None:
    """Train a logistic regression of the outcome under the session's plan."""
    import torch

    from dpsynth.models.tabular.deep.classifier import Likelihood, OneHotFeatures

    features = OneHotFeatures(session.codec, session.schema.target or "")
    network = torch.nn.Linear(features.width, features.classes)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    session.train(Likelihood(network, features), lambda _step: optimiser.step(), expected=expected)


def played(model: str, epsilon: float, runs: int, code: str) -> list[tuple[object, ...]]:
    """Play one game and return the errors of each attack."""
    if model in PLANS:
        return trained(model, epsilon, runs, code)
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
    order = frame["model"].map(SUBJECTS.index)
    frame = frame.assign(order=order).sort_values(["order", "epsilon", "attack", "code"], kind="stable")
    frame = frame.drop(columns="order")
    frame.to_csv(path, index=False)
    return frame


def line(model: str, epsilon: float, attack: str, counts: "pd.Series[int]") -> str:
    """Return one line of the table."""
    errors = Errors(*(int(counts[name]) for name in COLUMNS[4:]))
    curve = bound_of(CURVE, errors, delta=default_delta(), confidence=CONFIDENCE)
    cells = [
        model,
        attack,
        f"{epsilon:g}",
        f"{errors.out:,}",
        f"{errors.false_positives / errors.out:.3f}",
        f"{errors.false_negatives / errors.inside:.3f}",
        f"{curve.epsilon:.2f}",
        f"{curve.ceiling:.2f}",
        *own_curve(model, epsilon, errors),
    ]
    return "| " + " | ".join(cells) + " |"


def own_curve(model: str, epsilon: float, errors: Errors) -> list[str]:
    """Return the cells of the bound that takes the mechanism's curve to be of the claimed form."""
    if model in PLANS and plan_of(model, epsilon).sampling_rate < 1:
        found = with_other_noise(plan_of(model, epsilon), errors)
        most = with_other_noise(plan_of(model, epsilon), Errors(0, errors.out, 0, errors.inside))
        return ["", "", f"{found:.2f}", f"{most:.1f}", f"{found / epsilon:.0%}"]
    bound, mu = bound_of(GAUSSIAN, errors, delta=default_delta(), confidence=CONFIDENCE), claimed_mu(model, epsilon)
    share = f"{bound.epsilon / epsilon:.0%}"
    return [f"{bound.mu:.3f}", f"{mu:.3f}", f"{bound.epsilon:.2f}", f"{bound.ceiling:.1f}", share]


def claimed_mu(model: str, epsilon: float) -> float:
    """Return the mu that is claimed: of the plan that was played, or of the whole budget."""
    if model not in PLANS:
        return gaussian_mu(epsilon, default_delta())
    plan = plan_of(model, epsilon)
    return math.sqrt(plan.steps) / plan.noise_multiplier


def with_other_noise(plan: TrainingPlan, errors: Errors) -> float:
    """Return the largest epsilon of the same training at other noise that is refuted; at least noise 0.3 is looked at.

    Curves fall with the noise, so p-values rise as it falls.
    """
    from dpsynth.evaluation.audit.gradients import plan_curve

    low, high = LEAST_NOISE, 1000.0
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        refuted = p_value(errors, plan_curve(replace(plan, noise_multiplier=middle))) < 1 - CONFIDENCE
        low, high = (low, middle) if refuted else (middle, high)
    if high > 100:
        return 0.0
    return epsilon_sampled(0.0, (replace(plan, noise_multiplier=high).event,), default_delta())


def one_run_lines(frame: pd.DataFrame) -> list[str]:
    """Return the table of the attacks on one run."""
    lines = [
        "",
        "## One run with many coins",
        "",
        f"- one run: {TRAINED['one run']}.",
        "",
        "All columns of SUPPORT2, 200 of its patients; canaries have every value drawn from the public ones. Each row",
        "is one fit, and its bound (Steinke, Nasr & Jagielski 2023) holds by itself with 95% confidence.",
        "",
        "| model | claimed ε | canaries | guesses | right | ε, no assumption | ceiling |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in frame.sort_values(["model", "epsilon"], kind="stable").itertuples():
        counts = int(row.right), int(row.guesses), int(row.canaries)
        bound = one_run(*counts, delta=default_delta(), confidence=CONFIDENCE)
        cells = (row.model, f"{row.epsilon:g}", counts[2], counts[1], counts[0], f"{bound.epsilon:.2f}")
        lines.append("| " + " | ".join(map(str, (*cells, f"{bound.ceiling:.2f}"))) + " |")
    return lines


def page(frame: pd.DataFrame, once: pd.DataFrame) -> str:
    """Return the Markdown file."""
    head = [
        "model", "attack", "claimed ε", "N", "FPR", "FNR", "ε, no assumption", "ceiling", "μ", "claimed μ",
        "ε, its own curve", "ceiling", "share of the claim",
    ]  # fmt: skip
    lines = [
        "# Audits in two worlds",
        "",
        "Written by `benchmarks/audit.py`. Three columns of SUPPORT2 (sex, ca, hospdead), its first 100 patients,",
        "with and without one more patient in an otherwise empty corner; δ = 1e-6, noise of the operating system.",
        "N: runs in each world that count (black-box: the half on which its test was not learned). FPR, FNR: error",
        f"rates of the attack. Every bound holds with {CONFIDENCE:.0%} confidence by itself. *No assumption*: the",
        "largest (ε, δ) curve that is refuted. *μ*: the largest Gaussian curve that is refuted; a Gaussian curve is",
        "what these models claim. *ε, its own curve*: the ε of that μ at δ, a bound for mechanisms whose curve is",
        "Gaussian, as that of independent and prism is; mst and aim also select, which no canary makes tight.",
        "The last rows are private trainings (DP-SGD) on the kernel's gradient door without a model: *all patients*",
        "takes 2 steps with everybody and is Gaussian; *sampled* takes 20 steps, each with a tenth of the patients;",
        "its own curve is that of the same training at other noise, down to noise 0.3.",
        "Ceiling: the most that N runs without an error would show.",
        "",
    ]
    lines += [f"- {name}: {words}." for name, words in (ATTACKS | TRAINED).items() if name != "one run"]
    codes = ", ".join(sorted(frame["code"].astype(str).unique()))
    lines += ["", f"Commits: {codes}.", "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    sums = frame.groupby(["model", "epsilon", "attack"], sort=False)[COLUMNS[4:]].sum()
    cells = itertools.product(("white-box", "black-box", "gradients"), (1.0, 4.0), SUBJECTS)
    for attack, epsilon, model in cells:
        if (model, epsilon, attack) in sums.index:
            lines.append(line(model, epsilon, attack, sums.loc[(model, epsilon, attack)]))
    return "\n".join([*lines, *(one_run_lines(once) if len(once) else [])]) + "\n"


def main() -> None:
    """Play in rounds until the time is over; the files are brought up to date after every game."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=list(SUBJECTS), choices=SUBJECTS)
    parser.add_argument("--one-run", nargs="*", default=[], choices=ONE_RUN, help="attack one run of these")
    parser.add_argument("--epsilon", nargs="+", type=float, default=[1.0, 4.0])
    parser.add_argument("--runs", type=int, default=100, help="fits in each world of one game")
    parser.add_argument("--minutes", type=float, default=0.0, help="play further rounds until so much time is over")
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    end, code = time.monotonic() + 60 * asked.minutes, commit()
    path, once = asked.results / "audit.csv", asked.results / "audit_one_run.csv"
    while True:
        for epsilon, model in itertools.product(asked.epsilon, asked.models):
            start = time.monotonic()
            kept(path, played(model, epsilon, asked.runs, code))
            print(model, epsilon, f"{time.monotonic() - start:.0f} s", flush=True)
        for epsilon, model in itertools.product(asked.epsilon, asked.one_run):
            start = time.monotonic()
            row = pd.DataFrame([told(model, epsilon, code)])
            row.to_csv(once, mode="a", header=not once.exists(), index=False)
            print(model, epsilon, "one run", f"{time.monotonic() - start:.0f} s", flush=True)
        alone = pd.read_csv(once) if once.exists() else pd.DataFrame(columns=ONE_RUN_COLUMNS)
        (asked.results / "audit.md").write_text(page(kept(path, []), alone), encoding="utf-8")
        if time.monotonic() > end:
            break


if __name__ == "__main__":
    main()
