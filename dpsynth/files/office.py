"""Tables of Excel, Stata, SAS and SPSS: which of them a file is, and its cells as Python objects.

What a column is, the file itself says (a label set, a format of dates, a missing value of the user), or the cell does
(Excel). No column is given a type by the values that stand in it.
"""

import importlib.util
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dpsynth.errors import DataError, InputError
from dpsynth.files.workbooks import old_workbook_rows, sheet_table, workbook_rows
from dpsynth.schema.dialect import FileFormat

__all__ = ["OfficeFile", "office_file"]

_START = 65_536
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_SAS = bytes.fromhex("000000000000000000000000c2ea8160b31411cfbd92080009c7318c181f1011")
_MARKS = {
    _OLE: "xls",
    b"$FL2@(#)": "sav",
    b"$FL3@(#)": "sav",
    b"<stata_dta>": "dta",
    b"HEADER RECORD*******LIB": "xport",
    _SAS: "sas7bdat",
}
"""How a file of each kind begins."""
_XPORT_RECORD = 80
"""A SAS transport file is made of records of so many bytes; it does not say how many rows it has."""
_KINDS = {
    "xlsx": ("an Excel file", "openpyxl"),
    "xls": ("an old Excel file (.xls)", "xlrd"),
    "dta": ("a Stata file (.dta)", "pyreadstat"),
    "sas7bdat": ("a SAS file (.sas7bdat)", "pyreadstat"),
    "xport": ("a SAS transport file (.xpt)", "pyreadstat"),
    "sav": ("an SPSS file (.sav)", "pyreadstat"),
    "por": ("a portable SPSS file (.por)", "pyreadstat"),
}
"""For each kind what it is called, and the package that reads it; those of pyreadstat are called as its functions."""


