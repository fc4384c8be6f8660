"""Sheets of Excel as rows of cells, each read by its own type and its own format of numbers."""

import io
import re
import zipfile
from collections.abc import Iterable, Sequence
from datetime import datetime, time
from pathlib import Path
from typing import Any

from dpsynth.columns.matching import canonical_text
from dpsynth.errors import DataError, nearest
from dpsynth.files.csvfiles import total_line
from dpsynth.schema.dialect import FileFormat, is_total

__all__ = ["old_workbook_rows", "sheet_table", "workbook_rows"]

Rows = list[list[Any]]
_HEADER = (
    "Name it; or, where titles stand above the header, say how many rows they take with --skip "
    "(in the schema: file: {skip: 2})."
)
_UNCALCULATED = re.compile(
    rb'<c(?![^>]*\bt="str")[^>]*>\s*<f(?:\s[^>]*)?(?:/>|>[^<]*</f>)\s*(?:<v\s*/>|<v></v>)?\s*</c>'
)
"""A formula without the value that it gives; one that gives an empty text says that it gives text."""


def workbook_rows(path: Path, sheet: str = "") -> Rows:
    """Return the cells of a sheet of an Excel file; the first one that is shown, where none is named.

    Parameters
    ----------
    path
        The file.
    sheet
        The sheet's name.

    Raises
    ------
    DataError
        If it has no such sheet, or formulas were never calculated.
    """
    import openpyxl

    with path.open("rb") as file:  # by its content: openpyxl goes by a path's ending
        book = openpyxl.load_workbook(file, read_only=True, data_only=True)
        shown = {page.title: page for page in book.worksheets if page.sheet_state == "visible"}
        page = _chosen(path.name, sheet, {page.title: page for page in book.worksheets}, shown)
        _check_calculated(path)
        page.reset_dimensions()  # what a program wrote of its size may be wrong
        return [[_cell(cell) for cell in row] for row in page.iter_rows()]


def _chosen(file: str, sheet: str, pages: dict[str, Any], shown: dict[str, Any]) -> Any:
    """Return the sheet that is named, or the first that is shown."""
    if not sheet and (shown or pages):
        return next(iter((shown or pages).values()))
    if sheet not in pages:
        listed = ", ".join(map(repr, pages)) or "none"
        raise DataError(f"{file}: there is no sheet {sheet!r}{nearest(sheet, tuple(pages))}; its sheets: {listed}.")
    return pages[sheet]


def _check_calculated(path: Path) -> None:
    """Refuse formulas whose value nobody has calculated: they would read as missing values."""
    with zipfile.ZipFile(path) as packed:
        pages = [name for name in packed.namelist() if re.fullmatch(r"xl/worksheets/[^/]*\.xml", name)]
        if any(_UNCALCULATED.search(packed.read(name)) for name in pages):
            raise DataError(
                f"{path.name}: holds formulas that were never calculated, so their values are not in the file. "
                "Open it in Excel or LibreOffice, and save it."
            )


def _cell(cell: Any) -> Any:
    """Return a cell's value: a date where its own format shows days alone."""
    from openpyxl.styles.numbers import is_datetime

    value = cell.value
    if isinstance(value, datetime) and is_datetime(cell.number_format) == "date" and value.time() == time.min:
        return value.date()
    return None if value == "" else value


def old_workbook_rows(path: Path, sheet: str = "") -> Rows:
    """Return the cells of a sheet of an old Excel file (.xls); arguments and errors as `workbook_rows`."""
    import xlrd

    with xlrd.open_workbook(str(path), logfile=io.StringIO(), on_demand=True) as book:
        names = book.sheet_names()
        shown = {name: name for place, name in enumerate(names) if _is_shown(book, place)}
        page = book.sheet_by_name(_chosen(path.name, sheet, {name: name for name in names}, shown))
        return [[_old_cell(cell, book.datemode) for cell in page.row(row)] for row in range(page.nrows)]


def _is_shown(book: Any, place: int) -> bool:
    visibilities = getattr(book, "_sheet_visibility", ())
    return place >= len(visibilities) or visibilities[place] == 0


def _old_cell(cell: Any, datemode: int) -> Any:
    """Return a cell's value by its type, which its own format of numbers decides."""
    import xlrd

    match cell.ctype:
        case xlrd.XL_CELL_EMPTY | xlrd.XL_CELL_BLANK:
            return None
        case xlrd.XL_CELL_DATE:
            return xlrd.xldate_as_datetime(cell.value, datemode) if cell.value >= 1 else _clock(cell.value)
        case xlrd.XL_CELL_BOOLEAN:
            return bool(cell.value)
        case xlrd.XL_CELL_ERROR:
            return xlrd.error_text_from_code.get(cell.value, "#N/A")
    return None if cell.value == "" else cell.value


def _clock(share: float) -> time:
    """Return a share of a day as a time."""
    seconds = min(round(share * 86_400), 86_399)
    return time(seconds // 3600, seconds // 60 % 60, seconds % 60)


def sheet_table(
    file: str, rows: Sequence[Sequence[Any]], form: FileFormat, *, keep_empty: bool = False
) -> tuple[list[str], Rows]:
    """Return the header of a sheet and its rows, all as long as the header.

    Parameters
    ----------
    file
        The file's name, for messages.
    rows
        Cells.
    form
        Whose `skip` says how many rows stand above the header, and `totals` which rows are no patients.
    keep_empty
        Whether rows without any value are kept.

    Raises
    ------
    DataError
        If the header has a gap, a row has more cells than the header, or is one of totals that nobody declared.
    """
    header = _trimmed(rows[form.skip] if form.skip < len(rows) else [])
    if not header:
        raise DataError(f"{file}: its sheet has no header {_where(form)}; expected the names of the columns.")
    if any(_is_empty(name) for name in header):
        gap = next(place for place, name in enumerate(header, start=1) if _is_empty(name))
        raise DataError(f"{file}: column {gap} has no name in the header {_where(form)}. {_HEADER}")
    kept = []
    for number, cells in enumerate(rows[form.skip + 1 :], start=form.skip + 2):
        row = _trimmed(cells)
        if _is_left_out(file, number, row, form, keep_empty=keep_empty):
            continue
        if len(row) > len(header):
            raise DataError(
                f"{file}: row {number} has cells beyond the last column that the header {_where(form)} names. {_HEADER}"
            )
        kept.append([*row, *[None] * (len(header) - len(row))])
    return [canonical_text(name).strip() for name in header], kept


def _where(form: FileFormat) -> str:
    return f"in row {form.skip + 1}"


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _trimmed(cells: Iterable[Any]) -> list[Any]:
    """Return cells without the empty ones at the end."""
    row = list(cells)
    while row and _is_empty(row[-1]):
        row.pop()
    return row


def _is_left_out(file: str, number: int, row: Sequence[Any], form: FileFormat, *, keep_empty: bool) -> bool:
    """Return whether a row is no patient: it is empty, or one of totals; refuse totals that nobody declared."""
    if not row:
        return not keep_empty
    if not isinstance(row[0], str):
        return False
    if is_total(row[0], form.totals):
        return True
    if is_total(row[0]):
        raise DataError(total_line(Path(file), number, row[0]))
    return False
