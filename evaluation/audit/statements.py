"""What the files of a release say about themselves, recomputed by a second accountant.

Formulas here are written down again from the papers, on purpose: they share no code with
`dpsynth.privacy.spending.accounting`. Trainings are composed by Opacus, whose method (privacy random variables, Gopi,
Lee & Wutschitz 2021) is not ours.
"""

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.columns.coders import OTHER
from dpsynth.errors import DataError, ModelFormatError
from dpsynth.evaluation.audit.curves import gaussian_curve, gaussian_epsilon
from dpsynth.evaluation.audit.outcome import AuditVerdict, Check, Claim
from dpsynth.privacy.spending.budget import Budget

if TYPE_CHECKING:
    from dpsynth.privacy.spending.training_plan import TrainingPlan
    from dpsynth.schema.schema import Schema

__all__ = ["bracketed", "check_release", "check_statement", "claim_in", "plan_in", "recomposed"]

TOLERANCE = 1e-6
"""What rounding in a statement may be off by: it states epsilon with six digits, rounded up."""
PRV_ERROR = 0.01
"""How far Opacus' bounds on epsilon may be from its estimate."""
COARSE = 0.005
"""What our own numerical composition, whose losses are rounded up, may be beyond that, with as large a share of it."""
NEEDS_OPACUS = "trainings need Opacus as a second accountant; install dpsynth[deep]"


def check_release(folder: Path) -> list[Check]:
    """Check a release folder against itself; needs no private data.

    Parameters
    ----------
    folder : path
        A folder that `dpsynth.release` wrote.

    Returns
    -------
    list of Check

    Raises
    ------
    ModelFormatError
        If the folder has no privacy statement, or it is not one.
    """
    from dpsynth.atomic import read_json

    folder = Path(folder)
    if not (folder / "privacy.json").is_file():
        raise ModelFormatError(f"{folder.name}: privacy.json is not there; expected the folder of a release.")
    statement = read_json(folder / "privacy.json")
    if not isinstance(statement, dict):
        raise ModelFormatError("privacy.json: expected a JSON object.")
    return [*check_statement(statement), _model_says_the_same(folder, statement), _rows_keep_the_schema(folder)]


def check_statement(statement: Mapping[str, Any]) -> list[Check]:
    """Check a privacy statement against itself.

    Parameters
    ----------
    statement : mapping
        What ``privacy.json`` of a release holds.

    Returns
    -------
    list of Check

    Raises
    ------
    ModelFormatError
        If it is not a privacy statement.
    """
    try:
        return [
            _noise_is_real(statement),
            *_adds_up(statement),
            _curve_is_kept(statement),
            _discovery_is_within(statement),
        ]
    except (KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError, AttributeError):
        raise ModelFormatError("privacy.json: is not the privacy statement of a release.") from None


def claim_in(statement: Mapping[str, Any]) -> Claim:
    """Return what a statement claims; `ModelFormatError` if it is none."""
    try:
        simple = {str(e["kind"]) for e in statement["events"]} <= {"gaussian", "selection"}
        simple = simple and not float(statement["delta_for_discovery"])
        gaussian = simple and statement["accountant"]["accounting"] == "gaussian"
        budget = Budget(statement["epsilon"], statement["delta"])
    except (KeyError, TypeError, ValueError):
        raise ModelFormatError("privacy.json: is not the privacy statement of a release.") from None
    return Claim(budget.epsilon, budget.delta, gaussian=gaussian)


def plan_in(statement: Mapping[str, Any]) -> "TrainingPlan | None":
    """Return the private training that a statement tells of, without its questions; None where there is none."""
    from dpsynth.privacy.spending.training_plan import TrainingPlan

    try:
        for event in statement["events"]:
            if event["kind"] == "sampled_gaussian":
                norm = float(event["sensitivity"])
                noise = float(event["scale"]) / norm
                return TrainingPlan(float(event["sampling_rate"]), int(event["count"]), noise, norm)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        raise ModelFormatError("privacy.json: is not the privacy statement of a release.") from None
    return None


