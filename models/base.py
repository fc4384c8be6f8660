"""What every model is: a `Synthesizer` that plans and fits, and the `Model` that it leaves behind.

A synthesizer never sees a private row. It asks a `dpsynth.privacy.session.Session` for noisy answers and builds a model
from them; the model holds those answers and nothing else, so sampling, saving and publishing it is post-processing.
"""

import abc
import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from dpsynth.atomic import new_folder, write_json
from dpsynth.columns.written_conditions import parse_conditions
from dpsynth.errors import InputError
from dpsynth.models.conditional_draws import DrawPart, Proportions, Support, kept, parts_of
from dpsynth.models.plan import Plan
from dpsynth.progress import Progress

if TYPE_CHECKING:
    from dpsynth.coding.codec import Codec
    from dpsynth.cohort.cohort import Cohort
    from dpsynth.privacy.session import Session
    from dpsynth.privacy.spending.budget import Budget
    from dpsynth.privacy.spending.training_plan import TrainingPlan
    from dpsynth.schema.schema import Schema

__all__ = ["MEAN_IMAGE", "NOISE_OVER_CONTRAST", "Model", "Progress", "Released", "Synthesizer"]

FEW = 256
"""Rows that are drawn at least where there are constraints, to trade values; the first of them are taken."""
NOISE_OVER_CONTRAST = "noise over contrast"
"""Key of a plan's expected noise in drawn images, see `Plan`."""
MEAN_IMAGE = "mean image"
"""Key of a plan's expected error for images, see `Plan`."""


@dataclass(frozen=True, eq=False)
class Released:
    """A table of noisy counts that a model was built from: public, for the release's own report.

    Parameters
    ----------
    columns : tuple of str
        Modelled columns.
    maps : tuple of int array
        For each column the cell of each fine code.
    counts : float array
        Noisy counts of rows, one axis a column.
    sigma : float
        Standard deviation of the noise on each cell, in rows.
    """

    columns: tuple[str, ...]
    maps: tuple[NDArray[Any], ...]
    counts: NDArray[Any]
    sigma: float


