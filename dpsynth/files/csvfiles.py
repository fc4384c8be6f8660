"""CSV files as they come: unpacked, decoded, and without the lines above the header.

What a file says itself is obeyed: a byte-order mark says its encoding, a first line ``sep=;`` its separator, and the
first bytes of gzip that it is packed. All else is as the `FileFormat` declares.
"""

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from dpsynth.errors import DataError, FileError
from dpsynth.files.signatures import unreadable
from dpsynth.schema.dialect import FileFormat, is_total, separator_name

__all__ = ["CsvFile", "check_header", "first_bytes", "fitting", "is_packed", "option", "total_line"]

_START = 65_536
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_SEP_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_LIKELY = (";", "\t", "|", ",")
_MOST_ABOVE = 30
"""Lines that are looked at for a header below a title."""


def option(field: str, value: str) -> str:
    """Return how a person declares a part of the format: on the command line, and in the schema."""
    shown = {"\t": "tab"}.get(value, value)
    typed = shown if re.fullmatch(r"[\w.,-]+", shown) else f'"{shown}"'
    written = shown if re.fullmatch(r"[\w-]+", shown) else f'"{shown}"'
    return f"--{field} {typed} (in the schema: file: {{{field}: {written}}})"


def first_bytes(path: Path) -> bytes:
    """Return the beginning of a file, unpacked where it is gzip, or say why it cannot be a table.

    Raises
    ------
    FileError
        If it is a folder or cannot be read.
    DataError
        If it is another kind of file, which is named, or empty.
    """
    if path.is_dir():
        raise FileError(f"{path.name}: is a folder; give a CSV or Parquet file.")
    try:
        with path.open("rb") as file:
            start = file.read(_START)
        if start.startswith(b"\x1f\x8b"):
            with gzip.open(path) as packed:
                start = packed.read(_START)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise DataError(f"{path.name}: is not a whole gzip file; pack it again.") from None
    except OSError as error:
        raise FileError(f"{path.name}: cannot be read ({error.strerror or 'unknown reason'}).") from None
    kind = unreadable(start, ending=path.suffix.lower())
    if kind is not None:
        raise DataError(f"{path.name}: is {kind[0]}; expected CSV, or Parquet. {kind[1]}")
    if not start.strip():
        raise DataError(f"{path.name}: is empty; expected a header line and at least one row.")
    return start


def is_packed(path: Path) -> bool:
    """Return whether a file is gzip."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


@dataclass(frozen=True)
class CsvFile:
    """A CSV file with the format that holds for it.

    Attributes
    ----------
    path
        The file.
    form
        What was declared, with what the file says itself put in.
    is_packed
        Whether it is gzip.
    has_sep_line
        Whether its first line says ``sep=``.
    """

    path: Path
    form: FileFormat
    is_packed: bool = False
    has_sep_line: bool = False

    @classmethod
    def of(cls, path: Path, form: FileFormat) -> "CsvFile":
        """Return a file with the format that is declared, but for what it says itself.

        Raises
        ------
        FileError, DataError
            If it is no file of text in this encoding.
        """
        start = first_bytes(path)
        encoding = next((name for mark, name in _MARKS if start.startswith(mark)), form.codec)
        _check_nul(path, start, encoding)
        encoded = form.model_copy(update={"encoding": encoding})
        file = cls(path, encoded, is_packed(path))
        with file.text() as text:
            line = _SEP_LINE.fullmatch(file._guarded(text.readline))
        if line is None:
            return file
        return cls(path, encoded.model_copy(update={"separator": line[1]}), is_packed(path), has_sep_line=True)

    @property
    def above(self) -> int:
        """Lines above the header."""
        return self.form.skip + self.has_sep_line

    def raw(self) -> IO[bytes]:
        """Open the file as bytes, unpacked."""
        return cast("IO[bytes]", (gzip.open if self.is_packed else Path.open)(self.path, "rb"))

    def text(self) -> IO[str]:
        """Open the file as text."""
        return io.TextIOWrapper(self.raw(), encoding=self.form.encoding, newline="")

    def _guarded(self, read: Any) -> Any:
        """Return what reading gives, or say what is wrong with the text."""
        try:
            return read()
        except (UnicodeDecodeError, UnicodeError):
            raise DataError(self.not_text()) from None
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise DataError(f"{self.path.name}: is not a whole gzip file; pack it again.") from None

    def not_text(self) -> str:
        """Return what to say where a file is not in its encoding."""
        encoding = {"utf-8-sig": "utf-8"}.get(self.form.encoding, self.form.encoding).upper()
        return (
            f"{self.path.name}: is not text in {encoding}. If it is from Excel or an older hospital system, give "
            f"{option('encoding', 'windows-1252')}, or save it as CSV in UTF-8."
        )

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """Return each record below the lines above the header, with the number of its last line; raises `DataError`."""
        with self.text() as text:
            lines = iter(text)
            for _ in range(self.above):
                self._guarded(lambda: next(lines, ""))
            reader = csv.reader(lines, delimiter=self.form.separator)
            while True:
                try:
                    record = self._guarded(lambda: next(reader, None))
                except csv.Error:
                    line = self.above + reader.line_num
                    raise DataError(f"{self.path.name}: line {line} cannot be read (an unclosed quote?).") from None
                if record is None:
                    return
                yield self.above + reader.line_num, record

    def header(self) -> list[str]:
        """Return the cells of the first record."""
        return next((record for _, record in self.records()), [])

    def stream(self) -> Any:
        """Open the file for Arrow, as bytes of UTF-8."""
        import pyarrow as pa

        raw = pa.input_stream(str(self.path), compression="gzip" if self.is_packed else None)
        if codecs.lookup(self.form.encoding).name in ("utf-8", "utf-8-sig"):
            return raw
        return pa.transcoding_input_stream(raw, self.form.encoding, "utf-8")

    def fault(self, width: int) -> str | None:
        """Return what the first damaged line is, with its number; None where every line has `width` cells."""
        for line, record in self.records():
            if record and is_total(record[0]) and not is_total(record[0], self.form.totals):
                return total_line(self.path, line, record[0])
            if len(record) not in (0, width) and not (record and is_total(record[0], self.form.totals)):
                return (
                    f"{self.path.name}: line {line} has more or fewer cells than the header has names "
                    f"({len(record)}, not {width}); correct the file (quote {self._separators})."
                )
        return None

    @property
    def _separators(self) -> str:
        return separator_name(self.form.separator)


def total_line(path: Path, line: int, word: str) -> str:
    """Return what to say of a line of totals; its first cell is one of a list of words, so no patient's value."""
    plain = " ".join(word.split()).strip(" :=*")
    return (
        f"{path.name}: line {line} begins with {plain!r}: it looks like a line of totals, and no patient. Delete it, "
        f"or leave such lines out with {option('totals', plain)}."
    )


