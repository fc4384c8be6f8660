"""Image sets in one ``.npz`` file, in the layout of MedMNIST, or in that of Keras' data sets.

Of the part that is read, ``train`` for example, these arrays are taken and no others:

- ``train_images`` or ``x_train``: (images, sides), (images, sides, channels) or (images, channels, sides);
- ``train_labels`` or ``y_train``: (images,), (images, 1) or (images, labels);
- ``train_<column>``: (images,) or (images, 1), for any other column that the schema declares.

Labels that are whole numbers stand for the declared values by position, unless one of the values is itself a number.
They do so in whatever type the array has (1, 1.0, True, or the text "1"), because one label may decide on that type.
Positions are counted from 0, or from `first_label`; one past the end is refused, as they may then begin elsewhere.
For the same reason text that NumPy writes for a number ("1.0", "nan") is that number, unless it is a declared category.
"""

import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dpsynth.columns.kinds import Boolean, Categorical, Column
from dpsynth.columns.matching import canonical_text, number_of
from dpsynth.columns.typed import text_of
from dpsynth.errors import DataError, DpsynthError, FileError, InputError
from dpsynth.files.image_set import ImageSet
from dpsynth.files.limits import check_memory
from dpsynth.files.npy import Header, as_arrow, read_array, read_header
from dpsynth.files.pixels import as_declared, channel_axis, check_depth, possible_axes, sides_of
from dpsynth.files.tables import wanted_columns
from dpsynth.schema.images import Images
from dpsynth.schema.schema import Schema

__all__ = ["PARTS", "Archive", "is_archive", "read_archive"]

PARTS = ("train", "val", "test")
"""The parts of a published image set."""

_DENSEST = 1100
"""Deflate packs at most 1032 bytes into one; what claims more is no honest file."""


def is_archive(path: Path) -> bool:
    """Return whether a file is a zip file that holds NumPy arrays."""
    try:
        with zipfile.ZipFile(path) as packed:
            return any(name.endswith(".npy") for name in packed.namelist())
    except Exception:  # zipfile raises more than it documents
        return False


def read_archive(
    path: Path, schema: Schema, *, part: str | None, synthetic: bool
) -> tuple[Any, Callable[[], ImageSet]]:
    """Read one part of an image set.

    Parameters
    ----------
    path
        The file.
    schema
        Its schema, which declares images.
    part
        ``"train"`` (also where it is left out), ``"val"`` or ``"test"``.
    synthetic
        Whether identifiers may be left out.

    Returns
    -------
    pyarrow.Table
        The declared columns, one row an image, not yet checked value by value.
    callable
        Reads the images; raises the same.

    Raises
    ------
    FileError
        If the file cannot be read.
    DataError
        If it is no such file, or its arrays are not the declared ones.
    InputError
        If there is no such part.
    """
    if part not in (None, *PARTS):
        raise InputError(f"part {part!r}: expected one of {', '.join(PARTS)}.")
    declared = schema.images
    if declared is None:
        raise DataError(f"{path.name}: holds images, and the schema declares none; add images with size and channels.")
    archive, wanted = Archive(path), part or PARTS[0]
    rows = archive.rows(wanted, declared)
    table = _table(archive, wanted, schema, rows, synthetic=synthetic)
    return table, lambda: ImageSet(archive.pixels(wanted, declared), np.arange(rows, dtype=np.int64))


