"""The membership game on whole fits: a model is fitted with and without a made-up patient."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpsynth.cohort.cohort import Cohort
from dpsynth.models.base import Model
from dpsynth.models.registry import make
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget

if TYPE_CHECKING:
    from dpsynth.evaluation.audit.canaries import Canary


ROWS = 1000
"""Synthetic rows that the black-box attack sees of each fit."""


@dataclass(frozen=True)
class FitGame:
    """One fit of a model in one of two worlds, as `dpsynth.evaluation.audit.games.Game`.

    Parameters
    ----------
    out, inside
        The worlds: public cohorts that differ by one patient.
    canary
        That patient, over the modelled columns, as synthetic rows would show them.
    model, options
        A registered model and its options.
    budget
        The whole budget of a fit.
    rows
        Synthetic rows to draw for the black-box attack.
    """

    out: Cohort
    inside: Cohort
    canary: "Canary"
    model: str
    budget: Budget
    options: Mapping[str, Any] = field(default_factory=dict)
    rows: int = ROWS

    def __call__(self, inside: bool) -> Mapping[str, ArrayLike]:
        """Fit once; return the log-likelihood ratio of the answers, and what the synthetic rows show of the canary.

        A model that trains on gradients is attacked by its rows alone.
        """
        from dpsynth.evaluation.audit.witness import Witness

        maker, world = make(self.model, **self.options), self.inside if inside else self.out
        training = maker.training(world.schema, self.budget)
        if training is not None:
            with Session.open(world, self.budget, accounting=maker.accounting, training=training) as session:
                return {"black-box": self._rows_like_it(maker.fit(session))}
        witness = Witness(self.out, self.inside, in_it=inside, cap=_cap(world))
        with Session.open(world, self.budget, accounting=maker.accounting, answers=witness) as session:
            fitted = maker.fit(session)
        seen: dict[str, ArrayLike] = {"white-box": witness.log_ratio} if witness.sees_all else {}
        return seen | {"black-box": self._rows_like_it(fitted)}

    @cached_property
    def _patient(self) -> Cohort:
        return Cohort.from_pandas(self.canary.rows.iloc[[0]], self.inside.schema, public=True, synthetic=True)

    def _rows_like_it(self, fitted: Model) -> NDArray[np.float64]:
        """Return, as shares of the synthetic rows, how many are as the canary: column by column, and by all pairs."""
        rows = fitted.codec.encode(fitted.sample(self.rows))
        wanted = fitted.codec.encode(self._patient)
        same = np.column_stack([rows[name] == wanted[name][0] for name in rows]).astype(np.float64)
        pairs = (same.T @ same / len(same))[np.triu_indices(same.shape[1])]
        return np.append(pairs, same.all(axis=1).mean())


def _cap(cohort: Cohort) -> int:
    return cohort.schema.max_rows_per_patient if cohort.schema.patient is not None else 1
