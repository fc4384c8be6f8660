"""A cohort as small integers, and back: one fine code for each cell, category and state of every modelled column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from dpsynth.coders import Coder, GridCoder, ListCoder
from dpsynth.cohort import Cohort
from dpsynth.columns import Boolean, Categorical, Datetime, Numeric
from dpsynth.conditions import Meaning, resolve
from dpsynth.constraints import Condition, Order
from dpsynth.decoding import draw
from dpsynth.errors import InputError
from dpsynth.feasibility import Rules, Wish
from dpsynth.grid import cell_widths, edge_values
from dpsynth.matching import canonical_text
from dpsynth.schema import Schema, nearest
from dpsynth.values import build
from dpsynth.visits import flatten, flattened, unfold

__all__ = ["Codec", "ColumnCode"]

Mask = npt.NDArray[np.bool_]
CodeArray = npt.NDArray[Any]
_CONDITION: TypeAdapter[Any] = TypeAdapter(Condition)


@dataclass(frozen=True)
class ColumnCode:
    """How one column is coded.

    Attributes
    ----------
    name
        The column.
    size
        Number of codes, all states included.
    ordered
        Codes 0 to ordered - 1 are cells or categories in order; 0 where the categories have none.
    missing
        The code of the missing state (always the last), None where a value is never missing.
    labels
        One text per code, for tables and figures.
    """

    name: str
    size: int
    ordered: int
    missing: int | None
    labels: tuple[str, ...]


class Codec:
    """Turns cohorts into codes and codes into cohorts.

    Numbers and dates are cut into cells of their public range; special values, and the missing state where it is
    declared, have codes of their own. Everything is decided by the schema, so a codec says nothing about data.

    Parameters
    ----------
    schema
        The schema. Where it declares visits, the codes are those of one row a patient (`dpsynth.visits`).
    cells
        How many cells a numeric or datetime column is cut into. A column that can take at most twice as many values
        has one for each; thresholds of the schema's constraints begin a cell, and may add some.
    discovered
        For each column that is declared `discover: true`, the values found under differential privacy.

    Attributes
    ----------
    columns : dict[str, ColumnCode]
        The coded columns in the schema's order.
    flat : Schema
        The schema of the coded rows: that of one row a patient where there are visits, else the schema itself.
    pending : tuple[str, ...]
        The columns whose values are still to be discovered; they have no codes yet.

    Raises
    ------
    InputError
        If `cells` is below 2, or `discovered` names a column that is not declared so.

    Examples
    --------
    >>> schema = Schema.parse("{name: ward, columns: {age: {type: numeric, min: 0, max: 99, missing: true}}}")
    >>> codec = Codec(schema, cells=10)
    >>> codec.shape
    {'age': 11}
    >>> codec.columns["age"].labels[:2]
    ('0 to 9', '10 to 19')
    """

    def __init__(
        self, schema: Schema, *, cells: int = 64, discovered: Mapping[str, Sequence[Any]] | None = None
    ) -> None:
        if cells < 2:
            raise InputError(f"cells: found {cells}, expected at least 2.")
        self.schema = schema
        flat = self.flat = flattened(schema)
        self.cells = cells
        self.discovered = {name: tuple(map(canonical_text, values)) for name, values in (discovered or {}).items()}
        _check_discovered(flat, self.discovered)
        self.pending = tuple(name for name in flat.to_discover if name not in self.discovered)
        edges = _constraint_edges(flat)
        self._coders: dict[str, Coder] = {
            name: self._coder(name, edges.get(name, set())) for name in flat.modelled if name not in self.pending
        }
        self.columns = {name: _column_code(name, coder) for name, coder in self._coders.items()}
        self._rules = Rules(flat.constraints, self._coders)

    def _coder(self, name: str, edges: set[int]) -> Coder:
        column = self.flat.columns[name]
        if isinstance(column, Numeric | Datetime):
            return GridCoder(column, self.cells, sorted(edges))
        assert isinstance(column, Categorical | Boolean)  # noqa: S101  (identifiers are not modelled)
        return ListCoder(column, self.discovered.get(name))

    @property
    def shape(self) -> dict[str, int]:
        """The number of codes of each column."""
        return {name: code.size for name, code in self.columns.items()}

    def with_discovered(self, discovered: Mapping[str, Sequence[Any]]) -> "Codec":
        """Return the codec that knows these values too."""
        return Codec(self.schema, cells=self.cells, discovered={**self.discovered, **discovered})

    def bounds(self, name: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return (ordered,) the least and the greatest value of each cell of a numeric or datetime column.

        Datetimes are in days, or seconds where they have a clock time, since 1970-01-01.

        Raises
        ------
        InputError
            If the column is not modelled, or has categories.
        """
        self._check_column(name)
        coder = self._coders[name]
        if not isinstance(coder, GridCoder):
            raise InputError(f"column {name!r}: has categories, not cells.")
        grid = coder.grid
        return tuple(edge_values(coder.column, ends[: grid.ordered]) for ends in (grid.lower, grid.upper))  # type: ignore[return-value]

    def widths(self, name: str) -> npt.NDArray[np.float64]:
        """Return (ordered,) the share that each ordered code would have if values were spread evenly on their scale."""
        coder = self._coders[name]
        if isinstance(coder, GridCoder):
            return cell_widths(coder.column, coder.grid)
        ordered = self.columns[name].ordered
        return np.full(ordered, 1 / max(ordered, 1))

    def encode(self, cohort: Cohort, columns: Sequence[str] | None = None) -> dict[str, CodeArray]:
        """Return the codes of a cohort's rows.

        Parameters
        ----------
        cohort
            A cohort of the same schema.
        columns
            The columns to encode; all modelled ones where left out.

        Returns
        -------
        dict
            For each column (rows,) codes in the smallest unsigned type that holds its size. Numbers outside the
            public range are in the cell at its end.

        Raises
        ------
        InputError
            If the values of a column are still to be discovered, or the cohort does not have it.
        """
        cohort = flatten(cohort)
        names = self.flat.modelled if columns is None else columns
        for name in names:
            self._check_column(name)
            if name not in cohort.columns:
                raise InputError(f"column {name!r}: the cohort does not have it; give a cohort of the same schema.")
        return {
            name: self._coders[name].encode(cohort.table[name]).astype(np.min_scalar_type(self.columns[name].size - 1))
            for name in names
        }

    def _check_column(self, name: str) -> None:
        if name in self.pending:
            raise InputError(f"column {name!r}: its values must be discovered first; pass them as discovered.")
        if name not in self.columns:
            raise InputError(f"column {name!r}: is not modelled{nearest(name, tuple(self.columns))}.")

    def decode(
        self, codes: Mapping[str, CodeArray], rng: np.random.Generator, *, where: Mapping[str, Any] | None = None
    ) -> Cohort:
        """Return a synthetic cohort of the schema's modelled columns.

        A number is uniform in its code's cell, at the declared decimals; so it has the same code again, where all rows
        can keep the schema's constraints. Else rows trade values until they do: of ordered columns among their ordinary
        values, of forbidden and required combinations what is forbidden or required. So for an order no row changes
        in what is missing or in another column, and the distribution of each column that trades stays as a whole; it
        bends only where no trade is left.

        Parameters
        ----------
        codes
            For each modelled column (rows,) codes.
        rng
            Where the randomness comes from; it is no secret, decoding is post-processing.
        where
            Conditions as for `where`, to which cells that a range cuts in two are narrowed.

        Raises
        ------
        InputError
            If a column is not there, lengths differ, a code is out of bounds, or no row keeps the constraints.
        """
        return self.cohort(self.draw(codes, rng, where=where))

    def draw(
        self,
        codes: Mapping[str, CodeArray],
        rng: np.random.Generator,
        *,
        where: Mapping[str, Any] | None = None,
        without: Sequence[Mapping[str, Any]] = (),
    ) -> Any:
        """Return the values of codes as a pyarrow table of the codec's columns; see `decode`.

        No row meets all conditions of a member of `without`, as none did in its codes.
        """
        rows = self._check_codes(codes)
        limits = {name: self._limit(name, condition) for name, condition in (where or {}).items()}
        wish = Wish(limits, self.where(where or {}, partly=True), [self.where(cell, partly=True) for cell in without])
        kept, drawn = self._rules.keep({name: codes[name] for name in self.columns}, rng, wish)
        arrays = {}
        for name, coder in self._coders.items():
            if isinstance(coder, GridCoder):
                values = drawn[name] if name in drawn else draw(coder, kept[name], rng, limits.get(name))
                missing = kept[name] == coder.missing if coder.missing is not None else np.zeros(rows, dtype=bool)
                arrays[name] = build(coder.column, values, missing)
            else:
                arrays[name] = coder.decode(kept[name])
        return _table(arrays)

    def cohort(self, table: Any) -> Cohort:
        """Return the synthetic cohort of a table that `draw` gave: with visits, a row for each that happened."""
        return Cohort(self.schema, table if self.schema.visits is None else unfold(table, self.schema), synthetic=True)

    def _check_codes(self, codes: Mapping[str, CodeArray]) -> int:
        """Return the number of rows of well-formed codes."""
        if self.pending:
            self._check_column(self.pending[0])
        absent = [name for name in self.columns if name not in codes]
        if absent:
            raise InputError(f"column {absent[0]!r}: has no codes; give codes for every modelled column.")
        rows = {codes[name].shape for name in self.columns}
        if len(rows) != 1 or len(next(iter(rows))) != 1:
            raise InputError("codes: expected one array of one dimension for each column, all of the same length.")
        for name, code in self.columns.items():
            if codes[name].size and not 0 <= int(codes[name].min()) <= int(codes[name].max()) < code.size:
                raise InputError(f"column {name!r}: a code is out of bounds, expected 0 to {code.size - 1}.")
        return int(next(iter(rows))[0])

    def where(self, conditions: Mapping[str, Any], *, partly: bool = False) -> dict[str, Mask]:
        """Return which codes of each named column fulfil a condition.

        Parameters
        ----------
        conditions
            For each column a value, a list of values, `{"min": ..., "max": ...}` (either may be left out), or None
            for missing.
        partly
            Take in cells that a range cuts in two, too: pass the conditions to `decode` as well, which then draws
            from the part inside. Otherwise a cell is taken only where all of it fulfils the condition.

        Returns
        -------
        dict
            For each named column (size,) booleans.

        Raises
        ------
        InputError
            If a column or a value is not known, or no code fulfils the condition.
        """
        masks = {}
        for name, condition in conditions.items():
            meaning = self._limit(name, condition) if partly else self._meaning(name, condition)
            masks[name] = self._coders[name].share(meaning) > 0 if partly else self._coders[name].mask(meaning)
            if not masks[name].any():
                raise InputError(f"where: {name!r} has no code for which the whole condition holds; widen it.")
        return masks

    def shares(self, conditions: Mapping[str, Any]) -> dict[str, npt.NDArray[np.float64]]:
        """Return for each named column (size,) which share of each code's values fulfils its condition.

        It is 0 or 1 but in cells that a range cuts in two; arguments and errors as for `where`.
        """
        limits = {name: self._limit(name, condition) for name, condition in conditions.items()}
        return {name: self._coders[name].share(limit) for name, limit in limits.items()}

    def _limit(self, name: str, condition: Any) -> Meaning:
        """Return a condition's meaning with a single value written as the range that it is: it narrows a cell."""
        meaning, coder = self._meaning(name, condition), self._coders[name]
        if not isinstance(coder, GridCoder) or meaning.ranges:
            return meaning
        inside = [point for point in meaning.points if point not in coder.grid.atoms]
        if len(inside) != 1:
            return meaning
        return replace(meaning, ranges=((inside[0], inside[0]),))

    def _meaning(self, name: str, condition: Any) -> Meaning:
        self._check_column(name)
        coder = self._coders[name]
        try:
            parsed = _CONDITION.validate_python(condition)
            matcher = None if isinstance(coder, GridCoder) else coder.matcher
            return resolve(name, coder.column, parsed, matcher=matcher)
        except ValidationError:
            raise InputError(f"where: {name!r} needs a value, a list of values, or min and max.") from None
        except ValueError as fault:
            raise InputError(f"where: {fault}.") from None

    def forbidden(self) -> list[tuple[tuple[str, ...], Mask]]:
        """Return the schema's constraints as structural zeros.

        Returns
        -------
        list
            For each constraint (for an order: each pair of its columns) the columns, and a boolean array over their
            codes that is True where no row can be.
        """
        return self._rules.tables()

    def zeros(self) -> list[tuple[tuple[str, ...], Mask]]:
        """Return those of `forbidden` that a fit may take up without a change of which values are missing.

        Orders of columns that may be missing are not among them: they are kept when rows are drawn.
        """
        return self._rules.zeros()

    def narrowed(self, masks: Mapping[str, Mask]) -> dict[str, Mask]:
        """Return masks as `where` gives them, with what the schema's orders then leave of other columns' codes.

        Raises
        ------
        InputError
            If they leave nothing of a column.
        """
        found = self._rules.narrowed(masks)
        if not all(mask.any() for mask in found.values()):
            raise InputError(f"where: the schema's constraints exclude the condition on {', '.join(masks)}.")
        return found


