"""Conditions as masks of codes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from dpsynth.columns.coders import Coder, GridCoder
from dpsynth.columns.conditions import Condition, Meaning, resolve
from dpsynth.columns.kinds import Datetime, Numeric
from dpsynth.errors import InputError, nearest
from dpsynth.schema.schema import Schema

Mask = npt.NDArray[np.bool_]


_CONDITION: TypeAdapter[Any] = TypeAdapter(Condition)


class ConditionMasks:
    """Conditions on coded columns, as masks of their codes; a `Codec` is one."""

    schema: Schema
    pending: tuple[str, ...]
    _coders: dict[str, Coder]

    def _check_column(self, name: str) -> None:
        if name in self.pending:
            raise InputError(f"column {name!r}: its values must be discovered first; pass them as discovered.")
        if name not in self._coders:
            if name in self.schema.derived:
                names = ", ".join(map(repr, self.schema.derived[name].formula.names))
                raise InputError(
                    f"column {name!r}: is derived and not learned; name a column it follows from ({names})."
                )
            raise InputError(f"column {name!r}: is not modelled{nearest(name, tuple(self._coders))}.")

    def _check_own(self, name: str, condition: Any) -> None:
        """Refuse a condition on the values of a column of which something else is learned."""
        column, derived = self.schema.columns.get(name), self.schema.derived.get(name)
        beside = column.beside if isinstance(column, Numeric | Datetime) else None
        if condition is None or (beside is None and derived is None):
            return
        why = f"what lies between it and {beside!r} is learned" if beside else "it is computed in some rows"
        raise InputError(f"where: {name!r} takes no condition, as {why}. Set one on another column.")

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

        Examples
        --------
        >>> from dpsynth import Schema
        >>> from dpsynth.coding.codec import Codec
        >>> schema = Schema.parse("{name: ward, columns: {age: {type: numeric, min: 0, max: 99}}}")
        >>> codec = Codec(schema, cells=10)
        >>> codec.where({"age": {"min": 80}})["age"].nonzero()[0].tolist()
        [8, 9]
        """
        masks = {}
        for name, condition in conditions.items():
            meaning = self._limit(name, condition) if partly else self._meaning(name, condition)
            masks[name] = self._coders[name].share(meaning) > 0 if partly else self._coders[name].mask(meaning)
            if not masks[name].any():
                raise InputError(f"where: {name!r} has no code for which the whole condition holds; widen it.")
        return masks

    def shares(self, conditions: Mapping[str, Any]) -> dict[str, npt.NDArray[np.float64]]:
        """Return for each named column which share of each code's values fulfils its condition.

        It is 0 or 1 but in cells that a range cuts in two; arguments and errors as for `where`.

        Parameters
        ----------
        conditions
            As for `where`.

        Returns
        -------
        dict of float64 arrays
            Each of shape (size,), from 0 to 1.

        Raises
        ------
        InputError
            If a column or a value is not known.

        Examples
        --------
        >>> from dpsynth import Schema
        >>> from dpsynth.coding.codec import Codec
        >>> schema = Schema.parse("{name: ward, columns: {age: {type: numeric, min: 0, max: 99}}}")
        >>> codec = Codec(schema, cells=10)
        >>> codec.shares({"age": {"min": 85}})["age"][7:].tolist()
        [0.0, 0.5, 1.0]
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
        self._check_own(name, condition)
        coder = self._coders[name]
        try:
            parsed = _CONDITION.validate_python(condition)
            matcher = None if isinstance(coder, GridCoder) else coder.matcher
            return resolve(name, coder.column, parsed, matcher=matcher)
        except ValidationError:
            raise InputError(f"where: {name!r} needs a value, a list of values, or min and max.") from None
        except ValueError as fault:
            raise InputError(f"where: {fault}.") from None
