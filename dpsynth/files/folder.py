"""Cohorts in a folder: image files, an index that says whose they are, and for patients a table.

Three layouts:

- A set of images: ``index.csv`` (or ``index.parquet``) with a row an image: the column ``image`` and all declared
  columns.
- A cohort: ``patients.csv`` (or ``.parquet``) with a row a patient, and an index with the columns ``image`` and the
  patient's identifier. Where the table has no identifier, as in a release, the index has the column ``patient`` with
  the number of the table's row, from 0. A patient may have no image, one or several.

- Classes: no table, and a folder for each class, whose name is the label (the column ``label``, or that of the schema's
  ``images: labels``). Whose an image is nobody says, so each counts as a patient.

The index may also be called ``metadata`` and its column of paths ``file_name``, as in Hugging Face's image folders.

``image`` is a path relative to the folder, which it cannot leave.
"""

import math
import stat
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import numpy.typing as npt

from dpsynth.columns.kinds import Identifier
from dpsynth.columns.typed import identifiers
from dpsynth.errors import DataError, FileError
from dpsynth.files.image_files import read_images
from dpsynth.files.image_set import ImageSet
from dpsynth.files.layouts import (
    PATHS,
    STEMS,
    class_column,
    classes_of,
    has_classes,
    index_of,
    path_column,
    patients_of,
)
from dpsynth.files.limits import check_memory
from dpsynth.files.tables import read_all, read_table, wanted_columns
from dpsynth.schema.facts import DEFAULT_MISSING_VALUES
from dpsynth.schema.images import Images
from dpsynth.schema.schema import Schema

__all__ = ["folder_of", "index_of", "is_image_folder", "names_of", "no_index", "patients_of", "places", "read_folder"]


def is_image_folder(path: Path) -> bool:
    """Return whether a path is a folder of images with an index or classes, or a cohort that lacks its index."""
    return path.is_dir() and (index_of(path) is not None or patients_of(path) is not None or has_classes(path))


def folder_of(path: Path) -> Path:
    """Return the folder of images for any of its tables, else the path itself."""
    if path.stem not in STEMS or not path.is_file():
        return path
    index = index_of(path.parent)
    return path.parent if index is not None and path_column(index) is not None else path


def home_of(path: Path) -> Path:
    """Return the folder of images that a path is a table of, links followed; else the path itself."""
    real = path.resolve()
    folder = folder_of(real)
    return folder if folder != real and folder.is_dir() else path


def read_folder(folder: Path, schema: Schema, *, synthetic: bool) -> tuple[Any, Callable[[], ImageSet]]:
    """Read a folder of either layout.

    Parameters
    ----------
    folder
        Where ``index`` is, and ``patients`` for a cohort.
    schema
        Its schema, which declares images.
    synthetic
        Whether identifiers may be left out.

    Returns
    -------
    pyarrow.Table
        The declared columns, not yet checked value by value.
    callable
        Reads the images; raises the same.

    Raises
    ------
    FileError
        If a file is not there or cannot be read.
    DataError
        If index, table or an image is not what the schema says; no message holds a value or the name of an image.
    """
    declared = schema.images
    if declared is None:
        raise DataError(
            f"{folder.name}: is a folder of images, and the schema declares none. Add images with size, channels and "
            "range, or give the table of patients itself."
        )
    index, patients = index_of(folder), patients_of(folder)
    if index is None and patients is None and has_classes(folder):
        table, names = _class_folders(folder, schema, synthetic=synthetic)
        return table, lambda: ImageSet(_pixels(folder, names, declared), np.arange(len(names), dtype=np.int64))
    if index is None:
        raise no_index(folder)
    if patients is None:
        table, names = _image_set(index, schema, synthetic=synthetic)
        row = np.arange(len(names), dtype=np.int64)
    else:
        table = read_table(patients, schema, synthetic=synthetic)
        names, row = _joined(_with_image(read_all(index, schema.file, ("image",))), table, schema)
    return table, lambda: ImageSet(_pixels(folder, names, declared), row)


def no_index(folder: Path) -> FileError:
    """Return the error of a folder in which nothing says whose images they are."""
    return FileError(
        f"{folder.name}: has no index.csv or index.parquet, which says whose each image is (columns image, and label "
        "or patient), no metadata.csv with file_name, and no folder for each class."
    )


def _class_folders(folder: Path, schema: Schema, *, synthetic: bool) -> tuple[Any, list[str]]:
    """Return the one column that folders of classes give, and their images."""
    import pyarrow as pa

    if schema.patient is not None and not synthetic:
        raise DataError(
            f"column {schema.patient!r}: folders of classes do not say whose an image is. Write an index.csv with the "
            f"columns image, {schema.patient} and the label."
        )
    names, labels = classes_of(folder)
    column = class_column(schema.images.labels if schema.images is not None else ())
    (kept,) = wanted_columns([column], schema, synthetic=synthetic) or (None,)
    return pa.table({} if kept is None else {kept: pa.array(labels, pa.string())}), names


