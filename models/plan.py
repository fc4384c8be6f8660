"""What a model will ask, and what that costs: a plan is made from public facts alone."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class PlanItem:
    """One kind of question that a synthesizer will ask.

    Parameters
    ----------
    what : str
        What is measured, in words.
    tables : int
        How many tables of this kind.
    cells : int
        How many cells they have together.
    sigma : float
        Standard deviation of the noise on one cell, in rows.
    note : str
        What the reader should know about it; may be empty.
    """

    what: str
    tables: int
    cells: int
    sigma: float
    note: str = ""


@dataclass(frozen=True)
class Plan:
    """The plan of a fit: its questions, noise, expected errors and time, from public facts alone.

    Parameters
    ----------
    model : str
        Registered name of the synthesizer.
    epsilon, delta : float
        The whole budget; no units.
    rho : float
        The same budget as the price of Gaussian answers: a count with noise of sigma rows costs 1 / (2 sigma^2).
    rows : int
        The row count that the plan was made for.
    items : tuple of PlanItem
        The questions, by kind.
    expected_error : mapping of str to float
        Expected mean total variation distance that the noise alone causes, by ``"1-way"``, ``"2-way"``; and for images,
        as ``"mean image"``, the norm of the noise of a label's mean image as a share of the greatest norm that counts,
        and as ``"noise over contrast"`` what noise adds to a drawn image over what usual images of a label vary by.
    expected_seconds : float
        Expected time of the fit on two cores, in seconds.
    warnings : tuple of str
        What a person should know before spending.
    smallest_groups : mapping of str to float
        For each subgroup column the rows that a group needs to be represented: from there on the noise is below half of
        its count and below half of an evenly filled cell of the group with an outcome, where that is measured for sure.

    Examples
    --------
    >>> from dpsynth import Budget, Schema
    >>> from dpsynth.models.registry import make
    >>> schema = Schema.parse("{name: ward, columns: {died: {type: boolean}}}")
    >>> plan = make("independent").plan(schema, Budget(1.0, 1e-6), rows=5000)
    >>> plan.model, plan.rows, [item.what for item in plan.items]
    ('independent', 5000, ['columns'])
    """

    model: str
    epsilon: float
    delta: float
    rho: float
    rows: int
    items: tuple[PlanItem, ...]
    expected_error: Mapping[str, float]
    expected_seconds: float
    warnings: tuple[str, ...] = ()
    smallest_groups: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain JSON-able values."""
        plain = dataclasses.replace(
            self, expected_error=dict(self.expected_error), smallest_groups=dict(self.smallest_groups)
        )
        return dataclasses.asdict(plain)
