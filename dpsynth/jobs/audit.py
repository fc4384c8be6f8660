"""Attack our own models: fit them many times with and without a made-up patient, and see whether the claim holds.

Every fit reads the patients again and nothing is kept in a ledger, so only public cohorts are used.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.atomic import read_json
from dpsynth.cohort.cohort import Cohort
from dpsynth.errors import InputError, ModelFormatError
from dpsynth.jobs.fit import check_model
from dpsynth.jobs.fit_game import FitGame, _cap
from dpsynth.models.base import Progress, Synthesizer
from dpsynth.models.registry import make
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget, default_delta
from dpsynth.progress import silent

if TYPE_CHECKING:
    from dpsynth.evaluation.audit.games import Game, Seen
    from dpsynth.evaluation.audit.outcome import Attack, Audit, Check, Claim
    from dpsynth.privacy.spending.training_plan import TrainingPlan

__all__ = ["ATTACKS", "TRAINED", "Auditor", "audit_release", "auditor_of", "claim_of", "demo_cohort"]

Floats = NDArray[np.float64]

ATTACKS = {
    "white-box": "sees every noisy answer that the model got and knows all other patients; likelihood ratio",
    "black-box": "sees the synthetic rows alone; linear test learned on half of the runs",
}
TRAINED = {
    "gradients": "sees every noisy gradient of the training's plan, where a made-up patient moves a parameter that "
    "nobody else moves; likelihood ratio",
    "one run": "sees all noisy gradients of one fit into which many made-up patients were put, each by its own coin, "
    "knows all other patients, and guesses the coins",
}
"""Attacks on models that are trained by DP-SGD, beside those above."""
PATIENTS = 200
"""Patients of the cohort that canaries are planted in: the fewer, the less there is to hide among."""
RUNS = 500
LEAST = 8
"""Runs in each world from which on there is something to judge: half of them teach the black-box attack."""
TABLES_ONLY = "white-box reads answers about tables, and this model asks for gradients or votes"
ROWS_ONLY = "the attacks plant patients in tables whose rows stand for themselves, without visits and images"
TOO_FEW = "stopped before there were enough runs"
COINS, GUESSES = 500, 300
"""Canaries of the attack on one run, and how many of them are guessed; so many right ones would show epsilon 4.2."""
DEMO = ("sex", "ca", "hospdead")


class Auditor:
    """An audit of a model: it fits it many times with and without a made-up patient. It can be stopped.

    Parameters
    ----------
    cohort : Cohort
        Public or simulated patients; the canaries are planted among the first `patients` of them.
    model : str
        A registered model.
    epsilon, delta : float
        The budget of each fit, which is the claim.
    runs : int
        Fits in each world, for each canary, and bare trainings in each world; at least 8.
    canaries : sequence of str
        Keys of `dpsynth.evaluation.audit.canaries.CANARIES`.
    patients : int
        See `cohort`.
    confidence : float
        Of the whole audit.
    options : mapping, optional
        Options of the model.
    plan : TrainingPlan, optional
        The private training whose gradients are attacked; by default the one that the model makes for the cohort.

    Raises
    ------
    InputError
        If the cohort is not public, or an argument is unknown or out of range.

    Examples
    --------
    >>> auditor = Auditor(demo_cohort(), "independent", epsilon=1.0, runs=8, patients=20)
    >>> auditor.run()
    >>> {attack.name: attack.runs for attack in auditor.found().attacks}
    {'white-box': 8, 'black-box': 8}
    """

    def __init__(
        self,
        cohort: Cohort,
        model: str,
        *,
        epsilon: float,
        delta: float | None = None,
        runs: int = RUNS,
        canaries: Sequence[str] = ("corner",),
        patients: int = PATIENTS,
        confidence: float = 0.95,
        options: Mapping[str, Any] | None = None,
        plan: "TrainingPlan | None" = None,
    ) -> None:
        from dpsynth.evaluation.audit.canaries import canary, capped, planted

        _check(cohort, runs, patients, confidence)
        budget = Budget(epsilon, default_delta() if delta is None else delta)
        options = dict(options or {})
        maker, base = make(model, **options), capped(cohort, patients)
        check_model(maker, cohort.schema)
        names = tuple(dict.fromkeys(canaries))
        rows_only = cohort.schema.visits is None and cohort.schema.images is None
        planned = [canary(name, base) for name in names] if rows_only else []
        self.model, self.runs, self.confidence, self.canaries = model, runs, confidence, names
        self.claim = claim_of(maker, cohort, budget)
        training = maker.training(base.schema, budget)
        self.plan = plan or maker.training(cohort.schema, budget)
        self.games = [FitGame(base, planted(base, patient), patient, model, budget, options) for patient in planned]
        self.facts = {
            "model": {"name": model, "options": maker.options()},
            "cohort": {"name": cohort.schema.name, "rows": len(base), "columns": len(cohort.schema.modelled)},
        }
        self._once: Callable[[], tuple[Floats, NDArray[np.bool_]]] | None = None
        if rows_only and training is not None:
            self._once = partial(_fitted_once, base, maker, budget, training)
        self._coins: tuple[Floats, NDArray[np.bool_]] | None = None
        self._seen: dict[str, Seen] = {}

    def run(self, *, workers: int = 1, progress: Progress | None = None) -> None:
        """Play all games, those on the training first. After an interruption `found` judges what was played.

        Parameters
        ----------
        workers : int
            Processes.
        progress : callable, optional
            Called with the name of a game and the share of its runs that are done.
        """
        say = progress or silent
        if self._once is not None:
            say("one run", 0.0)
            self._coins = self._once()
        if self.plan is not None:
            from dpsynth.evaluation.audit.gradients import GradientGame

            self._play("gradients", GradientGame(self.plan), workers, partial(say, "gradients"))
        for game in self.games:
            name = f"canary {game.canary.name}"
            self._play(name, game, workers, partial(say, name))

    def _play(self, name: str, game: "Game", workers: int, progress: Callable[[float], None]) -> None:
        from dpsynth.evaluation.audit.games import play

        for seen in play(game, self.runs, workers=workers, progress=progress):
            self._seen[name] = seen

    def found(self, checks: "Sequence[Check]" = ()) -> "Audit":
        """Judge what was played; what was not is *not run*.

        Parameters
        ----------
        checks : sequence of Check
            Checks of the release's own files, which stand beside the attacks.

        Returns
        -------
        Audit
            Lower bounds on epsilon, and the verdict of each attack and of all.
        """
        from dpsynth.evaluation.audit.outcome import Audit

        judged = len(self.canaries) * len(ATTACKS) + (len(TRAINED) if self.plan else 0)
        each = 1 - (1 - self.confidence) / judged
        attacks = [attack for name in self.canaries for attack in self._attacks(name, each)]
        if self.plan is not None:
            attacks += [self._on_gradients(self.plan, each), self._on_one_run(each)]
        return Audit(self.model, self.claim, self.confidence, tuple(attacks), tuple(checks), self.facts)

    def _attacks(self, name: str, confidence: float) -> "list[Attack]":
        from dpsynth.evaluation.audit.games import separator
        from dpsynth.evaluation.audit.outcome import Attack, attacked

        seen = self._seen.get(f"canary {name}")
        if seen is None or seen.runs < LEAST:
            reason = TOO_FEW if self.games else ROWS_ONLY
            return [Attack(attack, name, reason=reason) for attack in ATTACKS]
        learned = separator(*seen.scores("black-box"))
        scores = {"black-box": (learned.out, learned.inside)}
        if "white-box" in seen.out:
            scores["white-box"] = seen.scores("white-box")
        return [
            attacked(attack, name, scores[attack], self.claim, runs=seen.runs, confidence=confidence)
            if attack in scores
            else Attack(attack, name, reason=TABLES_ONLY)
            for attack in ATTACKS
        ]

    def _on_gradients(self, plan: "TrainingPlan", confidence: float) -> "Attack":
        from dpsynth.evaluation.audit.outcome import Attack, attacked

        seen = self._seen.get("gradients")
        if seen is None or seen.runs < LEAST:
            return Attack("gradients", "lone", reason=TOO_FEW)
        from dpsynth.evaluation.audit.gradients import plan_curve

        settings: dict[str, Any] = {"runs": seen.runs, "confidence": confidence, "curve": plan_curve(plan)}
        return attacked("gradients", "lone", seen.scores("gradients"), self.claim, **settings)

    def _on_one_run(self, confidence: float) -> "Attack":
        from dpsynth.evaluation.audit.outcome import Attack, attacked_once

        if self._coins is None:
            return Attack("one run", "strangers", reason=ROWS_ONLY if self._once is None else TOO_FEW)
        return attacked_once("one run", *self._coins, self.claim, guesses=GUESSES, confidence=confidence)


def _fitted_once(
    base: Cohort, maker: Synthesizer, budget: Budget, training: "TrainingPlan"
) -> "tuple[Floats, NDArray[np.bool_]]":
    """Fit once with many canaries, each in or not by its coin; return their scores and the coins."""
    from dpsynth.evaluation.audit.canaries import strangers
    from dpsynth.evaluation.audit.gradients import GradientCoins

    rng = np.random.default_rng()
    rows, put_in = strangers(base, COINS, rng), rng.random(COINS) < 0.5
    coins = GradientCoins(base, rows, put_in, _cap(base))
    with Session.open(base, budget, accounting=maker.accounting, training=training, answers=coins) as session:
        maker.fit(session)
    return coins.scores, put_in


def claim_of(maker: Synthesizer, cohort: Cohort, budget: Budget) -> "Claim":
    """Return what a fit claims: a Gaussian curve where every question is accounted so and no values are discovered.

    Parameters
    ----------
    maker : Synthesizer
        What is fitted.
    cohort : Cohort
        Its public facts are looked at alone.
    budget : Budget
        The whole budget of the fit.

    Returns
    -------
    Claim
        The budget, and whether it is that of one Gaussian mechanism.
    """
    from dpsynth.evaluation.audit.outcome import Claim

    trains = maker.training(cohort.schema, budget) is not None
    plain = maker.accounting == "gaussian" and not trains and not cohort.schema.to_discover
    return Claim(budget.epsilon, budget.delta, gaussian=plain)


def demo_cohort() -> Cohort:
    """Return three columns of SUPPORT2, the cohort on which a model is audited where none is named."""
    from dpsynth.datasets import load_support2
    from dpsynth.schema.schema import Schema

    whole = load_support2()
    facts = whole.schema.to_dict()
    kept = {name: column for name, column in facts["columns"].items() if name in (*DEMO, facts["patient"])}
    facts |= {"columns": kept, "constraints": [], "drop": [], "intersections": [], "subgroups": ["sex"]}
    facts.pop("rows", None)
    frame = whole.to_pandas()[list(kept)]
    return Cohort.from_pandas(frame, Schema.parse(facts), public=True)


def _check(cohort: Cohort, runs: int, patients: int, confidence: float) -> None:
    if not cohort.public:
        raise InputError("audit: every fit reads the patients again; only data declared public can be used (--public).")
    cohort.schema.check_confirmed()
    if runs < LEAST or patients < 2:
        raise InputError(f"audit: found {runs} runs and {patients} patients, expected {LEAST} and 2 or more.")
    if not 0.5 <= confidence < 1:
        raise InputError(f"confidence: found {confidence}, expected a number from 0.5 to below 1.")


def audit_release(folder: str | Path, *, confidence: float = 0.95) -> "Audit":
    """Audit a release without any patient: its own files are checked, and attacks are *not run*.

    Parameters
    ----------
    folder : path
        A folder that `dpsynth.release` wrote.
    confidence : float
        What attacks would have; checks are exact.

    Returns
    -------
    Audit
        Its checks are those of the files.

    Raises
    ------
    ModelFormatError
        If it is not the folder of a release.

    Examples
    --------
    >>> import tempfile
    >>> from dpsynth.jobs.fit import fit
    >>> from dpsynth.jobs.release import release
    >>> fitted = fit(demo_cohort(), "independent", epsilon=1.0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     str(audit_release(release(fitted, Path(folder) / "release", rows=50)).of_checks)
    'consistent'
    """
    from dpsynth.evaluation.audit.outcome import Attack, Audit
    from dpsynth.evaluation.audit.statements import check_release, claim_in, plan_in

    checks, statement = check_release(Path(folder)), _statement(folder)
    names = ATTACKS if plan_in(statement) is None else (*ATTACKS, *TRAINED)
    idle = tuple(Attack(name, "", reason="needs a public cohort to fit again and again on") for name in names)
    return Audit(Path(folder).name, claim_in(statement), confidence, idle, tuple(checks))


def _statement(folder: str | Path) -> Any:
    """Read what a release says of itself; it is not trusted."""
    return read_json(Path(folder) / "privacy.json")


def auditor_of(folder: str | Path, cohort: Cohort, **settings: Any) -> Auditor:
    """Return an auditor of the model, options and budget that made a release, on a public cohort.

    Parameters
    ----------
    folder : path
        A release.
    cohort : Cohort
        Public or simulated patients of any schema.
    **settings
        Further arguments of `Auditor`.

    Returns
    -------
    Auditor
        Nothing is fitted before its `Auditor.run`.

    Raises
    ------
    ModelFormatError
        If the release does not say which model made it.
    """
    from dpsynth.evaluation.audit.statements import claim_in, plan_in

    statement = _statement(folder)
    claim, plan = claim_in(statement), plan_in(statement)
    try:
        name, options = str(statement["model"]["name"]), dict(statement["model"]["options"])
    except (KeyError, TypeError, ValueError):
        raise ModelFormatError("privacy.json: does not say which model made the release.") from None
    return Auditor(cohort, name, epsilon=claim.epsilon, delta=claim.delta, options=options, plan=plan, **settings)
