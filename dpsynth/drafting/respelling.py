"""Tables without a schema: the real one is drafted, and others are read in its spelling.

A value in another spelling (``true`` for ``True``, ``1.0`` for ``1``, a midnight behind a date) is the same value.
Values that the real file does not have stay categories of their own, so that the judgement sees them; what is no value
of its column at all (text among numbers) counts as missing; how many rows that are is said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.columns.kinds import Boolean, Categorical, Column, Datetime, Identifier, Numeric
from dpsynth.columns.matching import UNKNOWN, Matcher, canonical_text, number_of
from dpsynth.schema.schema import Schema

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.cohort.cohort import Cohort

__all__ = ["ReadAlike", "read_alike", "respelled", "texts_of"]

MOST = 50
"""New categories of a column that are kept apart; where there are more they are one."""
OTHERS = "(not in the real file)"
_WORDS = {word: truth for truth, words in enumerate(("false f no n 0", "true t yes y 1")) for word in words.split()}
_CLOCKS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%d %H:%M")
_FORMATS = ("%Y-%m-%d", *_CLOCKS, "%d.%m.%Y", "%Y/%m/%d", "%Y%m%d")


@dataclass
class ReadAlike:
    """Tables whose values are spelled as in the real file.

    Attributes
    ----------
    schema
        The draft from the real files, widened by what the others hold.
    frames
        The other tables.
    remarks
        For each column of a file that has values which do not fit, how many rows that are.
    """

    schema: Schema
    frames: dict[Path, "pd.DataFrame"]
    remarks: list[str] = field(default_factory=list)

    def cohort(self, path: Path) -> "Cohort":
        """Return one of the other tables as a synthetic cohort."""
        from dpsynth.cohort.cohort import Cohort

        return Cohort.from_pandas(self.frames[path], self.schema, synthetic=True)


def read_alike(real: Sequence[Path], others: Sequence[Path], form: "dict[str, Any] | None" = None) -> ReadAlike:
    """Draft a schema from real tables and read other tables under it, whatever spelling they have.

    Parameters
    ----------
    real
        Tables of real patients; the schema is as confidential as they are.
    others
        Tables to judge.
    form
        Parts of the format of CSV files that a person has given.

    Raises
    ------
    FileError, DataError
        If a file is no table, or lacks a column of the real one.

    Notes
    -----
    Privacy contract: reads the data without noise; remarks hold counts and names of columns, no values.
    """
    from dpsynth.drafting.draft import draft

    schema = draft(*real, form=form or {}).with_likeliest()
    values = {name: _known(real, name, schema) for name in schema.to_discover}
    return respelled(schema, {path: _texts(path, schema) for path in others}, values)


def respelled(
    schema: Schema, frames: dict[Path, "pd.DataFrame"], values: Mapping[str, Sequence[str]] | None = None
) -> ReadAlike:
    """Spell the values of tables of text as a schema does, and widen it by what else they hold.

    Parameters
    ----------
    schema
        Of the real patients.
    frames
        Tables of text by a name; they are changed.
    values
        The real values of columns whose values the schema does not list.
    """
    document = schema.to_dict()
    remarks: list[str] = []
    for name, column in schema.columns.items():
        if isinstance(column, Identifier):
            continue
        speller = _Speller(column, schema.missing_values, (values or {}).get(name, ()))
        for path, frame in frames.items():
            if name in frame.columns:
                frame[name], strange = speller.spelled(frame[name])
                remarks += [f"{path.name}: {strange / len(frame):.1%} of the rows of {name!r}"] if strange else []
        document["columns"][name] |= speller.widened(frames, name)
    return ReadAlike(Schema.parse(document), frames, remarks)


def _texts(path: Path, schema: Schema) -> "pd.DataFrame":
    """Return a table as text, in which nothing is missing but null."""
    from dpsynth.files.tables import read_all

    return texts_of(read_all(path, schema.file, list(schema.columns)))


def texts_of(table: Any) -> "pd.DataFrame":
    """Return an Arrow table as a frame of text."""
    import pandas as pd

    from dpsynth.columns.typed import text_of

    columns = {name: pd.Series(text_of(table[name]).to_pylist(), dtype=object) for name in table.column_names}
    return pd.DataFrame(columns)


def _known(paths: Sequence[Path], name: str, schema: Schema) -> tuple[str, ...]:
    """Return the values of a column of the real files that lists none."""
    frames = (_texts(path, schema) for path in paths)
    return tuple(sorted({str(text) for frame in frames if name in frame for text in frame[name].dropna()}))


class _Speller:
    """Spells the values of one column as its declaration does."""

    def __init__(self, column: Column, missing_values: Sequence[str], categories: Sequence[str]) -> None:
        self.column = column
        self.missing = {text.casefold() for text in (*missing_values, "", "nat", "<na>")}
        self.listed = isinstance(column, Boolean) or (not isinstance(column, Numeric | Datetime) and not categories)
        if self.listed and isinstance(column, Boolean | Categorical):
            self.matcher = Matcher(column, missing_values)
            categories = tuple(canonical_text(value) for value in self.matcher.categories)
        self.categories = categories
        self.loosely = {_plain(text): text for text in reversed(categories)}
        self.new: list[str] = []

    def spelled(self, texts: "pd.Series") -> tuple["pd.Series", int]:
        """Return the values spelled alike, None for missing, and in how many rows one does not fit."""
        counts = texts.value_counts()
        table = {text: self._one(str(text).strip()) for text in counts.index}
        strange = sum(int(counts[text]) for text, (_, fits) in table.items() if not fits)
        return texts.map({text: value for text, (value, _) in table.items()}).astype(object), strange

    def _one(self, text: str) -> tuple[str | None, bool]:
        """Return a value as it is spelled here, and whether it is one of this column."""
        if text.casefold() in self.missing and text not in self.categories:
            return None, True
        if isinstance(self.column, Numeric):
            number = number_of(text)
            return (text, True) if number is not None and np.isfinite(number) else (None, False)
        if isinstance(self.column, Datetime):
            moment = _moment(text, self.column)
            return moment, moment is not None
        return self._category(text)

    def _category(self, text: str) -> tuple[str | None, bool]:
        if text in self.categories:
            return text, True
        if self.listed and (place := self.matcher.position(text)) != UNKNOWN:
            return (None if place < 0 else self.categories[place]), True
        if _plain(text) in self.loosely:
            return self.loosely[_plain(text)], True
        if isinstance(self.column, Boolean):
            truth = _WORDS.get(_plain(text))
            return (None, False) if truth is None else (self.categories[truth], True)
        self.new += [text] if text not in self.new else []
        return text, False

    def widened(self, frames: dict[Path, "pd.DataFrame"], name: str) -> dict[str, Any]:
        """Return what the declaration needs in addition, so that every value of the other tables fits."""
        values = [frame[name] for frame in frames.values() if name in frame.columns]
        fields: dict[str, Any] = {"missing": True} if any(column.isna().any() for column in values) else {}
        present = [text for column in values for text in column.dropna().unique()]
        if isinstance(self.column, Numeric) and present:
            numbers = [float(text) for text in present]
            return fields | _bounds(self.column, min(numbers), max(numbers))
        if isinstance(self.column, Datetime) and present:
            return fields | _years(self.column, present)
        if self.new and self.listed and not isinstance(self.column, Boolean):
            pooled = self.new if len(self.new) <= MOST else [OTHERS]
            for frame in frames.values():
                if len(self.new) > MOST and name in frame.columns:
                    frame[name] = frame[name].where(~frame[name].isin(self.new), OTHERS)
            fields["values"] = [*self.matcher.categories, *pooled]
        return fields


def _years(column: Datetime, texts: Sequence[str]) -> dict[str, Any]:
    """Return bounds of dates that hold those of other tables too."""
    years = [_parsed(text, column.format or None).year for text in texts]
    first, last = str(column.min), str(column.max)
    bounds = {}
    if min(years) < int(first[:4]):
        bounds["min"] = f"{min(years):04d}-01-01"
    if max(years) > int(last[:4]):
        bounds["max"] = f"{max(years):04d}-12-31" + last[10:]
    return bounds


def _bounds(column: Numeric, low: float, high: float) -> dict[str, Any]:
    """Return bounds that hold other numbers too; a logarithmic scale stays above 0."""
    from dpsynth.drafting.guess import nice_above, nice_below

    bounds: dict[str, Any] = {}
    if low < float(column.min) and not (column.scale == "log" and low <= 0):
        bounds["min"] = nice_below(low)
    if high > float(column.max):
        bounds["max"] = nice_above(high)
    return bounds


def _plain(text: str) -> str:
    """Return what spellings of one value have in common: small letters, no blanks around, 1 for 1.0."""
    text = text.strip().casefold()
    number = number_of(text)
    return canonical_text(number) if number is not None and np.isfinite(number) else text


def _parsed(text: str, pattern: str | None) -> Any:
    import pandas as pd

    return pd.to_datetime(text, format=pattern) if pattern else pd.Timestamp(text)


def _moment(text: str, column: Datetime) -> str | None:
    """Return a date as its column writes it, None where the text is none; a date has no clock."""
    import pandas as pd

    for pattern in dict.fromkeys((*([column.format] if column.format else ()), *_FORMATS)):
        moment = pd.to_datetime(text, format=pattern, errors="coerce")
        if not pd.isna(moment):
            own = column.format or ("%Y-%m-%dT%H:%M:%S" if column.clock else "%Y-%m-%d")
            return str(moment.strftime(own))
    return None
