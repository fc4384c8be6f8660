"""How a CSV file seems to be written: found from all of it, for a person to check in a draft.

Everything here reads private data without noise, as a draft does. Nothing of it is used when a cohort is read: there
what the schema declares holds.
"""

import codecs
import csv
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpsynth.columns.states import limit_of
from dpsynth.errors import DataError, InputError
from dpsynth.files.csvfiles import CsvFile, first_bytes, is_packed
from dpsynth.files.office import office_file
from dpsynth.schema.dialect import THOUSANDS, FileFormat, is_total, separator_name

__all__ = ["Detected", "detected", "detected_table", "given_format", "notation"]

_SEPARATORS = (",", ";", "\t", "|")
_LOOKED_AT = 300
"""Records from which the separator and the header are found."""
_MOST_ABOVE = 30
_CHUNK = 2**20
_OF_WINDOWS = re.compile(rb"[\x80-\x9f]")
_DATE = re.compile(r"\d{1,4}([.,'\u2019 _-])\d{1,2}\1\d{1,4}(?:[ T].*)?")
_NUMBER = re.compile(r"[-+]?[\d.,'\u2019_\u00a0\u202f ]*\d[\d.,'\u2019_\u00a0\u202f ]*(?:[eE][-+]?\d+)?")
_AMBIGUOUS = re.compile(r"[-+]?[1-9]\d{0,2}[.,]\d{3}")


@dataclass(frozen=True)
class Detected:
    """A file's likely format, what a person should check about it, and the labels of codes that the file itself has."""

    form: FileFormat
    notes: tuple[str, ...] = ()
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def given_format(options: Mapping[str, Any], declared: FileFormat | None = None) -> FileFormat:
    """Return a declared format with the parts that a person has given.

    Parameters
    ----------
    options
        Fields of `FileFormat`.
    declared
        The schema's format; the standard one where left out.

    Raises
    ------
    InputError
        If an option has no meaning; the message names it.
    """
    from pydantic import ValidationError

    from dpsynth.schema.messages import explain

    fields = declared.model_dump() if declared is not None else {}
    try:
        return FileFormat.model_validate({**fields, **options})
    except ValidationError as fault:
        place = "--" if fault.errors()[0]["loc"] else ""
        raise InputError(f"{place}{explain(fault)}") from None


def detected_table(path: Path, options: Mapping[str, Any]) -> tuple[Any, Detected]:
    """Return all columns of a file, and how it seems to be written, where it is CSV.

    Parameters
    ----------
    path
        The file.
    options
        Parts of the format that a person has given; they are not looked for.

    Raises
    ------
    FileError, DataError
        If it is no table, or its numbers can be read in two ways; the message names the option that says which.
    """
    from dpsynth.files.tables import read_all

    office = office_file(path, given_format(options))
    if office is not None:
        return read_all(path, office.form), Detected(office.form, labels=office.labels())
    if first_bytes(path).startswith(b"PAR1"):
        return read_all(path), Detected(FileFormat())
    detection = detected(path, options)
    table = read_all(path, detection.form)
    if {"decimal", "thousands"} & set(options):
        return table, detection
    marks, more = notation({name: table[name].unique().to_pylist() for name in table.column_names})
    if not marks:
        return table, detection
    form = FileFormat.model_validate({**detection.form.model_dump(), **marks})
    return read_all(path, form), Detected(form, (*detection.notes, *more))


def detected(path: Path, options: Mapping[str, Any]) -> Detected:
    """Return the likely encoding, separator, and lines that are no patients, of a CSV file; see `detected_table`."""
    notes: list[str] = []
    fields = dict(options)
    if "encoding" not in fields:
        fields["encoding"], note = _encoding(path)
        notes += note
    file = CsvFile.of(path, FileFormat.model_validate(fields))
    if file.form.encoding == "utf-16":  # as its byte-order mark says
        fields["encoding"] = file.form.encoding
    if "separator" not in fields:
        fields["separator"] = file.form.separator if file.has_sep_line else _separator(file)
        if fields["separator"] != ",":
            notes.append(f"separated by {separator_name(fields['separator'])}")
    file = CsvFile.of(path, FileFormat.model_validate(fields))
    if "skip" not in fields and (above := _above(file)):
        fields["skip"] = above
        lines = "line 1 is" if above == 1 else f"lines 1 to {above} are"
        notes.append(f"{lines} above the header and left out (skip)")
    file = CsvFile.of(path, FileFormat.model_validate(fields))
    if "totals" not in fields and (words := _totals(file)):
        fields["totals"] = tuple(words)
        lines = ", ".join(f"{line} ({word})" for word, line in words.items())
        notes.append(f"lines of totals are left out, since they are no patients (totals): line {lines}")
    return Detected(FileFormat.model_validate(fields), tuple(notes))


