"""CSV files as Arrow tables: rows that are patients, columns in the types of their declarations."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from dpsynth.columns.kinds import Boolean, Categorical, Datetime, Identifier, Numeric
from dpsynth.errors import DataError, FileError
from dpsynth.files.csvfiles import CsvFile, check_header, total_line
from dpsynth.schema.dialect import TOTALS, FileFormat, is_total, standard_numbers

if TYPE_CHECKING:
    from dpsynth.schema.schema import Schema

__all__ = ["csv_batches", "mostly_numbers", "read_header", "read_texts", "typed_csv"]

_BLOCK = 16 * 2**20
_BLANK = ("", " ", "  ", "   ")
"""An empty cell; Arrow takes one of blanks for text."""
_NUMERIC = 0.5
"""Without a schema a column is taken for numbers where at least so many of its different values are some."""


def read_header(file: CsvFile, names: Collection[str] = ()) -> list[str]:
    """Return the column names of a CSV file, where `names` are those that it may well have.

    Raises
    ------
    DataError
        If the first line is no header in the file's format; the message names the option that reads it.
    """
    header = file.header()
    check_header(file, header, names)
    return header


def typed_csv(
    file: CsvFile,
    header: Sequence[str],
    columns: Sequence[str],
    schema: "Schema",
    *,
    keep_empty: bool,
    on_damaged: Callable[[Any], str] | None = None,
) -> Any:
    """Return the declared columns of a CSV file.

    Parameters
    ----------
    file, header
        The file and its column names.
    columns
        The columns to read.
    schema
        Their declarations.
    keep_empty
        Whether a row without any value stays; else it is no patient and left out.
    on_damaged
        Called with each line of another length, returns ``"skip"`` to pass over it. Columns are then text, to be
        checked value by value. Where left out, such a line is an error.

    Raises
    ------
    FileError, DataError
        If the file is damaged, holds a line of totals, or numbers in another notation than is declared.

    Notes
    -----
    Privacy contract: whether a row is a patient, and how a cell is read, depends on that row and that cell alone.
    """
    lenient = on_damaged is not None
    types = _types(file, header, columns, schema, as_text=lenient)
    table = _parsed(file, header, types, _nulls(schema), on_damaged)
    passed_over = (lambda _: "skip") if lenient else None  # damaged lines were counted when the cells were read
    table = _patients(
        file, header, table, schema, keep_empty=keep_empty, texts=lambda: _texts(file, header, passed_over)
    )
    if not file.form.is_plain:
        table = _standard(file, table.select(columns), schema, refuse=not lenient)
    return table.select(columns)


def csv_batches(
    file: CsvFile,
    header: Sequence[str],
    columns: Sequence[str],
    schema: "Schema",
    on_damaged: Callable[[Any], str] | None = None,
) -> Iterator[Any]:
    """Yield the declared columns of a CSV file block by block; all blocks together are what `typed_csv` returns.

    Parameters, errors and privacy contract are those of `typed_csv`; a row without any value is left out.
    """
    lenient = on_damaged is not None
    passed_over = (lambda _: "skip") if lenient else None  # damaged lines were counted when the cells were read
    types, blocks = _types(file, header, columns, schema, as_text=lenient), _Texts(file, header, passed_over)
    for number, block in enumerate(_blocks(file, header, types, _nulls(schema), on_damaged)):
        table = _patients(
            file, header, block, schema, keep_empty=False, texts=partial(blocks.at, number, block.num_rows)
        )
        if not file.form.is_plain:
            table = _standard(file, table.select(columns), schema, refuse=not lenient)
        yield table.select(columns)


class _Texts:
    """The blocks of a file as text, read beside the typed ones, as far as they are asked for."""

    def __init__(self, file: CsvFile, header: Sequence[str], on_damaged: Callable[[Any], str] | None) -> None:
        self._file, self._header, self._on_damaged = file, header, on_damaged
        self._blocks: Iterator[tuple[int, Any]] | None = None

    def at(self, number: int, rows: int) -> Any:
        """Return the block of this number, which has so many rows; numbers rise from call to call."""
        if self._blocks is None:
            types = dict.fromkeys(self._header, _as_text())
            self._blocks = enumerate(_blocks(self._file, self._header, types, [""], self._on_damaged))
        texts = next((block for place, block in self._blocks if place == number), None)
        if texts is None or texts.num_rows != rows:
            raise DataError(f"{self._file.path.name}: changed while it was read; read it again when it is at rest.")
        return texts


def _nulls(schema: "Schema") -> list[str]:
    return list({*schema.missing_values, *_BLANK})


def _types(
    file: CsvFile, header: Sequence[str], columns: Sequence[str], schema: "Schema", *, as_text: bool
) -> dict[str, Any]:
    """Return as which type each column is read; the first one too, which tells lines of totals."""
    types = {name: _as_text() if as_text else _arrow_type(schema, name, plain=file.form.is_plain) for name in columns}
    if file.form.totals or header[0] not in types:
        types = {**types, header[0]: _as_text()}
    return types


def _texts(file: CsvFile, header: Sequence[str], on_damaged: Callable[[Any], str] | None) -> Any:
    return _parsed(file, header, dict.fromkeys(header, _as_text()), [""], on_damaged)


def read_texts(file: CsvFile, header: Sequence[str]) -> Any:
    """Return every column of a CSV file as text, numbers in standard notation; raises as `typed_csv`."""
    import pyarrow.compute as pc

    table = _parsed(file, header, dict.fromkeys(header, _as_text()), [""])
    table = _without_totals(file, table, header[0])
    if len(header) > 1:
        table = table.filter(pc.invert(_is_empty(table)))
    if file.form.is_plain:
        return table
    return _map_columns(table, lambda _, text: _mostly_numbers(text, file))


def _as_text() -> Any:
    import pyarrow as pa

    return pa.string()


def _map_columns(table: Any, change: Any) -> Any:
    import pyarrow as pa

    return pa.table({name: change(name, table[name]) for name in table.column_names})


def _mostly_numbers(text: Any, file: CsvFile) -> Any:
    """Return a column in standard notation where most of its different values are numbers."""
    import pyarrow.compute as pc

    return standard_numbers(text, file.form)[0] if mostly_numbers(pc.unique(text), file.form) else text


def mostly_numbers(different: Any, form: FileFormat) -> bool:
    """Return whether most of a column's different texts are numbers, as a file of this format writes them.

    Parameters
    ----------
    different
        A pyarrow array of the texts.
    form
        The format.
    """
    import pyarrow.compute as pc

    standard, other = standard_numbers(different, form)
    there = pc.not_equal(pc.utf8_trim_whitespace(different), "")
    changed = pc.match_substring_regex(
        pc.utf8_trim_whitespace(standard), r"^[-+]?[0-9.]*[0-9][0-9.]*(?:[eE][-+]?[0-9]+)?$"
    )
    numbers = pc.sum(pc.and_(pc.and_(changed, pc.invert(other)), there)).as_py() or 0
    return bool(numbers >= _NUMERIC * (pc.sum(there).as_py() or 1))


def _standard(file: CsvFile, table: Any, schema: "Schema", *, refuse: bool) -> Any:
    """Return a table with the numbers of its numeric columns, and of lists of numbers, in standard notation."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def change(name: str, text: Any) -> Any:
        column = schema.columns[name]
        if not isinstance(column, Numeric) and not _lists_numbers(column):
            return text
        standard, other = standard_numbers(text.cast(pa.string()), file.form)
        if refuse and isinstance(column, Numeric) and pc.any(other).as_py():
            raise DataError(_other_notation(name, file))
        return standard

    return _map_columns(table, change)