def bracketed(events: Sequence[Mapping[str, Any]], delta: float) -> tuple[float, float]:
    """Return bounds on the epsilon at delta of trainings, and of the questions beside them.

    Opacus composes the steps, and one full Gaussian whose squared mu is the questions' together. It knows the worse
    of the two directions, removing a patient.
    """
    from opacus.accountants.prv import PRVAccountant

    left = delta - math.fsum(int(e["count"]) * float(e["delta"]) for e in events)
    if left <= 0:
        return math.inf, math.inf
    trained = [e for e in events if e["kind"] == "sampled_gaussian"]
    steps = [(float(e["scale"]) / float(e["sensitivity"]), float(e["sampling_rate"]), int(e["count"])) for e in trained]
    squared = math.fsum(int(e["count"]) * _mu(e) ** 2 for e in events if e not in trained)
    asked = [(1 / math.sqrt(squared), 1.0, 1)] if squared > 0 else []
    accountant: Any = PRVAccountant()
    accountant.history = steps + asked
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says how it looks for a domain; whether that was right is in the bounds
        composed = accountant._get_dprv(eps_error=PRV_ERROR, delta_error=left / 1000)  # noqa: SLF001  (both bounds)
        lower, _, upper = composed.compute_epsilon(left, left / 1000, PRV_ERROR)
    return float(lower), float(upper)


def recomposed(events: Sequence[Mapping[str, Any]], accounting: str, delta: float) -> float:
    """Return the epsilon at delta of events, composed again.

    ``gaussian``: squared mu add up (Dong, Roth & Su 2022, Corollary 3.3), one of counts is sensitivity over noise, one
    of a selection ``2 Phi^-1(e^(eps/2) / (1 + e^(eps/2)))``; epsilon by the closed form of Balle & Wang 2018. ``zcdp``:
    rho add up, a selection's is ``eps^2 / 8``; epsilon by the Renyi divergence of every order (Canonne, Kamath &
    Steinke 2020, Proposition 12).
    """
    if not events:
        return 0.0
    own = math.fsum(int(e["count"]) * float(e["delta"]) for e in events)
    if own >= delta:
        return math.inf
    if accounting == "gaussian":
        return gaussian_epsilon(math.sqrt(math.fsum(int(e["count"]) * _mu(e) ** 2 for e in events)), delta - own)
    return _renyi_epsilon(math.fsum(int(e["count"]) * _rho(e) for e in events), delta - own)


def _mu(event: Mapping[str, Any]) -> float:
    from scipy.stats import norm

    ratio = float(event["sensitivity"]) / float(event["scale"])
    return ratio if _kind(event) == "gaussian" else -2 * float(norm.ppf(1 / (1 + math.exp(ratio))))


def _rho(event: Mapping[str, Any]) -> float:
    ratio = float(event["sensitivity"]) / float(event["scale"])
    return ratio**2 / 2 if _kind(event) == "gaussian" else (2 * ratio) ** 2 / 8


def _kind(event: Mapping[str, Any]) -> str:
    if event["kind"] not in ("gaussian", "selection"):
        raise ValueError("unknown kind of event")
    return str(event["kind"])


def _renyi_epsilon(rho: float, delta: float) -> float:
    """Return the least over a > 1 of ``rho a + log(1 - 1/a) - log(delta a) / (a - 1)``."""
    from scipy.optimize import minimize_scalar

    def bound(t: float) -> float:
        a = 1 + math.exp(t)
        return rho * a + math.log1p(-1 / a) - math.log(delta * a) / (a - 1)

    return max(0.0, float(minimize_scalar(bound, bounds=(-8, 20), method="bounded", options={"xatol": 1e-9}).fun))


def _verdict(refuted: bool) -> AuditVerdict:
    return AuditVerdict.VIOLATION if refuted else AuditVerdict.CONSISTENT


def _noise_is_real(statement: Mapping[str, Any]) -> Check:
    private = statement["private"] is True
    detail = str(statement["randomness"]) if private else "it says itself that it is not private"
    return Check("the noise is the operating system's", _verdict(not private), detail)


def _adds_up(statement: Mapping[str, Any]) -> list[Check]:
    names = (
        "all events compose to at most the claimed epsilon",
        "what is stated as spent is what the events compose to",
    )
    events, epsilon, delta = statement["events"], float(statement["epsilon"]), float(statement["delta"])
    stated, accounting = float(statement["epsilon_spent"]), str(statement["accountant"]["accounting"])
    if any(e["kind"] == "sampled_gaussian" for e in events):
        if find_spec("opacus") is None:
            return [Check(name, AuditVerdict.NOT_RUN, NEEDS_OPACUS) for name in names]
        low, high = bracketed(events, delta)
        composed, wide = f"{low:.4g} to {high:.4g}", COARSE * (1 + epsilon)
    else:
        low = high = recomposed(events, accounting, delta)
        composed, wide = f"{low:.6g}", TOLERANCE + 1e-4 * epsilon  # the accountant's own Renyi orders may cost so much
    return [
        Check(names[0], _verdict(not low <= epsilon + TOLERANCE), f"composed {composed}, claimed {epsilon:g}"),
        Check(names[1], _verdict(not low - wide <= stated <= high + wide), f"composed {composed}, stated {stated:.6g}"),
    ]