def _encoding(path: Path) -> tuple[str, list[str]]:
    """Return the likely encoding of a file; of the 8-bit ones, those of Western Europe."""
    try:
        file = CsvFile.of(path, FileFormat())
    except DataError as fault:
        match = re.search(r"--encoding (utf-16-[lb]e)", str(fault))
        if match is not None:
            return match[1], ["text in UTF-16 without a byte-order mark"]
        if "not text in UTF-8" not in str(fault):
            raise
        file = CsvFile(path, FileFormat(), is_packed(path))
    if file.form.encoding not in ("utf-8", "utf-8-sig"):
        return file.form.encoding, []
    is_utf8, is_windows = _bytes(file)
    if is_utf8:
        return "utf-8", []
    encoding = "windows-1252" if is_windows else "latin-1"
    return encoding, [f"not in UTF-8, read as {encoding}: check names with accents or umlauts (encoding)"]


def _bytes(file: CsvFile) -> tuple[bool, bool]:
    """Return whether a file is UTF-8, and whether it has bytes that Windows uses and Latin-1 does not."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    is_utf8, is_windows = True, False
    with file.raw() as raw:
        while chunk := raw.read(_CHUNK):
            is_windows = is_windows or _OF_WINDOWS.search(chunk) is not None
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError:
                is_utf8 = False
    return is_utf8, is_windows


def _records(file: CsvFile, separator: str, most: int = _LOOKED_AT) -> list[tuple[int, list[str]]]:
    """Return the first records as they would be with a separator; none where they are no CSV."""
    try:
        other = CsvFile(
            file.path, file.form.model_copy(update={"separator": separator}), file.is_packed, file.has_sep_line
        )
        return list(itertools.islice(other.records(), most))
    except (DataError, csv.Error):
        return []


def _separator(file: CsvFile) -> str:
    """Return the separator that gives most records one length of two or more cells; a comma where none does."""
    best, most = ",", 0.0
    for separator in _SEPARATORS:
        lengths = [len(record) for _, record in _records(file, separator) if record]
        counts = Counter(length for length in lengths if length > 1)
        if counts:
            length, times = counts.most_common(1)[0]
            header = next(cells for _, cells in _records(file, separator) if len(cells) == length)
            share = 0.0 if _looks_like_a_row(header) else times / len(lengths)
            if share > most + 0.05:
                best, most = separator, share
    return best


def _above(file: CsvFile) -> int:
    """Return how many lines stand above the header: blank ones, and titles that fill few cells."""
    records = _records(file, file.form.separator)
    counts = Counter(len(record) for _, record in records if len(record) > 1)
    width = counts.most_common(1)[0][0] if counts else 0
    last = 0
    for line, record in records[:_MOST_ABOVE]:
        named = sum(bool(cell.strip()) for cell in record)
        if len(record) == width and named == width and not _looks_like_a_row(record):
            return last
        is_title = named <= width // 2 if len(record) == width else named <= 2
        if width < 3 or not is_title:
            return 0
        last = line
    return 0


def _looks_like_a_row(record: Sequence[str]) -> bool:
    return sum(bool(re.fullmatch(r"[-+\d.,:;|\t ]*\d[-+\d.,:;|\t ]*", cell)) for cell in record) > len(record) / 2


def _totals(file: CsvFile) -> dict[str, int]:
    """Return the words that begin lines of totals, whose other cells are empty or numbers, and the line of each."""
    records = file.records()
    next(records, None)
    rows = [(line, record) for line, record in records if record and is_total(record[0])]
    words: dict[str, int] = {}
    for line, record in rows:
        others = [cell for cell in record[1:] if cell.strip()]
        if all(_NUMBER.fullmatch(cell.strip()) for cell in others) or 2 * len(others) < len(record):
            words.setdefault(" ".join(record[0].split()).strip(" :=*"), line)
    return words


@dataclass
class _Marks:
    """What a column's numbers say of the marks in them."""

    decimal: set[str]
    thousands: set[str]
    ambiguous: set[str]