def _lists_numbers(column: Any) -> bool:
    return isinstance(column, Categorical) and any(isinstance(value, float) for value in column.values)


def _other_notation(name: str, file: CsvFile) -> str:
    marks = {".": "a point", ",": "a comma"}
    declared = f"with {marks[file.form.decimal]} before the decimals"
    if file.form.thousands:
        declared += f" and {file.form.thousands!r} between thousands"
    return (
        f"column {name!r}: found a number in another notation, expected one {declared}. Correct the data, or say how "
        "its numbers are written with --decimal and --thousands (in the schema: file: {decimal: ..., thousands: ...})."
    )


def _patients(
    file: CsvFile,
    header: Sequence[str],
    table: Any,
    schema: "Schema",
    *,
    keep_empty: bool,
    texts: Callable[[], Any],
) -> Any:
    """Return the rows that are patients: no declared totals, and no row of separators alone.

    `texts` gives the same rows with every column as text; it is asked only where a row has no declared value.

    Raises
    ------
    DataError
        If a line of totals is there that was not declared.

    Notes
    -----
    Privacy contract: whether a row is a patient depends on its own cells alone.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    first = header[0]
    if keep_empty or len(header) == 1:
        empty = None
    else:
        empty = _is_empty(table)
        if pc.any(empty).as_py():  # of rows without a declared value, are all other cells empty too?
            empty = pc.and_(empty, _is_empty(texts()))
    if empty is not None and pc.any(empty).as_py():
        table = table.filter(pc.invert(empty))
    words = table[first]
    if pa.types.is_string(words.type) or pa.types.is_dictionary(words.type):
        _check_totals(file, table, schema)
    return _without_totals(file, table, first)


def _check_totals(file: CsvFile, table: Any, schema: "Schema") -> None:
    """Refuse an undeclared line of totals, where its first cell is no declared category."""
    import pyarrow as pa
    import pyarrow.compute as pc

    first = file.header()[0]
    column = schema.columns.get(first)
    declared = set(map(str, column.categories)) if isinstance(column, Categorical | Boolean) else set()
    for word in pc.unique(table[first].cast(pa.string())).to_pylist():
        if word is None or word.strip() in declared or not is_total(word) or is_total(word, file.form.totals):
            continue
        rows = table.filter(pc.equal(table[first].cast(pa.string()), word))
        if first not in schema.to_discover or _is_mostly_empty(rows):
            line = next((line for line, record in file.records() if record and record[0] == word), 0)
            raise DataError(total_line(file.path, line, word))


def _is_mostly_empty(rows: Any) -> bool:
    cells = rows.num_rows * rows.num_columns
    blank = sum(_blank(rows[name]).to_pylist().count(True) for name in rows.column_names)
    return bool(2 * blank >= cells - rows.num_rows)


def _without_totals(file: CsvFile, table: Any, first: str) -> Any:
    """Return the rows whose first cell is none of the words that are declared as totals."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not file.form.totals:
        return table
    words = table[first].cast(pa.string())
    totals = [word for word in pc.unique(words).to_pylist() if word is not None and is_total(word, file.form.totals)]
    return table.filter(pc.invert(pc.is_in(words, value_set=pa.array(totals, pa.string())))) if totals else table