def _check_nul(path: Path, start: bytes, encoding: str) -> None:
    """Refuse bytes of zero, which text has in UTF-16 and UTF-32 alone."""
    if b"\x00" not in start or "16" in encoding or "32" in encoding:
        return
    odd, even = start[1::2].count(0), start[::2].count(0)
    if max(odd, even) > len(start) / 8 and min(odd, even) < len(start) / 50:
        order = "utf-16-le" if odd > even else "utf-16-be"
        raise DataError(f"{path.name}: looks like text in UTF-16; give {option('encoding', order)}.")
    raise DataError(f"{path.name}: is a binary file that is not known; expected CSV, or Parquet. Export it as one.")


def fitting(path: Path, form: FileFormat, names: Collection[str]) -> CsvFile:
    """Return a file with the format in which its header names the declared columns.

    That is the declared format; without the lines to skip where the first line is the header already; or the standard
    one, in which dpsynth and others write: commas, points, UTF-8. The header alone decides, which is public.

    Parameters
    ----------
    path
        The file.
    form
        The declared format.
    names
        The columns that the file must have.

    Raises
    ------
    FileError, DataError
        If the file cannot be read in the declared format.
    """
    fault = None
    plain = FileFormat(totals=form.totals)
    for candidate in dict.fromkeys((form, form.model_copy(update={"skip": 0}), plain)):
        try:
            file = CsvFile.of(path, candidate)
            if set(names) <= set(file.header()):
                return file
        except DataError as error:
            fault = fault or error
    if fault is not None and form == plain:
        raise fault
    return CsvFile.of(path, form)


def check_header(file: CsvFile, header: Sequence[str], names: Collection[str] = ()) -> None:
    """Refuse a first record that is no header, and say which option reads the file.

    Parameters
    ----------
    file
        The file.
    header
        Its first record.
    names
        The declared columns, where there is a schema.

    Raises
    ------
    DataError
        Naming the option.
    """
    name, separator = file.path.name, file.form.separator
    if names and not set(header) & set(names):
        line = _line_of(file, names)
        if line is not None:
            blank = "" if any(header) else "its first line is blank; "
            raise DataError(
                f"{name}: {blank}the names of the columns stand in line {line}. To leave out what is above, give "
                f"{option('skip', str(line - 1))}."
            )
    if not header:
        raise DataError(f"{name}: its first line is blank; expected the names of the columns.")
    if len(header) == 1 and header[0] not in names:
        mark = next((mark for mark in _LIKELY if mark != separator and mark in header[0]), None)
        if mark is not None:
            raise DataError(
                f"{name}: seems to be separated by {separator_name(mark)}, expected {separator_name(separator)}. "
                f"Give {option('separator', mark)}."
            )
    if any(not cell for cell in header):
        rest = "" if names else " If it is a title, say how many lines to leave out with --skip."
        raise DataError(f"{name}: a column has no name in the header; name it, and declare or drop it.{rest}")


def _line_of(file: CsvFile, names: Collection[str]) -> int | None:
    """Return the number of a line below the first that names the declared columns, in whatever separator."""
    with file.text() as text:
        for number in range(1, _MOST_ABOVE + 1):
            line = file._guarded(text.readline)  # noqa: SLF001  (one module)
            for mark in {file.form.separator, *_LIKELY}:
                cells = next(csv.reader([line], delimiter=mark), [])
                if number > 1 and set(names) <= set(cells):
                    return number
    return None
