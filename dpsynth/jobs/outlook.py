"""Whether a release would be little but noise: told by the plan before anything is spent, with what would help.

Only public facts go in: the schema, the budget, and a number of rows that is declared, or that noisy answers gave.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpsynth.columns.coders import OTHER
from dpsynth.columns.kinds import Categorical
from dpsynth.models.base import MEAN_IMAGE, Model, Synthesizer
from dpsynth.models.plan import Plan
from dpsynth.privacy.spending.budget import MAX_EPSILON, Budget
from dpsynth.schema.flat import flattened
from dpsynth.schema.schema import Schema

__all__ = ["LIMITS", "Outlook", "add_warnings", "foresee", "found_values"]

LIMITS = {"1-way": 0.2, MEAN_IMAGE: 0.5}
"""Expected errors from which on a release is called little but noise.

Columns of SUPPORT2 that are spread evenly over their cells, which needs no patient at all, are 0.49 from the real ones
in mean total variation distance: at 0.2 noise undoes two fifths of all that there is to learn of single columns, and
pairs, whose error is more than twice that, are lost. There SUPPORT2 at epsilon 0.3 has 0.06, and an AUROC of 0.80 for
0.84. Half of the greatest norm of an image is the mean image of most sets: beyond, the noise is larger than it.
"""
GOOD = 0.5
"""What is searched for brings the error to this share of its limit."""
STEPS = 5
"""Bisections between an epsilon and its double: to 2 %."""
GENERAL = "a larger epsilon, fewer columns, or more patients; `dpsynth plan` tells how much"
LONG = 8
"""Values from which on merging those of a column is proposed."""
SHOWN = 3
DRAWN = 10_000
"""Rows that are drawn from a model to tell a share."""

_MEANS = {
    "1-way": "noise alone moves the shares of one column by {error:.2f} on average (total variation distance, 0 to 1; "
    "{limit:g} is called too much)",
    MEAN_IMAGE: "the noise of a label's mean image is {error:.2f} of the greatest norm that an image may have "
    "({limit:g} is called too much)",
}


@dataclass(frozen=True)
class Outlook:
    """Warning that a plan expects little but noise, with advice.

    Parameters
    ----------
    plan : Plan
        The plan.
    kind : str
        Which error, a key of `LIMITS`.
    advice : tuple of str
        What would help.
    """

    plan: Plan
    kind: str
    advice: tuple[str, ...]

    def warning(self) -> str:
        """Return a public warning in one paragraph."""
        words = _MEANS[self.kind].format(error=self.plan.expected_error[self.kind], limit=LIMITS[self.kind])
        helps = f" What would help: {'; '.join(self.advice)}." if self.advice else ""
        return (
            f"The plan of {self.plan.model} for about {self.plan.rows:,} rows at epsilon {self.plan.epsilon:g} expects "
            f"little but noise: {words}.{helps}"
        )

    def refusal(self) -> str:
        """Return the message of a run that stops before it spends."""
        return f"{self.warning()} Nothing was spent. To go on all the same: --anyway (anyway=True)."


def foresee(maker: Synthesizer, schema: Schema, budget: Budget, rows: int, *, search: bool = True) -> Outlook | None:
    """Return a warning where the plan of a fit expects little but noise, else None. Reads no data.

    Parameters
    ----------
    maker : Synthesizer
        The model that is to be fitted.
    schema : Schema
        Public facts.
    budget : Budget
        The whole budget.
    rows : int
        A public number of rows, of patients where the schema declares visits.
    search : bool
        Whether to plan again and again for the epsilon and the columns that would do, which takes seconds.

    Returns
    -------
    Outlook or None
        None where no expected error reaches its limit (`LIMITS`), or the model cannot plan.

    Examples
    --------
    >>> from dpsynth.datasets import load_support2
    >>> from dpsynth.models import make
    >>> schema = load_support2().schema
    >>> foresee(make("independent"), schema, Budget(1.0, 1e-6), 9105) is None
    True
    >>> foresee(make("independent"), schema, Budget(0.01, 1e-6), 200, search=False).kind
    '1-way'
    """
    flat = flattened(schema)
    plan = _planned(maker, flat, budget, rows)
    excess = {} if plan is None else _excess(plan)
    if plan is None or max(excess.values(), default=0.0) < 1:
        return None
    kind = max(excess, key=lambda name: excess[name])
    return Outlook(plan, kind, tuple(_advice(maker, flat, budget, rows)) if search else (GENERAL,))


def found_values(model: Model) -> dict[str, Any]:
    """Return the outcome of discovery, for the statement: by column the number of values and the share of all others.

    Post-processing of noisy answers: the share is that of rows drawn from the model.
    """
    if not model.codec.discovered:
        return {}
    drawn = model.sample_codes(DRAWN, {}, np.random.default_rng(0))
    return {"discovered": {name: _values_of(model, name, drawn) for name in model.codec.discovered}}


def add_warnings(model: Model, outlook: Outlook | None) -> None:
    """Add public warnings to a model's statement, where there are any."""
    warnings = [outlook.warning()] if outlook else []
    if outlook and model.schema.units is None:
        warnings[0] += (
            " This is known by a noisy number of rows only: declare rows in the schema, where their number is public, "
            "to be told before anything is spent."
        )
    ratio = (model.statement.get("images") or {}).get("noise_over_contrast", 0.0)
    if ratio >= 1:
        warnings.append(
            f"images: noise is {ratio:.1f} times what the images of a label vary by. From 2 on what is drawn is "
            "blurred, so that it holds no more noise than picture; labels share their spread and may differ little. "
            "More patients, a larger epsilon or fewer labels would help."
        )
    for name, facts in model.statement.get("discovered", {}).items():
        if facts["values"] == 0:
            warnings.append(
                f"column {name!r}: NO VALUE WAS FOUND: none is common enough to be told apart from noise, so the "
                "released column says nothing. List its values in the schema if they are public, merge them, or spend "
                "more."
            )
    if warnings:
        model.statement["warnings"] = warnings


