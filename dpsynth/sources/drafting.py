"""A first schema, drafted from a source that may be larger than memory: one pass, batch by batch.

It guesses what `dpsynth.drafting.draft` guesses of a table in memory. Of a column with very many different values a
fair sample of them is kept, with the least and the greatest, and every value that many rows have; how often an
identifier repeats is then counted on the disk in a second pass. As confidential as the data.
"""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dpsynth.columns.kinds import Identifier
from dpsynth.columns.states import NUMBER
from dpsynth.drafting.draft import Draft, as_text, assembled, missing_marks, stem, with_format
from dpsynth.drafting.guess import Guess, guess
from dpsynth.drafting.guessing_states import guess_with_states
from dpsynth.errors import DataError
from dpsynth.files.csvtables import mostly_numbers
from dpsynth.files.detecting import Detected, detected, given_format, notation
from dpsynth.files.tables import column_names, is_text_file
from dpsynth.schema.dialect import FileFormat, standard_numbers
from dpsynth.schema.schema import Schema
from dpsynth.sources.database import Database
from dpsynth.sources.distinct import DistinctValues
from dpsynth.sources.reading import Files
from dpsynth.sources.repeats import Repeats
from dpsynth.sources.scanned import rows_at
from dpsynth.sources.scratch import Scratch

__all__ = ["draft_scanned"]

SAMPLED = "from a fair sample of its different values"


def draft_scanned(path: Path | Database, *, form: Mapping[str, Any] | None = None) -> Draft:
    """Draft a schema from files or from a table of a database, reading batch by batch.

    Parameters
    ----------
    path
        What `dpsynth.scan` takes. How CSV files are written is found from the first.
    form
        Parts of `dpsynth.schema.dialect.FileFormat` that are known; they are not looked for.

    Returns
    -------
    Draft
        With `confirmed: false`, as `dpsynth.drafting.draft.draft` gives it of a table in memory.

    Raises
    ------
    FileError
        If the path cannot be read.
    DataError
        If files have different columns, there are no rows, or numbers can be read in two ways.

    Notes
    -----
    Privacy contract: reads the data without noise. The draft is as confidential as the data.
    """
    rows, form = rows_at(path), form or {}
    given_format(form)
    written = _written(rows, form)
    names = _names(rows, written.form)
    columns = {name: _Column() for name in names}
    count = 0
    for batch in rows.batches(_as_it_stands(names, written.form)):
        count += batch.num_rows
        for name, column in columns.items():
            column.add(as_text(name, batch[name]))
    if not count:
        raise DataError(f"{path.name}: has no rows; expected at least one.")
    written = _marked(written, columns, form)
    different = {name: column.texts(written.form) for name, column in columns.items()}
    missing_values = missing_marks(_arrays(different.values()))
    guesses = {name: _guessed(name, columns[name], different[name], missing_values, count) for name in names}
    guesses = _counted(rows, guesses, columns, written.form, count)
    return with_format(assembled(_name(path), guesses, missing_values, count), written)


def _name(path: Path | Database) -> str:
    """Return what to call the cohort: the table of a database, else the folder or file."""
    from dpsynth.sources.locating import relation_of

    if isinstance(path, Database):
        return path.parts[-1] if path.relation else stem(Path(path.name)) or "cohort"
    relation = relation_of(path)
    if relation is not None:
        return relation[1].rpartition(".")[2]
    fixed = next((p for p in (path, *path.parents) if not set("*?[") & set(p.name)), path)
    return stem(fixed) or "cohort"


def _written(rows: Any, form: Mapping[str, Any]) -> Detected:
    """Return how the files seem to be written: as the first is."""
    if not isinstance(rows, Files) or not is_text_file(rows.members[0]):
        return Detected(FileFormat())
    return detected(rows.members[0], form)


def _names(rows: Any, form: FileFormat) -> list[str]:
    """Return the names of the columns, those that the names of folders say last; refuse files that differ."""
    if not isinstance(rows, Files):
        return list(rows.names())
    empty, found = _as_it_stands([], form), []
    for file, keys in zip(rows.located.files, rows.located.keys, strict=True):
        given = rows.partition(file, keys, empty)
        found.append([*column_names(file, form), *given])
        if len(set(found[-1])) < len(found[-1]):
            raise DataError(f"{_numbered(rows, len(found))}: one name stands twice among its columns; rename one.")
        if set(found[-1]) != set(found[0]):
            name = min(set(found[-1]) ^ set(found[0]))
            raise DataError(
                f"column {name!r}: is in the first file or in {_numbered(rows, len(found))}, not in both. Files of one "
                "table have the same columns: name those that belong together by a pattern."
            )
    return found[0]


def _numbered(rows: Files, number: int) -> str:
    return f"file {number} of {len(rows.members)} in {rows.located.path.name}"


def _as_it_stands(names: Iterable[str], form: FileFormat) -> Schema:
    """Return a schema under which every column is read as it stands."""
    return Schema.model_construct(
        name="draft", columns={name: Identifier() for name in names}, file=form, missing_values=()
    )