class Model(abc.ABC):
    """A fitted model: it samples rows and can be saved, and knows nothing that was not paid for.

    Privacy contract: everything that a subclass keeps is an answer of a `Session` or a function of such answers and of
    the schema. Sampling takes no session, so it can be repeated without spending.

    Parameters
    ----------
    codec : Codec
        Columns as codes, from the schema and from what was discovered under the budget.
    statement : dict
        The session's privacy statement.

    Examples
    --------
    >>> import pandas as pd
    >>> from dpsynth import Budget, Cohort, Schema
    >>> from dpsynth.models.registry import make
    >>> from dpsynth.privacy.session import Session
    >>> schema = Schema.parse("{name: ward, confirmed: true, columns: {died: {type: boolean}}}")
    >>> cohort = Cohort.from_pandas(pd.DataFrame({"died": [True, False] * 50}), schema, public=True)
    >>> with Session.open(cohort, Budget(1.0, 1e-6), accounting="gaussian", seed=0) as session:
    ...     model = make("independent").fit(session)
    >>> len(model.sample(5, seed=0))
    5
    """

    kind: ClassVar[str]
    """Name of the file form; stands in ``config.json``."""

    def __init__(self, codec: "Codec", statement: dict[str, Any]) -> None:
        self.codec = codec
        self.statement = statement

    @property
    def schema(self) -> "Schema":
        """The public schema that the model was fitted with."""
        return self.codec.schema

    @property
    @abc.abstractmethod
    def rows(self) -> int:
        """How many rows the training table has: as the schema declares, else as the noisy counts say (never exact)."""

    @abc.abstractmethod
    def sample_codes(
        self, n: int, masks: Mapping[str, NDArray[np.bool_]], rng: np.random.Generator
    ) -> dict[str, NDArray[Any]]:
        """Draw rows as fine codes.

        Parameters
        ----------
        n : int
            Number of rows, at least 1.
        masks : mapping of str to bool array, shape (size of the column,)
            Codes that a conditioned column may take; columns without an entry are free.
        rng : numpy.random.Generator
            Source of randomness.

        Returns
        -------
        dict of str to int array, shape (n,)
            One array for each modelled column.
        """

    @abc.abstractmethod
    def to_parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return what `from_parts` needs: a JSON-able configuration and named arrays."""

    @classmethod
    @abc.abstractmethod
    def from_parts(
        cls, codec: "Codec", statement: dict[str, Any], config: dict[str, Any], arrays: dict[str, NDArray[Any]]
    ) -> Self:
        """Build the model from what `to_parts` gave; both come from a file and must be checked against the codec.

        Raises
        ------
        KeyError, TypeError, ValueError, IndexError
            Where they do not fit together; `load_model` turns each into a `ModelFormatError`.
        """

    def released(self) -> list[Released]:
        """Return the noisy counts that the model keeps, for the public report; by default it keeps none."""
        return []

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the model: columns of which one finest cell holds more than half.

        Post-processing of the model, so it is public and spends nothing; it draws rows of numbers, never of images.
        """
        from dpsynth.models.concentration import concentrated

        return concentrated(self)

    def support(self, where: Mapping[str, Any]) -> Support | None:  # noqa: ARG002  (for those that can tell)
        """Return how many training rows meet a condition, by the model, and the noise; None where it cannot tell."""
        return None

    def sample(
        self,
        n: int,
        *,
        where: Mapping[str, Any] | str | None = None,
        proportions: Proportions | None = None,
        scarce: bool = False,
        seed: int | None = None,
    ) -> "Cohort":
        """Draw synthetic rows. Post-processing: costs no budget, however often it is called.

        Parameters
        ----------
        n : int
            Number of rows, at least 1; of patients where the schema declares visits, each with a row a visit.
        where : mapping or str, optional
            Conditions that every row keeps, as `Codec.where` reads them: ``{"race": "black", "age": {"min": 80}}``; or
            as on the command line: ``"race == 'black' and age >= 80"``.
            Ranges may cut the cells of a number: values are then drawn from the part inside.
        proportions : mapping or sequence, optional
            Shares of the rows, met as closely as whole rows can: ``{"race": {"black": 0.5, "white": 0.5}}``, of an
            intersection ``{("sex", "race"): {("female", "black"): 0.5}}``, or any conditions that exclude each other
            with a share each, ``[({"age": {"min": 80}}, 0.5)]``. Shares that sum to 1 leave no other rows; where they
            sum to less, the rest meets none of the conditions, in the proportions of the model.
        scarce : bool
            Draw also where the noise is larger than the number of training rows that meet a condition. The rows are
            then the model's guess from other patients.
        seed : int, optional
            Makes the draw repeatable. The model is public, so this weakens nothing.

        Returns
        -------
        Cohort
            The schema's columns without identifiers.

        Raises
        ------
        InputError
            If `n` is not a positive integer, a condition names an unknown column or value, or holds for so few rows
            that the model cannot tell them from none.
        """
        rng = np.random.default_rng(seed)
        conditions = parse_conditions([where]) if isinstance(where, str) else where or {}
        parts = parts_of(self.codec, _number_of_rows(n), conditions, proportions)
        if not scarce:
            for part in parts:
                self._check_support(part.where)
        drawn = [self._drawn(part, rng) for part in parts]
        cohort = self.codec.cohort(drawn[0] if len(drawn) == 1 else _shuffled(drawn, rng))
        return dataclasses.replace(cohort, statement=self.statement)

    def _repr_html_(self) -> str:
        from html import escape

        facts = {
            "model": self.statement.get("model", {}).get("name", self.kind),
            "epsilon, delta": f"{self.statement['epsilon']:g}, {self.statement['delta']:g}",
            "learned from": f"about {self.rows:,} rows",
            "columns": ", ".join(self.schema.modelled),
        }
        rows = "".join(f"<tr><th>{name}</th><td>{escape(words)}</td></tr>" for name, words in facts.items())
        return f"<p><b>{escape(self.schema.name)}</b></p><table>{rows}</table>"

    def _drawn(self, part: DrawPart, rng: np.random.Generator) -> Any:
        masks = self.codec.narrowed(self.codec.where(part.where, partly=True))
        # Rows that break a constraint trade values with others: there must be others, under the same condition.
        rows = max(part.rows, FEW) if self.codec.flat.constraints else part.rows
        wanted = dataclasses.replace(part, rows=rows)
        codes = kept(self.codec, wanted, lambda size: self.sample_codes(size, masks, rng), rng)
        return self.codec.draw(codes, rng, where=part.where, without=part.without).slice(0, part.rows)

    def _check_support(self, where: Mapping[str, Any]) -> None:
        support = self.support(where) if where else None
        if support is not None and support.scarce:
            raise InputError(
                f"where: by the model {support.rows:,.0f} training rows meet the condition on {', '.join(where)}, "
                f"fewer than the noise on their number ({support.noise:,.0f}): too scarce to be drawn honestly. Widen "
                "it, leave a column out, or take the model's guess from other patients with scarce=True (--scarce)."
            )

    def save(self, folder: "str | Path") -> None:
        """Write ``config.json``, ``schema.json``, ``ledger.json`` and ``model.safetensors`` to a new folder.

        Raises
        ------
        FileError
            If the folder exists or cannot be written; nothing is left half-written.
        """
        save_model(self, folder)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.schema.name!r}: {len(self.codec.columns)} columns>"