def _values_of(model: Model, name: str, drawn: Any) -> dict[str, Any]:
    """Return the number of values of one column that were found, and the share of rows with another; None if unknown.

    Where others are read as missing, nobody can tell them from what was missing.
    """
    labels, values = list(model.codec.columns[name].labels), len(model.codec.discovered[name])
    if OTHER not in labels or name not in drawn:
        return {"values": values, "other": None}
    return {"values": values, "other": round(float((drawn[name] == labels.index(OTHER)).mean()), 4)}


def _planned(maker: Synthesizer, schema: Schema, budget: Budget, rows: int) -> Plan | None:
    try:
        return maker.plan(schema, budget, rows)
    except Exception:  # a model of others may plan as it likes: what cannot be planned foresees nothing
        return None


def _excess(plan: Plan) -> dict[str, float]:
    """Return the expected errors as shares of their limits."""
    return {kind: plan.expected_error[kind] / limit for kind, limit in LIMITS.items() if kind in plan.expected_error}


def _is_good(maker: Synthesizer, schema: Schema, budget: Budget, rows: int) -> bool:
    plan = _planned(maker, schema, budget, rows)
    return plan is not None and max(_excess(plan).values(), default=0.0) <= GOOD


def _advice(maker: Synthesizer, schema: Schema, budget: Budget, rows: int) -> list[str]:
    """Return what would help: the epsilon and the columns that do are found by planning again."""
    named = " and ".join(f"{GOOD * limit:g}" for kind, limit in LIMITS.items() if kind != MEAN_IMAGE or maker.of_images)
    advice = []
    epsilon = _enough_epsilon(lambda value: _is_good(maker, schema, Budget(value, budget.delta), rows), budget.epsilon)
    if epsilon is not None:
        advice.append(f"epsilon {epsilon:.2g}, which brings the error to {named}")
    columns = _most_columns(maker, schema, budget, rows)
    if columns:
        advice.append(
            f"at this epsilon about {columns} of the {len(schema.modelled)} columns (name the others under drop)"
        )
    advice.append("more patients")
    many = _with_many_values(schema)
    if many:
        advice.append(f"fewer, merged values of {', '.join(map(repr, many))}")
    return advice


def _enough_epsilon(is_good: Callable[[float], bool], epsilon: float) -> float | None:
    """Return about the least larger epsilon that is good, rounded up to two digits; None where none is."""
    low, high = epsilon, min(2 * epsilon, MAX_EPSILON)
    while not is_good(high):  # from below, because plans for large budgets take longest
        if high >= MAX_EPSILON:
            return None
        low, high = high, min(2 * high, MAX_EPSILON)
    for _ in range(STEPS):
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if is_good(middle) else (middle, high)
    step = 10.0 ** (np.floor(np.log10(high)) - 1)
    return float(min(np.ceil(high / step) * step, MAX_EPSILON))


def _most_columns(maker: Synthesizer, schema: Schema, budget: Budget, rows: int) -> int:
    """Return how many columns, the target and the subgroups first, can be had at this budget; 0 for none."""
    first = [name for name in (schema.target, *schema.subgroups) if name is not None]
    names = list(dict.fromkeys((*first, *schema.modelled)))
    low, high = 0, len(names)
    while high - low > 1:
        middle = (low + high) // 2
        fits = _is_good(maker, _with_columns(schema, names[:middle]), budget, rows)
        low, high = (middle, high) if fits else (low, middle)
    return low


def _with_columns(schema: Schema, names: list[str]) -> Schema:
    """Return a schema with these of its modelled columns, and without what speaks of others."""
    plain = {"constraints": (), "intersections": (), "fairness": None, "drop": ()}
    kept = {name: column for name, column in schema.columns.items() if name in names or name == schema.patient}
    groups = tuple(name for name in schema.subgroups if name in names)
    target = schema.target if schema.target in names else None
    return schema.model_copy(update={**plain, "columns": kept, "subgroups": groups, "target": target})


def _with_many_values(schema: Schema) -> list[str]:
    """Return the columns with the longest lists of values, longest first."""
    sizes = {
        name: column.max_values or len(column.values)
        for name, column in schema.columns.items()
        if name in schema.modelled and isinstance(column, Categorical)
    }
    return [name for name in sorted(sizes, key=lambda name: -sizes[name]) if sizes[name] > LONG][:SHOWN]