def _image_set(index: Path, schema: Schema, *, synthetic: bool) -> tuple[Any, list[str]]:
    """Return the declared columns of an index, and its images."""
    paths = path_column(index) or "image"
    columns = {**schema.columns, paths: Identifier()}
    table = read_table(index, schema.model_copy(update={"columns": columns}), synthetic=synthetic)
    if paths not in table.column_names:
        raise _no_column("image")
    return table.drop_columns([paths]), names_of(table[paths], schema.missing_values)


def _with_image(index: Any) -> Any:
    """Return an index whose column of paths is called image."""
    names = index.column_names
    paths = next((name for name in PATHS if name in names), "image")
    return index.rename_columns(["image" if name == paths else name for name in names])


def _joined(index: Any, table: Any, schema: Schema) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Return the images in the order of the table's rows, and the row of each."""
    named = schema.patient is not None and schema.patient in table.column_names
    key = schema.patient if named and schema.patient else "patient"
    for name in ("image", key):
        if name not in index.column_names:
            raise _no_column(name)
    owners = identifiers(key, index[key], schema.missing_values)
    if named:
        row = _rows_of(owners, identifiers(key, table[key], schema.missing_values), key)
    else:
        row = _numbered(owners, table.num_rows)
    order = np.argsort(row, kind="stable")
    names = names_of(index["image"], schema.missing_values)
    return [names[place] for place in order], row[order]


def _no_column(name: str) -> DataError:
    return DataError(f"column {name!r}: is not in the index of images; expected image (a path) and the patient.")


def names_of(array: Any, missing_values: Sequence[str] = DEFAULT_MISSING_VALUES) -> list[str]:
    """Return the paths of an index; each image stands in it once."""
    texts = identifiers("image", array, missing_values)
    if texts.null_count:
        raise DataError("column 'image': a row of the index names no image; expected a path in every row.")
    names = [name.replace("\\", "/") for name in texts.to_pylist()]
    if len({PurePosixPath(name) for name in names}) < len(names):
        raise DataError("column 'image': an image stands twice in the index; expected each once, with its patient.")
    return names


def _rows_of(wanted: Any, keys: Any, key: str) -> npt.NDArray[np.int64]:
    """Return for each image of the index the row of its patient."""
    import pyarrow.compute as pc

    if pc.count_distinct(keys, mode="all").as_py() < len(keys):
        raise DataError(f"column {key!r}: a patient has more than one row; beside images expected one row a patient.")
    row = pc.index_in(wanted, value_set=keys, skip_nulls=True)
    if row.null_count:
        raise DataError(f"column {key!r}: an image of the index belongs to no patient of the table.")
    return np.asarray(row.to_numpy(zero_copy_only=False), dtype=np.int64)


def _numbered(array: Any, rows: int) -> npt.NDArray[np.int64]:
    """Return the row numbers that the index gives."""
    import pyarrow as pa

    try:
        numbers = array.cast(pa.int64())
    except pa.ArrowException:
        numbers = None
    if numbers is None or numbers.null_count:
        raise DataError("column 'patient': expected the number of a row of the table, from 0, in every row.")
    row = np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=np.int64)
    if row.size and (row.min() < 0 or row.max() >= rows):
        raise DataError("column 'patient': an image of the index belongs to a row that the table does not have.")
    return row


def _pixels(folder: Path, names: Sequence[str], images: Images) -> npt.NDArray[Any]:
    check_memory(len(names) * math.prod(images.shape) * np.dtype(images.dtype).itemsize)
    return read_images(places(folder, names), images)


def places(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return where the images of an index lie.

    Raises
    ------
    DataError
        If one lies outside the folder, by its path or by a link.
    FileError
        If one is not there.
    """
    root = folder.resolve()
    return [_place(root, name) for name in names]


def _place(root: Path, name: str) -> Path:
    leaves = PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor or ".." in PurePosixPath(name).parts
    try:
        path = (root / name).resolve()
        leaves = leaves or not path.is_relative_to(root)
        regular = not leaves and stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError, RuntimeError):  # not there, a zero byte, a loop of links
        raise FileError("column 'image': a file that the index names is not there or cannot be read.") from None
    if leaves:
        raise DataError("column 'image': a path leads out of the folder; expected paths relative to it, without dots.")
    if not regular:
        raise DataError("column 'image': a path of the index is no file.")
    return path