class Archive:
    """The arrays of an ``.npz`` file; each is read only when it is asked for, and after its header was checked.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    FileError
        If it cannot be read.
    DataError
        If it is not a whole ``.npz`` file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._headers: dict[str, Header] = {}
        self._inside: dict[str, zipfile.ZipInfo] = {}
        with _Opened(path) as packed:
            for entry in packed.infolist():
                if entry.filename.endswith(".npy"):
                    self._take(entry)

    def _take(self, entry: zipfile.ZipInfo) -> None:
        name = entry.filename.removesuffix(".npy")
        if name in self._inside or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError("an array stands twice, or is packed in an unknown way")
        if entry.file_size > _DENSEST * (entry.compress_size + 1) or entry.compress_size > self.path.stat().st_size:
            raise ValueError("an array claims to be larger than it can be")
        self._inside[name] = entry

    def has(self, name: str) -> bool:
        """Return whether there is an array of this name."""
        return name in self._inside

    def header(self, name: str) -> Header:
        """Return shape and type of an array; raises as the class does."""
        if name not in self._headers:
            with _Opened(self.path) as packed, packed.open(self._inside[name]) as file:
                self._headers[name] = read_header(file, self._inside[name].file_size)
        return self._headers[name]

    def array(self, name: str) -> npt.NDArray[Any]:
        """Return an array; raises as the class does, also where it would not fit in memory."""
        check_memory(self._inside[name].file_size)
        self.header(name)
        with _Opened(self.path) as packed, packed.open(self._inside[name]) as file:
            return read_array(file)

    def images_of(self, part: str) -> str:
        """Return the name of the array that holds the images of a part.

        Raises
        ------
        DataError
            If there is none.
        """
        names = (f"{part}_images", f"x_{part}")
        present = [name for name in names if self.has(name)]
        if len(present) != 1:
            raise DataError(f"{self.path.name}: expected one array of images, {names[0]} or {names[1]}.")
        return present[0]

    def rows(self, part: str, images: Images) -> int:
        """Return how many images a part has, after checking that they are what is declared and fit in memory.

        Raises
        ------
        DataError
            If they do not.
        """
        name = self.images_of(part)
        header = self.header(name)
        if header.dtype.kind not in "biuf":
            raise DataError(f"{name}: holds text or dates, expected the numbers of pixels.")
        _check_shape(name, header.shape, images)
        check_depth(header.dtype, images)
        check_memory(header.shape[0] * math.prod(images.shape) * np.dtype(images.dtype).itemsize)
        return header.shape[0]

    def pixels(self, part: str, images: Images) -> npt.NDArray[Any]:
        """Return the images of a part as declared; raises as `rows`."""
        return as_declared(self.array(self.images_of(part)), images)

    def labels(self, part: str, images: Images | None) -> dict[str, npt.NDArray[Any]]:
        """Return the labels of a part by column: those that `images` names, else label, or label_0 and so on.

        Raises
        ------
        DataError
            If they are no labels, or the schema names another number of columns.
        """
        name = next((name for name in (f"{part}_labels", f"y_{part}") if self.has(name)), None)
        if name is None:
            return {}
        array = self.array(name)
        if array.ndim not in (1, 2) or 0 in array.shape[1:]:
            raise DataError(f"{name}: expected one label an image, or one row of labels an image.")
        array = array if array.ndim == 2 else array[:, None]
        width = array.shape[1]
        numbered = ("label",) if width == 1 else tuple(f"label_{k}" for k in range(width))
        columns = (images.labels if images is not None else ()) or numbered
        if len(columns) != width:
            raise DataError(
                f"{name}: has {width} labels an image, and the schema (images: labels) names {len(columns)}."
            )
        return {column: array[:, k] for k, column in enumerate(columns)}

    def columns(self, part: str) -> list[str]:
        """Return the names of all further columns of a part."""
        names = [name.removeprefix(f"{part}_") for name in self._inside if name.startswith(f"{part}_")]
        return [name for name in names if name not in ("images", "labels")]

    def column(self, part: str, column: str) -> npt.NDArray[Any] | None:
        """Return a further column of a part, or None where there is none.

        Raises
        ------
        DataError
            If it has more than one value an image.
        """
        name = f"{part}_{column}"
        if not self.has(name) or column in ("images", "labels"):
            return None
        array = self.array(name)
        if array.shape not in ((len(array),), (len(array), 1)):
            raise DataError(f"column {column!r}: expected one value an image in the array {name}.")
        return array.reshape(len(array))


class _Opened:
    """A zip file that is open; what goes wrong with it is told without what it holds."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> zipfile.ZipFile:
        try:
            self._file = zipfile.ZipFile(self._path)
        except OSError as error:
            raise FileError(f"{self._path.name}: cannot be read ({error.strerror or 'unknown reason'}).") from None
        except Exception:  # zipfile raises more than it documents
            raise self._damaged() from None
        return self._file

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        self._file.close()
        if isinstance(error, Exception) and not isinstance(error, DpsynthError):
            raise self._damaged() from None

    def _damaged(self) -> DataError:
        return DataError(
            f"{self._path.name}: is not a whole .npz file of numbers and text; write it again with numpy.savez."
        )