def _is_empty(table: Any) -> Any:
    """Return (rows,) where every cell is empty or blank."""
    from functools import reduce

    import pyarrow.compute as pc

    return reduce(pc.and_, [_blank(table[name]) for name in table.column_names])


def _blank(column: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not (pa.types.is_string(column.type) or pa.types.is_dictionary(column.type)):
        return pc.is_null(column)
    return pc.or_kleene(pc.is_null(column), pc.equal(pc.utf8_trim_whitespace(column.cast(pa.string())), "")).fill_null(
        True
    )


def _parsed(
    file: CsvFile,
    header: Sequence[str],
    types: dict[str, Any],
    missing_values: list[str],
    on_damaged: Callable[[Any], str] | None = None,
) -> Any:
    """Return the columns that `types` names, read as those types."""
    import pyarrow.csv as pa_csv

    options = _options(file, types, missing_values, on_damaged)
    return _guarded(file, header, lambda: pa_csv.read_csv(file.stream(), **options))


def _blocks(
    file: CsvFile,
    header: Sequence[str],
    types: dict[str, Any],
    missing_values: list[str],
    on_damaged: Callable[[Any], str] | None,
) -> Iterator[Any]:
    """Yield the columns that `types` names block by block, read as those types."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    options = _options(file, types, missing_values, on_damaged)
    reader = _guarded(file, header, lambda: pa_csv.open_csv(file.stream(), **options))
    while (batch := _guarded(file, header, lambda: next(reader, None))) is not None:
        yield pa.Table.from_batches([batch])


def _options(
    file: CsvFile, types: dict[str, Any], missing_values: list[str], on_damaged: Callable[[Any], str] | None
) -> dict[str, Any]:
    import pyarrow.csv as pa_csv

    return {
        "read_options": pa_csv.ReadOptions(block_size=_BLOCK, skip_rows=file.above, use_threads=on_damaged is None),
        "parse_options": pa_csv.ParseOptions(
            delimiter=file.form.separator, newlines_in_values=True, invalid_row_handler=_skipping(file, on_damaged)
        ),
        "convert_options": pa_csv.ConvertOptions(
            include_columns=list(types), column_types=types, null_values=missing_values, strings_can_be_null=False
        ),
    }


def _guarded(file: CsvFile, header: Sequence[str], read: Callable[[], Any]) -> Any:
    """Return what reading gives, or say what is wrong with the file, without the values that Arrow repeats."""
    import pyarrow as pa

    fault = ""
    try:
        return read()
    except (pa.ArrowInvalid, UnicodeError) as error:
        fault = f"UTF8 {error}" if isinstance(error, UnicodeError) else str(error)
    except OSError as error:
        raise FileError(f"{file.path.name}: cannot be read ({error.strerror or 'damaged'}).") from None
    raise DataError(_fault(file, header, fault))


def _skipping(file: CsvFile, on_damaged: Callable[[Any], str] | None) -> Any:
    """Return what Arrow asks about a row of another length: declared totals are left out, others are a fault."""

    def handle(row: Any) -> str:
        first = row.text.split(file.form.separator, maxsplit=1)[0].strip('" ')
        if is_total(first, file.form.totals):
            return "skip"
        return "error" if on_damaged is None else on_damaged(row)

    return handle if file.form.totals or on_damaged is not None else None


def _arrow_type(schema: "Schema", name: str, *, plain: bool) -> Any:
    import pyarrow as pa

    kind = schema.columns[name]
    if isinstance(kind, Numeric):
        return pa.float64() if plain and not kind.states else pa.string()
    if isinstance(kind, Categorical | Boolean):
        return pa.dictionary(pa.int32(), pa.string())
    return pa.string() if isinstance(kind, Datetime | Identifier) else None


def _fault(file: CsvFile, header: Sequence[str], fault: str) -> str:
    """Return what Arrow found, without the values that its own message repeats."""
    column = re.match(r"In CSV column #(\d+): (.*)", fault, re.DOTALL)
    if "UTF8" in (column[2] if column else fault):
        return file.not_text() if not column else f"column {header[int(column[1])]!r}: {file.not_text()}"
    if column:
        return _total_fault(file) or _no_number(header[int(column[1])])
    if "Expected" in fault and "columns" in fault:
        damage = file.fault(len(header))
        return damage or f"{file.path.name}: a row has more or fewer cells than the header has names; correct the file."
    return f"{file.path.name}: is not a well-formed CSV file (an unclosed quote, or a cell that is far too large)."


def _total_fault(file: CsvFile) -> str | None:
    """Return what to say where a line of totals is why a column holds text."""
    for line, record in file.records():
        if record and is_total(record[0], TOTALS):
            return total_line(file.path, line, record[0])
    return None


def _no_number(name: str) -> str:
    from dpsynth.columns.typed import NO_NUMBER

    return (
        f"column {name!r}: found text that is no number; the column is declared numeric. Correct the data, or declare "
        f"another type. {NO_NUMBER}"
    )