def _marks(texts: Iterable[str | None]) -> _Marks | None:
    """Return what the numbers of a column say, or None where it is no column of numbers."""
    cells = [text.strip() for text in texts if text is not None and text.strip()]
    numbers = [cell for cell in cells if _NUMBER.fullmatch(cell) and not _DATE.fullmatch(cell)]
    words = [cell for cell in cells if not _NUMBER.fullmatch(cell) and limit_of(cell) is None]
    if not numbers or any(_DATE.fullmatch(cell) for cell in cells) or len(words) > len(numbers):
        return None
    marks = _Marks(set(), set(), set())
    for number in numbers:
        _note_marks(number.partition("e")[0].partition("E")[0], marks)
    return marks


def _note_marks(number: str, marks: _Marks) -> None:
    """Add what one number says: of two marks the last is the decimal one, one that is repeated parts thousands."""
    separators = [
        mark for mark in number if mark in THOUSANDS and mark != "_"
    ]  # 1_000 is a code until somebody declares it
    if not separators:
        return
    last = separators[-1]
    if len(set(separators)) > 1:
        marks.decimal.add(last)
        marks.thousands.update(set(separators[:-1]))
    elif len(separators) > 1 or last not in ".,":
        marks.thousands.add(last)
    elif _AMBIGUOUS.fullmatch(number):
        marks.ambiguous.add(last)
    else:
        marks.decimal.add(last)


def notation(columns: Mapping[str, Iterable[str | None]]) -> tuple[dict[str, str], list[str]]:
    """Return the marks of the file's numbers where they are not the standard ones, and notes.

    Raises
    ------
    DataError
        If columns contradict each other, or 1.234 may be 1234 and nothing in the file says which.
    """
    columns_marks = {name: marks for name, texts in columns.items() if (marks := _marks(texts)) is not None}
    decimals = {mark: name for name, marks in columns_marks.items() for mark in sorted(marks.decimal & {".", ","})}
    if len(decimals) > 1:
        raise DataError(
            f"columns {decimals['.']!r} and {decimals[',']!r}: one is written with decimal points, the other with "
            "decimal commas, or one holds text. Write numbers in one way, or say which with --decimal and --thousands."
        )
    decimal = next(iter(decimals), None)
    thousands = {mark: name for name, marks in columns_marks.items() for mark in marks.thousands}
    unsure = {
        mark: name for name, marks in columns_marks.items() for mark in sorted(marks.ambiguous) if mark != decimal
    }
    if decimal is None and not thousands and unsure:
        mark, name = next(iter(unsure.items()))
        raise DataError(
            f"column {name!r}: numbers such as 1{mark}234 may be thousands or have three decimals, and nothing in the "
            f"file says which. Give --thousands {mark} or --decimal {mark}."
        )
    thousands |= unsure
    if len(thousands) > 1:
        raise DataError("numbers are written with several marks between thousands; write them in one way.")
    part = next(iter(thousands), "")
    decimal = decimal or (("," if part == "." else ".") if part else None)
    if part and part == decimal:
        raise DataError(
            f"column {thousands[part]!r}: {part!r} parts thousands here and decimals elsewhere; write numbers in one "
            "way, or say which with --decimal and --thousands."
        )
    fields = ({"decimal": decimal} if decimal == "," else {}) | ({"thousands": part} if part else {})
    notes = ["numbers are written with a decimal comma (decimal)"] if decimal == "," else []
    notes += [f"{part!r} stands between thousands (thousands), as in column {thousands[part]!r}"] if part else []
    return fields, notes