def _number_of_rows(n: Any) -> int:
    """Return a number of rows to draw; refuse what is no whole number of 1 or more."""
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise InputError(f"sample: n is {n!r}, expected a whole number of rows, 1 or more.")
    return int(n)


def _shuffled(drawn: Sequence[Any], rng: np.random.Generator) -> Any:
    """Return the rows of several tables together, in random order."""
    import pyarrow as pa

    table = pa.concat_tables(drawn)
    return table.take(rng.permutation(table.num_rows)).combine_chunks()


class Synthesizer(abc.ABC):
    """Base class of synthesizers: plans a fit from public facts, and fits a model from a session's noisy answers.

    Options are keyword arguments of the subclass's constructor, which stores each under its name.

    Examples
    --------
    >>> from dpsynth.models.registry import make
    >>> prism = make("prism", bins=8)
    >>> prism.options()
    {'bins': 8, 'states': 64, 'cells': 400000, 'nudge': True, 'prior': None}
    >>> prism.of_images, prism.accounting
    (False, 'gaussian')
    """

    name: ClassVar[str]
    """Registered name."""
    accounting: ClassVar[Literal["gaussian", "zcdp"]]
    """``"gaussian"`` where every event is a Gaussian count, ``"zcdp"`` where there are selections too."""
    summary: ClassVar[str]
    """One line for ``dpsynth models``."""
    citation: ClassVar[str]
    """The paper, or where the derivation stands."""
    produces: ClassVar[type[Model]]
    """The model class that `fit` returns; `load_model` finds the reader of a file by its `Model.kind`."""
    folders: ClassVar[frozenset[str]] = frozenset()
    """Options that name a folder of this machine: a privacy statement says that there was one, not where."""
    of_images: ClassVar[bool] = False
    """Whether it learns images, so that the cohort must have some."""
    asks_sums: ClassVar[bool] = True
    """Whether every question is a sum over patients plus noise, which several hospitals can answer together."""
    of_teachers: ClassVar[bool] = False
    """Whether teachers learn from patients' rows, which must then be on this machine."""
    seconds: ClassVar[tuple[float, float]] = (3.0, 3e-3)
    """Expected seconds of a fit on two cores: at least, and for each pair of columns; a plan tells them."""

    def options(self) -> dict[str, Any]:
        """Return the options of the synthesizer as JSON-able values."""
        kept = {key: getattr(self, key) for key in inspect.signature(type(self)).parameters if hasattr(self, key)}
        kept |= {key: "(a local folder)" for key in self.folders if kept[key]}
        return {k: v if v is None or isinstance(v, bool | int | float | str) else str(v) for k, v in kept.items()}

    def training(self, schema: "Schema", budget: "Budget") -> "TrainingPlan | None":  # noqa: ARG002
        """Return the private training that a fit runs, known before the data is touched; None where there is none.

        A subclass that trains a network by DP-SGD makes it with `TrainingPlan.within`; the session is opened for it.
        """
        return None

    @abc.abstractmethod
    def plan(self, schema: "Schema", budget: "Budget", rows: int) -> Plan:
        """Say what a fit would ask and how well it would do, from public facts alone.

        Parameters
        ----------
        schema : Schema
            Public facts about the table.
        budget : Budget
            The whole budget.
        rows : int
            Assumed number of rows.
        """

    @abc.abstractmethod
    def fit(self, session: "Session", progress: Progress | None = None) -> Model:
        """Learn a model. Formal guarantee: all that is read of the data goes through, and is debited by, `session`.

        Parameters
        ----------
        session : Session
            An open session; its ``rho_left`` may be spent to the end.
        progress : callable, optional
            Called with the name of the phase and the share done.

        Raises
        ------
        BudgetExceeded
            If the session's budget does not cover what the synthesizer asks.
        """


FORMAT = 1
"""Version of the file form; raised when an older dpsynth could not read it."""


FILES = ("config.json", "schema.json", "ledger.json", "model.safetensors")


def save_model(model: Model, folder: str | Path) -> None:
    """Write the model to a new folder, whole or not at all.

    Raises
    ------
    FileError
        If the folder is there already or cannot be written.
    """
    with new_folder(folder) as fresh:
        write_model(model, fresh)


def write_model(model: Model, folder: Path) -> None:
    """Write the model's four files into a folder that is there."""
    from safetensors.numpy import save

    config, arrays = model.to_parts()
    codec = model.codec
    write_json(
        folder / "config.json",
        {
            "format": FORMAT,
            "kind": model.kind,
            "cells": codec.cells,
            "discovered": {name: list(values) for name, values in codec.discovered.items()},
            "config": config,
        },
    )
    write_json(folder / "schema.json", model.schema.to_dict())
    write_json(folder / "ledger.json", model.statement)
    # safetensors writes the buffer as it lies in memory: a transposed view would come back wrong
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    (folder / "model.safetensors").write_bytes(save(whole))