@dataclass
class _Column:
    """What was found of a column so far: numbers and other texts apart, so that a few words stay among many numbers."""

    numbers: DistinctValues = field(default_factory=DistinctValues)
    others: DistinctValues = field(default_factory=DistinctValues)
    least: tuple[float, str] | None = None
    greatest: tuple[float, str] | None = None
    first: str | None = None
    last: str | None = None
    absent: int = 0

    def add(self, texts: Any) -> None:
        """Add a column's texts."""
        import pyarrow as pa
        import pyarrow.compute as pc

        texts = pa.chunked_array([texts]).combine_chunks() if not hasattr(texts, "chunks") else texts.combine_chunks()
        self.absent += texts.null_count
        texts = texts.drop_null()
        is_number = pc.match_substring_regex(texts, f"^(?:{NUMBER})$")
        numbers, others = texts.filter(is_number), texts.filter(pc.invert(is_number))
        self.numbers.add(numbers)
        self.others.add(others)
        self._extend(pc.unique(numbers), pc.unique(others))

    def texts(self, form: FileFormat) -> dict[str, int]:
        """Return the different texts that are kept, in standard notation, and how many rows have each, to one scale."""
        import pyarrow as pa

        share = min(self.numbers.share, self.others.share)
        counts = _scaled(self.numbers, share) | _scaled(self.others, share)
        ends = [pair[1] for pair in (self.least, self.greatest) if pair is not None]
        for text in (*ends, self.first, self.last):
            if text is not None:
                counts.setdefault(text, 1)
        if form.is_plain:
            return counts
        array = pa.array(list(counts), pa.string())
        if not mostly_numbers(array, form):
            return counts
        standard: dict[str, int] = {}
        for text, number in zip(standard_numbers(array, form)[0].to_pylist(), counts.values(), strict=True):
            standard[text] = standard.get(text, 0) + number
        return standard

    @property
    def share(self) -> float:
        """The share of its different values that are kept."""
        return min(self.numbers.share, self.others.share)

    @property
    def is_complete(self) -> bool:
        """Whether all different values are kept."""
        return self.numbers.is_complete and self.others.is_complete

    def _extend(self, numbers: Any, others: Any) -> None:
        if len(numbers):
            texts = numbers.to_pylist()
            values = np.array(texts, dtype=np.float64)
            ends = [(float(values[place]), texts[place]) for place in (int(values.argmin()), int(values.argmax()))]
            self.least = min(ends[0], self.least or ends[0])
            self.greatest = max(ends[1], self.greatest or ends[1])
        if len(others):
            import pyarrow.compute as pc

            ends_of_text = pc.min_max(others).as_py()
            self.first = min(ends_of_text["min"], self.first or ends_of_text["min"])
            self.last = max(ends_of_text["max"], self.last or ends_of_text["max"])


def _scaled(values: DistinctValues, share: float) -> dict[str, int]:
    """Return counts as a fair sample of this share of all values would have them."""
    often = values.often()
    return {
        text: max(1, round(count * share)) if text in often or values.share > share else count
        for text, count in values.counts().items()
    }


def _arrays(columns: Iterable[dict[str, int]]) -> list[Any]:
    import pyarrow as pa

    return [pa.chunked_array([pa.array(list(texts), pa.string())]) for texts in columns]


def _marked(written: Detected, columns: Mapping[str, _Column], form: Mapping[str, Any]) -> Detected:
    """Add how numbers are written, from the texts of all files, where nobody has said it."""
    if {"decimal", "thousands"} & set(form):
        return written
    marks, notes = notation({name: list(column.texts(FileFormat())) for name, column in columns.items()})
    fields = {**written.form.model_dump(), **marks}
    return Detected(FileFormat.model_validate(fields), (*written.notes, *notes)) if marks else written


def _guessed(name: str, column: _Column, texts: dict[str, int], missing_values: tuple[str, ...], rows: int) -> Guess:
    """Return what a column might be."""
    there = {text: count for text, count in texts.items() if text not in missing_values}
    is_missing = column.absent > 0 or len(there) < len(texts)
    if not column.is_complete and _counts_rows(column, there, rows):
        there = dict.fromkeys(map(str, range(1, len(there) + 1)), 1)
    counts = np.array(list(there.values()), dtype=np.int64)
    guessed = guess_with_states(
        list(there), counts, lambda texts, counts: guess(name, texts, counts, missing=is_missing)
    )
    if not column.is_complete and guessed.fields["type"] != "identifier":
        guessed.notes.append(SAMPLED)
        if "max_values" in guessed.fields:
            from dpsynth.drafting.guess import nice_above

            guessed.fields["max_values"] = int(nice_above(column.numbers.distinct + column.others.distinct))
    return guessed


def _counts_rows(column: _Column, there: dict[str, int], rows: int) -> bool:
    """Return whether a column of very many numbers only counts the rows: 0 or 1 to one a row, each once."""
    if column.least is None or column.greatest is None or column.others.counts():
        return False
    first, last = column.least[0], column.greatest[0]
    return first in (0, 1) and last == first + rows - 1 and set(there.values()) == {1}


def _counted(
    rows: Any, guesses: dict[str, Guess], columns: Mapping[str, _Column], form: FileFormat, count: int
) -> dict[str, Guess]:
    """Count exactly how the values of identifiers repeat that have more of them than were kept."""
    names = [name for name, guessed in guesses.items() if guessed.role and not columns[name].is_complete]
    if not names:
        return guesses
    scratch = Scratch()
    try:
        secret, start = secrets.token_bytes(32), 0
        repeats = {name: Repeats(scratch, f"values-{place}", count, secret) for place, name in enumerate(names)}
        for batch in rows.batches(_as_it_stands(list(guesses), form)):
            owners = np.zeros(batch.num_rows, dtype=np.uint64)
            for name, kept in repeats.items():
                kept.add(as_text(name, batch[name]).combine_chunks(), owners, start)
            start += batch.num_rows
        return guesses | {name: _repeating(guesses[name], kept, columns[name].absent) for name, kept in repeats.items()}
    finally:
        scratch.close()


def _repeating(guessed: Guess, kept: Repeats, absent: int) -> Guess:
    distinct = most = 0
    for numbers, _, _ in kept.files():
        _, counts = np.unique(numbers, return_counts=True)
        distinct, most = distinct + len(counts), max(most, int(counts.max()))
    return replace(guessed, distinct=distinct - absent, repeats=most)  # each missing value was counted as another one
