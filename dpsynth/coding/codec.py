"""A codec of cohorts: one fine code for each cell, category and state of every modelled column, and back."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dpsynth.coding.cells import draw
from dpsynth.coding.rules import Rules, Wish, constraint_edges
from dpsynth.coding.where import ConditionMasks, Mask
from dpsynth.cohort.cohort import Cohort
from dpsynth.cohort.visits import flatten, unfold
from dpsynth.columns.coders import Coder, ColumnCode, GridCoder, ListCoder, column_code
from dpsynth.columns.grid import cell_widths, edge_values
from dpsynth.columns.kinds import Boolean, Categorical, Datetime, Numeric
from dpsynth.columns.matching import canonical_text
from dpsynth.columns.steps import build
from dpsynth.errors import InputError
from dpsynth.schema.flat import flattened
from dpsynth.schema.schema import Schema

__all__ = ["Codec", "ColumnCode"]

CodeArray = npt.NDArray[Any]


class Codec(ConditionMasks):
    """Turns cohorts into codes and codes into cohorts.

    Numbers and dates are cut into cells of their public range; special values, and the missing state where it is
    declared, have codes of their own. Everything is decided by the schema, so a codec says nothing about data.

    Parameters
    ----------
    schema
        The schema. Where it declares visits, the codes are those of one row a patient (`dpsynth.schema.flat`).
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
        edges = constraint_edges(flat.columns, flat.constraints)
        self._coders: dict[str, Coder] = {
            name: self._coder(name, edges.get(name, set())) for name in flat.modelled if name not in self.pending
        }
        self.columns = {name: column_code(name, coder) for name, coder in self._coders.items()}
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
        """Return the codec that knows these values too.

        Parameters
        ----------
        discovered
            For each column of `pending` that is known now, its values.

        Returns
        -------
        Codec
            Another one; this one stays as it is.

        Raises
        ------
        InputError
            If a column is not declared so, or a value is named twice.

        Examples
        --------
        >>> facts = "{name: ward, columns: {dx: {type: categorical, discover: true, max_values: 9}}}"
        >>> Codec(Schema.parse(facts)).with_discovered({"dx": ["I50", "J44"]}).columns["dx"].labels
        ('I50', 'J44', 'other')
        """
        return Codec(self.schema, cells=self.cells, discovered={**self.discovered, **discovered})

    def bounds(self, name: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return (ordered,) the least and the greatest value of each cell of a numeric or datetime column.

        Datetimes are in days, or seconds where they have a clock time, since 1970-01-01.

        Parameters
        ----------
        name
            A numeric or datetime column.

        Returns
        -------
        tuple of two float64 arrays
            Least and greatest values, each of shape (ordered,), in the column's unit.

        Raises
        ------
        InputError
            If the column is not modelled, or has categories.

        Examples
        --------
        >>> schema = Schema.parse("{name: ward, columns: {age: {type: numeric, min: 0, max: 99}}}")
        >>> codec = Codec(schema, cells=10)
        >>> lower, upper = codec.bounds("age")
        >>> lower[:2].tolist(), upper[:2].tolist()
        ([0.0, 10.0], [9.0, 19.0])
        """
        self._check_column(name)
        coder = self._coders[name]
        if not isinstance(coder, GridCoder):
            raise InputError(f"column {name!r}: has categories, not cells.")
        grid = coder.grid
        return tuple(edge_values(coder.column, ends[: grid.ordered]) for ends in (grid.lower, grid.upper))  # type: ignore[return-value]

    def widths(self, name: str) -> npt.NDArray[np.float64]:
        """Return (ordered,) the share that each ordered code would have if values were spread evenly on their scale.

        Parameters
        ----------
        name
            A modelled column.

        Returns
        -------
        float64 array
            Of shape (ordered,).

        Examples
        --------
        >>> schema = Schema.parse("{name: ward, columns: {age: {type: numeric, min: 0, max: 99}}}")
        >>> codec = Codec(schema, cells=10)
        >>> round(float(codec.widths("age").sum()), 6)
        1.0
        """
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

        Examples
        --------
        >>> schema = Schema.parse("{name: ward, columns: {age: {type: numeric, min: 0, max: 99}}}")
        >>> codec = Codec(schema, cells=10)
        >>> import pandas as pd
        >>> cohort = Cohort.from_pandas(pd.DataFrame({"age": [7, 64]}), schema)
        >>> codec.encode(cohort)["age"].tolist()
        [0, 6]
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

        Returns
        -------
        Cohort
            Marked as synthetic.

        Raises
        ------
        InputError
            If a column is not there, lengths differ, a code is out of bounds, or no row keeps the constraints.

        Examples
        --------
        >>> schema = Schema.parse("{name: ward, columns: {age: {type: numeric, min: 0, max: 99}}}")
        >>> codec = Codec(schema, cells=10)
        >>> rng = np.random.default_rng(0)
        >>> ages = codec.decode({"age": np.array([0, 6])}, rng).to_pandas()["age"]
        >>> bool(0 <= ages[0] <= 9 and 60 <= ages[1] <= 69)
        True
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

        Parameters
        ----------
        codes, rng, where
            As for `decode`.
        without
            Conditions as for `where`, of groups to which no row belongs.

        Returns
        -------
        pyarrow.Table
            One column for each of the codec's, with visits one row a patient.

        Raises
        ------
        InputError
            As `decode`.
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
        """Return the synthetic cohort of a table that `draw` gave: with visits, a row for each that happened.

        Parameters
        ----------
        table
            What `draw` returned.

        Returns
        -------
        Cohort
            Marked as synthetic.
        """
        return Cohort(self.schema, unfold(table, self.schema), synthetic=True)

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

        Returns
        -------
        list
            As `forbidden` returns it.
        """
        return self._rules.zeros()

    def narrowed(self, masks: Mapping[str, Mask]) -> dict[str, Mask]:
        """Return masks as `where` gives them, with what the schema's orders then leave of other columns' codes.

        Parameters
        ----------
        masks
            For each named column (size,) booleans.

        Returns
        -------
        dict
            The same columns, and others of which the orders leave a part only.

        Raises
        ------
        InputError
            If they leave nothing of a column.
        """
        narrowed = self._rules.narrowed(masks)
        if not all(mask.any() for mask in narrowed.values()):
            raise InputError(f"where: the schema's constraints exclude the condition on {', '.join(masks)}.")
        return narrowed


def _check_discovered(schema: Schema, discovered: Mapping[str, tuple[str, ...]]) -> None:
    for name, values in discovered.items():
        if name not in schema.to_discover:
            raise InputError(f"discovered: {name!r} is not a column with discover: true.")
        if len(set(values)) < len(values):
            raise InputError(f"discovered: a value of {name!r} is given twice.")


def _table(arrays: Mapping[str, Any]) -> Any:
    import pyarrow as pa

    return pa.table(arrays)
