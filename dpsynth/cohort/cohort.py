"""A cohort: a table of patients that keeps what its schema says."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from dpsynth.errors import DataError, FileError, InputError
from dpsynth.files.image_set import ImageSet, check_images, row_numbers
from dpsynth.schema.schema import Schema

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Cohort"]


@dataclass(frozen=True, eq=False, repr=False)
class Cohort:
    """A table of patients that was checked against its schema.

    Make one with `Cohort.read`, or from a data frame or Arrow table: ``Cohort(frame, schema, ledger="ward.jsonl")``.

    Attributes
    ----------
    schema
        What is publicly known about the columns.
    table
        A pyarrow table of the declared columns, in the schema's order. Numbers are int64 or float64, or a struct of
        number and state where the schema declares states such as "<5" beside them; categories and
        booleans are dictionary arrays over the schema's own list; dates are date32, or timestamp[s] with a clock time.
    source
        The file that the cohort was read from, or its folder.
    public
        Whether the data are public, so that nothing needs to be spent on them.
    synthetic
        Whether the rows were generated.
    images
        The images of its rows, where the schema declares some.
    ledger
        Where spending on it is kept, if no run names another place; a private table from memory needs one.
    statement
        Of a cohort that was drawn: the privacy statement of its model.

    Notes
    -----
    Privacy contract: `repr` shows the schema's name, the columns and the size of images; the numbers of rows and
    images only where the cohort is public or synthetic.

    Examples
    --------
    >>> import pandas as pd
    >>> schema = Schema.parse("{name: ward, columns: {age: {type: numeric, min: 0, max: 99}}}")
    >>> cohort = Cohort.from_pandas(pd.DataFrame({"age": [64, 71, 58]}), schema, public=True)
    >>> cohort
    Cohort('ward': public, 3 rows, columns age)
    """

    schema: Schema
    table: Any
    source: Path | None = None
    public: bool = False
    synthetic: bool = False
    images: ImageSet | None = None
    ledger: Any = None
    statement: Any = None

    if TYPE_CHECKING:

        @overload
        def __init__(
            self,
            schema: Schema,
            table: Any,
            source: Path | None = ...,
            public: bool = ...,
            synthetic: bool = ...,
            images: ImageSet | None = ...,
            ledger: Any = ...,
            statement: Any = ...,
        ) -> None: ...

        @overload
        def __init__(
            self, data: Any, schema: Schema, *, public: bool = ..., synthetic: bool = ..., ledger: Any = ...
        ) -> None: ...

        def __init__(self, *args: Any, **fields: Any) -> None: ...

    def __post_init__(self) -> None:
        data: Any = self.schema
        if isinstance(self.table, Schema) and not isinstance(data, Schema):  # Cohort(data, schema)
            read = self.of(data, self.table, public=self.public, synthetic=self.synthetic)
            for name in ("schema", "table", "source", "images"):
                object.__setattr__(self, name, getattr(read, name))
        if self.images is not None:
            check_images(self.images, self.schema.images, self.table.num_rows)

    @classmethod
    def read(
        cls,
        path: str | Path,
        schema: Schema,
        *,
        part: str | None = None,
        public: bool = False,
        synthetic: bool = False,
    ) -> "Cohort":
        """Read a table, an image set or a folder of images, and check it; which of them it is, its content says.

        Parameters
        ----------
        path
            CSV as the schema's `file` declares, Parquet, Excel, SPSS, Stata or SAS (extra ``office``); an
            ``.npz`` in the layout of MedMNIST
            (`dpsynth.files.archive`); or a folder with an index of image files, and for patients a table
            (`dpsynth.files.folder`).
        schema
            The schema; it need not be confirmed for reading.
        part
            Of an ``.npz``: ``"train"`` (the default), ``"val"`` or ``"test"``. They share one ledger.
        public
            Say that the data are public.
        synthetic
            Say that the rows were generated; identifier columns may then be left out.

        Returns
        -------
        Cohort
            Checked; with its images where the schema declares some.

        Raises
        ------
        FileError
            If the file cannot be read.
        DataError
            If the columns, values or images are not what the schema says; no message holds a value.
        InputError
            If a part is named that there is not.

        Examples
        --------
        >>> import pandas as pd
        >>> schema = Schema.parse("{name: ward, columns: {age: {type: numeric, min: 0, max: 99}}}")
        >>> cohort = Cohort.from_pandas(pd.DataFrame({"age": [64, 71, 58]}), schema, public=True)
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cohort.write(Path(folder, "ward.csv"))
        ...     len(Cohort.read(Path(folder, "ward.csv"), schema))
        3
        """
        from dpsynth.files.folder import home_of
        from dpsynth.files.read import read_source

        path = Path(path)
        table, images = read_source(path, schema, part=part, synthetic=synthetic)
        cohort = cls._checked(table, schema, source=home_of(path), public=public, synthetic=synthetic)
        return cohort if images is None else replace(cohort, images=images())

    @classmethod
    def scan(cls, source: Any, schema: Schema, *, public: bool = False, **options: Any) -> Any:
        """Name patients whose rows stay where they are, in files or engines that may be larger than memory.

        Parameters
        ----------
        source
            A file, folder or pattern of Parquet or CSV; ``extract.duckdb::visits``; or an object, such as a DuckDB
            relation, an Arrow table or dataset, or a polars frame: what `dpsynth.scan` takes.
        schema
            The schema; it need not be confirmed for scanning.
        public
            Say that the data are public.
        **options
            Further arguments of `dpsynth.scan`, such as ``memory="8GB"``.

        Returns
        -------
        dpsynth.sources.scanned.ScannedCohort
            To be fitted and released like a cohort. No row is read before that.

        Raises
        ------
        FileError, DataError, InputError
            As `dpsynth.scan`.

        Examples
        --------
        >>> import pyarrow as pa
        >>> schema = Schema.parse("{name: ward, columns: {age: {type: numeric, min: 0, max: 99}}}")
        >>> Cohort.scan(pa.table({"age": [64, 71, 58]}), schema)
        ScannedCohort('ward': columns age)
        """
        import dpsynth  # where patients are is known above this room; the front door of the house leads there

        return dpsynth.scan(source, schema, public=public, **options)

    @classmethod
    def of(
        cls, data: Any, schema: Schema, *, public: bool = False, synthetic: bool = False, ledger: Any = None
    ) -> "Cohort":
        """Check a table of any kind: a data frame of pandas or polars, an Arrow table, or the path of a file.

        Parameters
        ----------
        data
            With the declared columns; it is not changed.
        schema
            The schema; it need not be confirmed.
        public, synthetic
            As for `read`.
        ledger
            Where spending on it is kept.

        Returns
        -------
        Cohort
            Checked.

        Raises
        ------
        FileError, DataError
            As `read` and `from_pandas`.
        InputError
            If the data are none of these.

        Examples
        --------
        >>> import polars as pl
        >>> schema = Schema.parse("{name: ward, columns: {age: {type: numeric, min: 0, max: 99}}}")
        >>> len(Cohort.of(pl.DataFrame({"age": [64, 71, 58]}), schema))
        3
        """
        from dpsynth.files.frames import as_arrow, is_pandas
        from dpsynth.files.tables import plain_types, wanted_columns

        if isinstance(data, str | Path):
            cohort = cls.read(data, schema, public=public, synthetic=synthetic)
        elif is_pandas(data):
            cohort = cls.from_pandas(data, schema, public=public, synthetic=synthetic)
        else:
            table = as_arrow(data)
            if table is None:
                raise InputError(
                    f"cohort: found {type(data).__name__}, expected a data frame, an Arrow table, or a path."
                )
            columns = wanted_columns(table.column_names, schema, synthetic=synthetic)
            table = plain_types(table.select(columns))
            cohort = cls._checked(table, schema, source=None, public=public, synthetic=synthetic)
        return cohort if ledger is None else replace(cohort, ledger=ledger)

    @classmethod
    def from_pandas(
        cls, df: "pd.DataFrame", schema: Schema, *, public: bool = False, synthetic: bool = False
    ) -> "Cohort":
        """Check a pandas data frame.

        Parameters
        ----------
        df
            A frame with the declared columns; it is not changed.
        schema
            The schema; it need not be confirmed.
        public
            Say that the data are public.
        synthetic
            Say that the rows were generated; identifier columns may then be left out.

        Returns
        -------
        Cohort
            Checked, without a source: a ledger for it must be named.

        Raises
        ------
        DataError
            If the columns or values are not what the schema says; no message holds a value.

        Examples
        --------
        >>> import pandas as pd
        >>> schema = Schema.parse("{name: ward, columns: {age: {type: numeric, min: 0, max: 99}}}")
        >>> cohort = Cohort.from_pandas(pd.DataFrame({"age": [64, 71, 58]}), schema, public=True)
        >>> len(cohort)
        3
        """
        from dpsynth.files.tables import read_frame

        table = read_frame(df, schema, synthetic=synthetic)
        return cls._checked(table, schema, source=None, public=public, synthetic=synthetic)

    @classmethod
    def _checked(cls, table: Any, schema: Schema, *, source: Path | None, public: bool, synthetic: bool) -> "Cohort":
        import pyarrow as pa

        from dpsynth.columns.typed import typed

        if table.num_rows == 0:
            raise DataError("the table has no rows; expected at least one.")
        arrays = {
            name: typed(name, schema.columns[name], table[name], schema.missing_values) for name in table.column_names
        }
        if schema.patient in arrays and arrays[schema.patient].null_count:
            raise DataError(f"column {schema.patient!r}: a row names no patient; expected one in every row.")
        return cls(schema, pa.table(arrays), source=source, public=public, synthetic=synthetic)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        kind = "synthetic, " if self.synthetic else "public, " if self.public else ""
        shown = self.synthetic or self.public
        rows = f"{len(self)} rows, " if shown else ""
        return f"Cohort({self.schema.name!r}: {kind}{rows}columns {', '.join(self.columns)}{self._images(shown)})"

    def _repr_html_(self) -> str:
        """Show public facts alone: the columns as the schema declares them, and rows where they may be seen."""
        from html import escape

        head = f"<p>{escape(repr(self))}</p>"
        if not (self.synthetic or self.public):
            return head
        table: str = self.take(np.arange(min(len(self), 10))).to_pandas().to_html(index=False)
        return head + table

    def _images(self, shown: bool) -> str:
        if self.images is None:
            return ""
        number = f"{len(self.images)} " if shown else ""
        return f", {number}images of {' x '.join(map(str, self.images.size))}"

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(self.table.column_names)

    def take(self, row_indices: npt.ArrayLike) -> "Cohort":
        """Return the cohort of the given rows, with their images.

        Its schema declares no `rows`: the public number was that of the whole, and how many rows a part has is private.

        Parameters
        ----------
        row_indices
            (k,) integers from 0 to rows - 1, or (rows,) booleans.

        Returns
        -------
        Cohort
            As private as this one.

        Raises
        ------
        InputError
            If a number is out of range.

        Examples
        --------
        >>> import pandas as pd
        >>> schema = Schema.parse("{name: ward, columns: {age: {type: numeric, min: 0, max: 99}}}")
        >>> cohort = Cohort.from_pandas(pd.DataFrame({"age": [64, 71, 58]}), schema, public=True)
        >>> cohort.take([0, 2]).to_pandas()["age"].tolist()
        [64, 58]
        """
        indices = row_numbers(row_indices)
        table = self.table.take(indices).combine_chunks()
        part = self.schema.without_counts()
        images = self.images.take(indices) if self.images is not None else None
        return replace(self, schema=part, table=table, images=images)

    def patients(self) -> npt.NDArray[np.int64]:
        """Return for each row the number of its patient, 0 to patients - 1, by first appearance.

        Where no patient column is declared, or a synthetic cohort has none, every row is a patient.

        Returns
        -------
        int64 array
            Of shape (rows,). **As private as the cohort.**

        Examples
        --------
        >>> import pandas as pd
        >>> schema = Schema.parse("{name: ward, columns: {age: {type: numeric, min: 0, max: 99}}}")
        >>> cohort = Cohort.from_pandas(pd.DataFrame({"age": [64, 71, 58]}), schema, public=True)
        >>> cohort.patients().tolist()
        [0, 1, 2]
        """
        if self.schema.patient not in self.columns:
            return np.arange(len(self), dtype=np.int64)
        from dpsynth.columns.arrow import whole

        indices = whole(self.table[self.schema.patient]).dictionary_encode().indices
        return np.asarray(indices.to_numpy(zero_copy_only=False), dtype=np.int64)

    def plain_table(self) -> Any:
        """Return the table with plain values in place of dictionaries; numbers with states beside them are text.

        Returns
        -------
        pyarrow.Table
            **As private as the cohort.**

        Examples
        --------
        >>> import pandas as pd
        >>> schema = Schema.parse("{name: ward, columns: {age: {type: numeric, min: 0, max: 99}}}")
        >>> cohort = Cohort.from_pandas(pd.DataFrame({"age": [64, 71, 58]}), schema, public=True)
        >>> cohort.plain_table()["age"].to_pylist()
        [64, 71, 58]
        """
        import pyarrow as pa

        return pa.table({name: _plain(self.table[name]) for name in self.columns})

    def to_pandas(self) -> "pd.DataFrame":
        """Return a pandas data frame: categories as text or numbers, dates as datetime64, missing as NaN or None.

        A numeric column with states such as "<5" is text, as in the file; ``pd.to_numeric(column, errors="coerce")``
        gives its numbers.

        Returns
        -------
        pandas.DataFrame
            **As private as the cohort.**

        Examples
        --------
        >>> import pandas as pd
        >>> schema = Schema.parse("{name: ward, columns: {age: {type: numeric, min: 0, max: 99}}}")
        >>> cohort = Cohort.from_pandas(pd.DataFrame({"age": [64, 71, 58]}), schema, public=True)
        >>> cohort.to_pandas()["age"].max().item()
        71
        """
        frame: pd.DataFrame = self.plain_table().to_pandas(date_as_object=False)
        return frame

    def write(self, path: str | Path, *, guard_formulas: bool = False) -> None:
        """Write the cohort; the file is whole or not there.

        Parameters
        ----------
        path
            Ends in .csv or .parquet.
        guard_formulas
            In CSV, put an apostrophe before text that a spreadsheet program would run as a formula. Such a file
            is for looking at: it does not read back under the same schema.

        Raises
        ------
        FileError
            If the file cannot be written, or its name has another ending.

        Examples
        --------
        >>> import pandas as pd
        >>> schema = Schema.parse("{name: ward, columns: {age: {type: numeric, min: 0, max: 99}}}")
        >>> cohort = Cohort.from_pandas(pd.DataFrame({"age": [64, 71, 58]}), schema, public=True)
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cohort.write(Path(folder, "ward.csv"))
        ...     Path(folder, "ward.csv").read_text().splitlines()
        ['age', '"64"', '"71"', '"58"']
        """
        from dpsynth.atomic import whole_file
        from dpsynth.files.write_tables import write_csv, write_parquet

        path = Path(path)
        if path.suffix.lower() not in (".csv", ".parquet"):
            raise FileError(f"{path.name}: the name must end in .csv or .parquet.")
        with whole_file(path) as partial:
            if path.suffix.lower() == ".csv":
                write_csv(self, partial, guard_formulas=guard_formulas)
            else:
                write_parquet(self, partial)

    def write_folder(self, folder: str | Path, *, force: bool = False) -> None:
        """Write a cohort with images as a folder that `read` reads; whole or not there.

        It holds ``patients.parquet``, ``index.parquet`` and ``images/``: PNG for 8-bit pixels of 1, 3 or 4 channels,
        NIfTI for volumes, ``.npy`` for the rest. Files are named by numbers.

        Parameters
        ----------
        folder
            A new folder; its parent must be there.
        force
            Replace a folder that is there.

        Raises
        ------
        InputError
            If the cohort has no images, or a patient has several rows without each having one image.
        FileError
            If the folder is there (without `force`) or cannot be written.
        """
        from dpsynth.atomic import new_folder
        from dpsynth.files.write_images import write_cohort

        with new_folder(folder, force=force) as fresh:
            write_cohort(self, fresh)


def _plain(array: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_struct(array.type):
        from dpsynth.columns.typed import text_of

        return text_of(array)
    if not pa.types.is_dictionary(array.type):
        return array
    return array.cast(array.type.value_type)