def _curve_is_kept(statement: Mapping[str, Any]) -> Check:
    """Compare the stated trade-off points, where they are Gaussian, with the curve of the events."""
    import numpy as np

    name, events = "the stated trade-off promises no more than the events keep", statement["events"]
    simple = {str(e["kind"]) for e in events} <= {"gaussian", "selection"} and not float(
        statement["delta_for_discovery"]
    )
    if str(statement["accountant"]["accounting"]) != "gaussian" or not simple:
        return Check(name, AuditVerdict.NOT_RUN, "the events have no Gaussian curve")
    curve = gaussian_curve(math.sqrt(math.fsum(int(e["count"]) * _mu(e) ** 2 for e in events)))
    points = [(float(p["false_positive_rate"]), float(p["min_false_negative_rate"])) for p in statement["trade_off"]]
    above = [a for a, b in points if b > float(curve(np.array([a]))[0]) + TOLERANCE]
    return Check(name, _verdict(bool(above)), f"{len(points)} points, {len(above)} above the curve")


def _discovery_is_within(statement: Mapping[str, Any]) -> Check:
    own = math.fsum(int(e["count"]) * float(e["delta"]) for e in statement["events"])
    stated, delta = float(statement["delta_for_discovery"]), float(statement["delta"])
    refuted = not (own <= delta and abs(own - stated) <= 1e-9 * delta)
    return Check(
        "discovery's deltas are within the claimed delta", _verdict(refuted), f"events {own:g}, delta {delta:g}"
    )


def _model_says_the_same(folder: Path, statement: Mapping[str, Any]) -> Check:
    from dpsynth.atomic import read_json

    name = "the model states the same as the release"
    inside = folder / "model" / "ledger.json"
    if not inside.is_file():
        return Check(name, AuditVerdict.NOT_RUN, "the release holds no model")
    theirs = read_json(inside)
    ours = {key: value for key, value in statement.items() if key != "release"}
    same = json.dumps(theirs, sort_keys=True) == json.dumps(ours, sort_keys=True)
    return Check(name, _verdict(not same), "equal" if same else "privacy.json and model/ledger.json differ")


def _rows_keep_the_schema(folder: Path) -> Check:
    """See whether the released rows hold a value that the public schema and paid-for discovery do not explain."""
    name = "the rows hold only values that are public or paid for"
    try:
        schema = _schema_with_discovered(folder)
        return Check(name, AuditVerdict.CONSISTENT, f"read under the schema: {len(_rows(folder, schema)):,} rows")
    except FileNotFoundError as lost:
        return Check(name, AuditVerdict.NOT_RUN, f"{Path(str(lost)).name} is not there")
    except DataError as error:
        return Check(name, AuditVerdict.VIOLATION, str(error))


def _rows(folder: Path, schema: "Schema") -> Any:
    from dpsynth.cohort.cohort import Cohort

    rows = folder / "data" / "patients.parquet"
    if not rows.is_file():
        raise FileNotFoundError(rows)
    return Cohort.read(rows, schema, synthetic=True)


def _schema_with_discovered(folder: Path) -> "Schema":
    """Return the model's schema with what was discovered under the budget as closed lists."""
    from dpsynth.atomic import read_json
    from dpsynth.schema.schema import Schema

    for name in ("schema.json", "config.json"):
        if not (folder / "model" / name).is_file():
            raise FileNotFoundError(folder / "model" / name)
    facts, config = read_json(folder / "model" / "schema.json"), read_json(folder / "model" / "config.json")
    try:
        for column, values in config["discovered"].items():
            declared = dict(facts["columns"][column])
            stand_in = [] if declared.pop("other", "") == "missing" or OTHER in values else [OTHER]
            for key in ("discover", "max_values"):
                del declared[key]
            facts["columns"][column] = {**declared, "values": [*values, *stand_in]}
        return Schema.parse(facts)
    except (KeyError, TypeError, AttributeError):
        raise ModelFormatError("model: its files do not fit together.") from None