def _column_code(name: str, coder: Coder) -> ColumnCode:
    return ColumnCode(name, coder.size, coder.ordered, coder.missing, coder.labels())


def _check_discovered(schema: Schema, discovered: Mapping[str, tuple[str, ...]]) -> None:
    for name, values in discovered.items():
        if name not in schema.to_discover:
            raise InputError(f"discovered: {name!r} is not a column with discover: true.")
        if len(set(values)) < len(values):
            raise InputError(f"discovered: a value of {name!r} is given twice.")


def _constraint_edges(schema: Schema) -> dict[str, set[int]]:
    """Return for each column the steps where a condition of a constraint begins or has just ended."""
    edges: dict[str, set[int]] = {}
    conditions = [
        (name, condition)
        for constraint in schema.constraints
        if not isinstance(constraint, Order)
        for side in constraint.parts()
        for name, condition in side.items()
    ]
    for name, condition in conditions:
        column = schema.columns[name]
        if isinstance(column, Numeric | Datetime):
            meaning = resolve(name, column, condition)
            ends = [*meaning.ranges, *((point, point) for point in meaning.points)]
            edges.setdefault(name, set()).update(edge for low, high in ends for edge in (low, high + 1))
    return edges


def _table(arrays: Mapping[str, Any]) -> Any:
    import pyarrow as pa

    return pa.table(arrays)