def _check_shape(name: str, shape: tuple[int, ...], images: Images) -> None:
    """Refuse images of another size by what the header says, which holds for all of them."""
    sizes, channels = shape[1:], images.channels
    sides = possible_axes(sizes, images).values()
    if not sides or (images.size not in sides and not images.resize):
        raise DataError(
            f"{name}: found images of shape {sides_of(sizes) or 'nothing'}, expected {sides_of(images.size)} and "
            f"{channels} channel{'s' if channels > 1 else ''}, first or last. Correct size and channels in the schema, "
            "or declare resize: true."
        )
    channel_axis(sizes, images)


def _table(archive: Archive, part: str, schema: Schema, rows: int, *, synthetic: bool) -> Any:
    import pyarrow as pa

    arrays = archive.labels(part, schema.images)
    labels = tuple(arrays)
    for name in schema.columns:
        further = None if name in arrays else archive.column(part, name)
        if further is not None:
            arrays[name] = further
    if any(len(array) != rows for array in arrays.values()):
        raise DataError(f"{archive.path.name}: there are more or fewer labels, or values of a column, than images.")
    names = wanted_columns(list(arrays), schema, synthetic=synthetic)
    first = dict.fromkeys(labels, schema.images.first_label) if schema.images is not None else {}
    return pa.table({name: _values(name, arrays, schema, first.get(name, 0)) for name in names})


def _values(name: str, arrays: Mapping[str, npt.NDArray[Any]], schema: Schema, first: int) -> Any:
    """Return one column for Arrow; positions, counted from `first`, are put into words where the values are words."""
    array, column = arrays[name], schema.columns[name]
    written = _written_texts(column)
    if array.dtype.kind == "U" or (array.dtype.kind == "f" and any(_before_text(text) != text for text in written)):
        values = _each(as_arrow(array.astype(np.str_)), lambda text: _of_text(text, written))
    else:
        values = as_arrow(array)
    if not isinstance(column, Categorical | Boolean) or not _are_words(column):
        return values
    words = [canonical_text(value) for value in column.categories]
    return _each(text_of(values), lambda text: _meant(name, text, words, first))


def _written_texts(column: Column) -> frozenset[str]:
    """Return the categories that are declared as text; of such a list a number's own spelling may be one, as 250.0."""
    categories = column.categories if isinstance(column, Categorical | Boolean) else ()
    return frozenset(value for value in categories if isinstance(value, str))


def _of_text(text: str, written: frozenset[str]) -> str | None:
    return text if text.strip() in written else _before_text(text)


def _each(texts: Any, change: Callable[[str], str | None]) -> Any:
    """Return text with each different one changed."""
    import pyarrow as pa

    encoded = texts.dictionary_encode()
    return pa.array([change(text) for text in encoded.dictionary.to_pylist()], pa.string()).take(encoded.indices)


def _before_text(text: str) -> str | None:
    """Return the text of the number or boolean that NumPy made this text of, because another value is text.

    >>> _before_text("1.0"), _before_text("True"), _before_text("nan"), _before_text("0.10")
    ('1', 'true', None, '0.10')
    """
    number = number_of(text)
    if number is not None and str(number) == text:
        return None if math.isnan(number) else canonical_text(number)
    return text.lower() if text in ("True", "False") else text


def _meant(name: str, label: str, words: Sequence[str], first: int = 0) -> str:
    """Return the word at the position that a label's text is, or the text itself where it is no position.

    >>> _meant("a", "1", ["benign", "malignant"]), _meant("a", "true", ["no", "yes"]), _meant("a", "no", ["no", "yes"])
    ('malignant', 'yes', 'no')

    Raises
    ------
    DataError
        If it is a position that does not exist.
    """
    text = label.strip()
    truth = {"false": 0.0, "true": 1.0}.get(text.lower())
    same = [word for word in words if text in (word, word.lower() if truth is not None else word)]
    if same:
        return same[0]
    code = number_of(text) if truth is None else truth  # NumPy makes 1 of True where another label is 2
    if code is None or not code.is_integer():
        return label
    if not 0 <= code - first < len(words):
        raise DataError(
            f"column {name!r}: a label that is a whole number stands for one of the {len(words)} values by position, "
            f"counted from {first}, and one lies outside. Declare images: first_label: {1 - first} if they begin with "
            f"{1 - first}, list all values in order, or list the numbers themselves as values."
        )
    return words[int(code) - first]


def _are_words(column: Categorical | Boolean) -> bool:
    """Return whether no value of a column is a number, so that a number in its place can only be a position."""
    return bool(column.categories) and all(number_of(str(value)) is None for value in column.categories)
