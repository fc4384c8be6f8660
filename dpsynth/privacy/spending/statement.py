"""The privacy statement (``privacy.json``): guarantee, budget, events, and what is not protected."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from dpsynth.privacy.spending.accounting import epsilon_of
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.events import Accounting, Event, grouped, total_delta
from dpsynth.privacy.spending.ledger_totals import Spent
from dpsynth.privacy.spending.trade_offs import trade_off
from dpsynth.privacy.spending.training_plan import TrainingPlan
from dpsynth.schema.schema import Schema

LIBRARIES = ("dpsynth", "dp-accounting", "numpy", "opendp")


def statement(
    *,
    schema: Schema,
    budget: Budget,
    accounting: Accounting,
    rho: float,
    training: TrainingPlan | None,
    reserved_delta: float,
    events: Sequence[Event],
    private: bool,
    randomness: str,
    earlier: Spent | None,
    rows_public: bool,
) -> dict[str, Any]:
    """Return everything that ``privacy.json`` says, as JSON-able facts that are all public."""
    return {
        "private": private,
        "guarantee": _guarantee(budget, schema, private=private),
        "definition": "(epsilon, delta)-differential privacy",
        "epsilon": budget.epsilon,
        "delta": budget.delta,
        "epsilon_spent": round_up(epsilon_of(events, budget.delta, accounting)),
        "delta_for_discovery": total_delta(events),
        "neighbours": f"add or remove one patient with all of their {_records(schema)}{_by(schema)}",
        "unit": "patient" if schema.patient is not None else "row (the schema says that a row is a patient)",
        "patient_column": schema.patient,
        "max_rows_per_patient": schema.max_rows_per_patient,
        **({} if schema.images is None else {"max_images_per_patient": schema.images.max_per_patient}),
        "accountant": _accountant(accounting, trained=training is not None),
        "events": [_priced(e, accounting) for e in grouped(events)],
        "trade_off": trade_off(
            rho, accounting, extra_delta=reserved_delta, trained=() if training is None else (training.event,)
        ),
        "not_protected": [*not_protected(schema, rows_public=rows_public), *([] if training is None else [FLOATING])],
        "randomness": randomness,
        "libraries": {**{name: version(name) for name in LIBRARIES}, "python": platform.python_version()},
        "earlier_releases": _earlier(earlier),
    }


def not_protected(schema: Schema, *, rows_public: bool) -> list[str]:
    """Return, in sentences, what the guarantee does not cover."""
    source = f" Their source, as the schema gives it: {schema.source.rstrip('. ')}." if schema.source else ""
    facts = [
        "The schema: names, types, bounds, closed lists of values and constraints are taken as public knowledge."
        + source,
        "What holds for people in general: it is learned with or without any one patient.",
        "More than this release: each further release on the same patients adds to the total (see earlier_releases).",
        REFUSAL,
        "Time and memory that the computation took, and who saw the data before it.",
    ]
    if rows_public:
        facts.append("The number of rows: it is declared as public.")
    if schema.patient is not None:
        facts.append(
            "A patient with several rows is protected whole, but only max_rows_per_patient of the rows were used."
        )
    if schema.images is not None:
        facts.append("A patient's images are protected together, but only max_images_per_patient of them were used.")
    return facts


REFUSAL = (
    "That data were refused: a value or row that does not fit the schema ends the reading with a message and an exit "
    "code. It names the column and the kind of fault, never a value, but whoever sees it, or sees that no release "
    "came, learns that some row does not fit; another patient's data may not."
)


def round_up(epsilon: float) -> float:
    """Return an upper bound on epsilon with six digits after the point."""
    return -(-epsilon * 1e6 // 1) / 1e6


def _records(schema: Schema) -> str:
    return "rows" if schema.images is None else "rows and images"


def _by(schema: Schema) -> str:
    """Return what tells patients apart: whoever stands under two values of it is two patients."""
    return "" if schema.patient is None else f" (those with one value of column {schema.patient!r})"


def unit_in_words(statement: Mapping[str, Any]) -> str:
    """Return the unit that a statement names, with its column; one of an earlier version names none."""
    column = statement.get("patient_column")
    return str(statement["unit"]) + ("" if column is None else f" (one value of column {str(column)!r})")


def _guarantee(budget: Budget, schema: Schema, *, private: bool) -> str:
    if not private:
        return "not private: made with a fixed seed or fixed answers, for tests; do not publish anything made from it"
    return (
        f"({budget.epsilon:g}, {budget.delta:g})-differential privacy for adding or removing one patient with all of "
        f"their {_records(schema)}{_by(schema)}; it covers everything that was computed from the private data for this "
        "release"
    )


FLOATING = (
    "Float arithmetic of the training: gradients are clipped with a margin, then summed and noised in whole numbers "
    "from the operating system's entropy, but a patient's own gradient is found in 32-bit floats (IEEE, without TF32, "
    "by deterministic convolutions), whose rounding may differ with who else is in a batch. No attack on this is "
    "known; a proof is not known either."
)


ADDED = (
    "sums of what was granted; with the delta of the limit they hold however later runs were chosen. The composed "
    "epsilon and delta hold where every training was decided before anything of an earlier run was seen"
)


UNNAMED = (
    "recorded before the patient column was noted: the total holds if they had the same column; if not, a patient may "
    "have been protected less by them"
)


def _accountant(accounting: Accounting, *, trained: bool) -> dict[str, str]:
    method = {
        "gaussian": "Gaussian differential privacy, exact conversion; adaptive composition (Smith & Thakurta 2022)",
        "zcdp": "zero-concentrated differential privacy, best Renyi order (Canonne, Kamath & Steinke 2020)",
    }[accounting]
    if trained:
        method = "privacy loss distributions, rounded up: sampled Gaussian steps and one Gaussian for all questions"
    return {"name": "dp-accounting", "version": version("dp-accounting"), "method": method, "accounting": accounting}


def _priced(event: Event, accounting: Accounting) -> dict[str, Any]:
    noise = {
        "gaussian": "integer Gaussian",
        "selection": "Gumbel (exponential mechanism)",
        "sampled_gaussian": "Gaussian, rounded to whole numbers, each step",
    }[event.kind]
    return {**event.to_json(), "noise": noise, "rho": None if event.sampled else event.price(accounting)}


def _earlier(earlier: Spent | None) -> dict[str, Any]:
    if earlier is None:
        return {"runs": None, "note": "no ledger was kept, because the cohort is public"}
    facts: dict[str, Any] = {"runs": earlier.runs, "epsilon": round_up(earlier.epsilon), "delta": earlier.delta}
    if earlier.added is not None:
        facts["added"] = {"epsilon": round_up(earlier.added[0]), "delta": earlier.added[1], "note": ADDED}
    notes = []
    if earlier.test_runs:
        notes.append(f"{earlier.test_runs} of them with a fixed seed, which protects nobody if it was published")
    if earlier.unnamed:
        notes.append(f"{earlier.unnamed} of them {UNNAMED}")
    return facts | ({"note": "; ".join(notes)} if notes else {})


def discovered_in_words(stated: Mapping[str, Any]) -> list[str]:
    """Return for each column whose values were discovered how many were found, and the share of all others.

    Parameters
    ----------
    stated
        A privacy statement.
    """
    sentences = []
    for column, facts in stated.get("discovered", {}).items():
        values = int(facts["values"])
        words = "1 value was found" if values == 1 else f"{values:,} values were found"
        others = "" if facts["other"] is None else f"; all others are {float(facts['other']):.1%} of the rows"
        sentences.append(f"column {column!r}: {words} under the budget{others}.")
    return sentences


def images_in_words(stated: Mapping[str, Any]) -> list[str]:
    """Return how much of what images vary by is noise, where a model of images can tell.

    Parameters
    ----------
    stated
        A privacy statement.
    """
    ratio = (stated.get("images") or {}).get("noise_over_contrast")
    if ratio is None:
        return []
    words = (
        f"images: noise over contrast is {float(ratio):.2f}: noise adds that much to a drawn image, as a multiple of "
        "what the patients' images of a label vary by; from 2 on it is held down, by blurring."
    )
    return [words]