@dataclass(frozen=True)
class OfficeFile:
    """A table of another program.

    Attributes
    ----------
    path
        The file.
    kind
        Which program's.
    form
        How it is declared: `sheet`, `skip` and `totals` hold for Excel, `encoding` for the others.
    """

    path: Path
    kind: str
    form: FileFormat

    @property
    def is_workbook(self) -> bool:
        """Whether it has sheets."""
        return self.kind in ("xlsx", "xls")

    def names(self) -> list[str]:
        """Return the names of the columns; raises as `columns`."""
        if self.is_workbook:
            return self._sheet()[0]
        _, facts = self._stored(metadataonly=True)
        return list(facts.column_names)

    def columns(self, wanted: Sequence[str] | None = None, *, keep_empty: bool = False) -> dict[str, list[Any]]:
        """Return columns as Python objects, a missing value as None, each read by itself.

        Parameters
        ----------
        wanted
            Names of columns; all where left out.
        keep_empty
            Whether rows of a sheet without any value are kept.

        Raises
        ------
        DataError
            If it cannot be read, is encrypted or damaged, or has no such sheet.
        InputError
            If the package that reads it is not installed; the message names the extra.

        Notes
        -----
        Privacy contract: a code that the file gives a label becomes the label, wherever it stands; another code stays a
        code. Neither depends on any other row.
        """
        if self.is_workbook:
            names, rows = self._sheet(keep_empty=keep_empty)
            places = [names.index(name) for name in (names if wanted is None else wanted)]
            return {names[place]: [row[place] for row in rows] for place in places}
        values, facts = self._stored(**({} if wanted is None else {"usecols": list(wanted)}))
        chosen = list(values) if wanted is None else wanted
        return {name: _labelled(values[name], name, facts) for name in chosen}

    def labels(self) -> dict[str, tuple[str, ...]]:
        """Return for each column that has them the labels of its codes, in the order of the codes."""
        if self.is_workbook:
            return {}
        _, facts = self._stored(metadataonly=True)
        sets = {name: facts.variable_value_labels.get(name) for name in facts.column_names}
        return {
            name: tuple(dict.fromkeys(str(labels[code]) for code in sorted(labels, key=_code_order)))
            for name, labels in sets.items()
            if labels
        }

    @cached_property
    def _rows(self) -> list[list[Any]]:
        read = workbook_rows if self.kind == "xlsx" else old_workbook_rows
        with self._guarded():
            return read(self.path, self.form.sheet)

    def _sheet(self, *, keep_empty: bool = False) -> tuple[list[str], list[list[Any]]]:
        return sheet_table(self.path.name, self._rows, self.form, keep_empty=keep_empty)

    def _stored(self, **options: Any) -> tuple[dict[str, list[Any]], Any]:
        """Return what pyreadstat reads: lists of Python objects, and what the file says of them."""
        with self._guarded():
            import pyreadstat

            read: Callable[..., Any] = getattr(pyreadstat, f"read_{self.kind}")
            if self.form.codec not in ("utf-8", "utf-8-sig"):
                options["encoding"] = self.form.codec.upper()
            if self.kind == "xport" and self.path.stat().st_size % _XPORT_RECORD:
                raise ValueError("cut")
            values, facts = read(str(self.path), output_format="dict", **options)
        return values, facts

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Say in our words what a reader of another library says, which may hold a value."""
        what, package = _KINDS[self.kind]
        if importlib.util.find_spec(package) is None:
            raise InputError(
                f"{self.path.name}: is {what}, which is read by {package}, and that is not installed. "
                "Do pip install 'dpsynth[office]', or export the table as CSV or Parquet."
            )
        try:
            with warnings.catch_warnings():  # openpyxl's hold values of cells
                warnings.simplefilter("ignore")
                yield
        except (DataError, MemoryError):
            raise
        except Exception as fault:  # the readers raise whatever a damaged file leads them to
            raise DataError(f"{self.path.name}: {_fault(what, str(fault))}") from None


def _fault(what: str, said: str) -> str:
    """Return what to say where a reader failed."""
    if "encoding" in said:
        return (
            f"is {what} whose text is in another encoding than it says. Give the right one, such as "
            "--encoding windows-1252 (in the schema: file: {encoding: windows-1252})."
        )
    if "encrypt" in said.lower() or "password" in said.lower():
        return f"is {what} with a password; it is not read. Save it without one, where that is safe."
    return f"is not a whole file, though it begins as {what}; save it again, or export the table as CSV or Parquet."


def office_file(path: Path, form: FileFormat | None = None) -> OfficeFile | None:
    """Return a table of Excel, Stata, SAS or SPSS; None where a file is none, as its first bytes say.

    Parameters
    ----------
    path
        The file.
    form
        How it is declared to be written.

    Raises
    ------
    DataError
        If it is a workbook with a password.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_START)
    except OSError:  # a folder, or nothing: the next to read it says so
        return None
    kind = _kind(start, path.suffix.lower())
    if kind == "xls" and _ENCRYPTED in path.read_bytes():
        raise DataError(f"{path.name}: {_fault('an Excel file', 'encrypted')}")
    return None if kind is None else OfficeFile(path, kind, form or FileFormat())


def _kind(start: bytes, ending: str) -> str | None:
    if start.startswith(b"PK\x03\x04"):
        is_workbook = ending in (".xlsx", ".xlsm") or re.search(rb"xl/(workbook|worksheets|_rels|styles)", start)
        return "xlsx" if is_workbook else None
    kind = next((kind for mark, kind in _MARKS.items() if start.startswith(mark)), None)
    if kind is not None or _is_old_stata(start):
        return kind or "dta"
    return "por" if b"ASCII SPSS PORT FILE" in start[:500].replace(b"\r\n", b"") else None


def _is_old_stata(start: bytes) -> bool:
    """Return whether these are the version, byte order and file type of Stata before 13."""
    return len(start) > 4 and start[0] in (*range(102, 116), 0x69) and start[1] in (1, 2) and start[2:4] == b"\x01\x00"


def _code_order(code: Any) -> tuple[bool, Any]:
    return isinstance(code, str), code


def _labelled(values: Sequence[Any], name: str, facts: Any) -> list[Any]:
    """Return values with their labels in place of codes; a number of few bits as the number that it is shown as."""
    import numpy as np

    labels = facts.variable_value_labels.get(name) or {}
    is_single = (facts.readstat_variable_types or {}).get(name) == "float"  # Stata's: 0.045, not 0.04500000178813934
    shown = [np.float32(value) if is_single and isinstance(value, float) else value for value in values]
    return [None if value is None else labels.get(_unpadded(value), value) for value in shown]


def _unpadded(value: Any) -> Any:
    return value.rstrip(" ") if isinstance(value, str) else value
