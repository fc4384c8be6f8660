"""What a draft schema says of images, and the table that goes with them, guessed from an ``.npz`` or a folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dpsynth.drafting.guess import nice_above, nice_below
from dpsynth.errors import DataError
from dpsynth.files.archive import PARTS, Archive
from dpsynth.files.detecting import Detected, detected_table
from dpsynth.files.folder import index_of, names_of, no_index, patients_of, places
from dpsynth.files.image_files import stored
from dpsynth.files.layouts import PATHS, class_column, classes_of, has_classes
from dpsynth.files.npy import as_arrow
from dpsynth.schema.dialect import FileFormat

__all__ = ["Found", "found_in_archive", "found_in_folder"]

_LOOKED_AT = 50
_MOST_LABELS = 50
_COLOURS = (3, 4)
_FIRST = (1, 3)
"""Lengths of a first axis that is rather channels than slices."""


@dataclass
class Found:
    """The images of a draft: their facts for the schema, and the table that goes with them.

    Attributes
    ----------
    table
        The columns, a row an image or a patient.
    images
        Fields of `images` in a schema.
    notes
        What a person must check about them.
    columns
        Fields of columns that are known better than by their values: labels, and the patient.
    target
        The one label, where there is one.
    """

    table: Any
    images: dict[str, Any]
    notes: list[str]
    columns: dict[str, dict[str, Any]]
    target: str | None = None


def found_in_archive(path: Path) -> Found:
    """Look at the first part of an ``.npz``.

    Raises
    ------
    DataError
        If it holds no images in the layout of `dpsynth.files.archive`.
    """
    import pyarrow as pa

    archive = Archive(path)
    part = next((part for part in PARTS if archive.has(f"{part}_images") or archive.has(f"x_{part}")), PARTS[0])
    header = archive.header(archive.images_of(part))
    if len(header.shape) < 3 or 0 in header.shape:
        raise DataError(f"{path.name}: expected at least one image, each with two or three sides.")
    labels = archive.labels(part, None)
    further = {name: archive.column(part, name) for name in archive.columns(part)}
    pixels = archive.array(archive.images_of(part))[:_LOOKED_AT]
    images, notes = _images([header.shape[1:]], [pixels], may_begin_with_channels=True)
    columns = {name: as_arrow(array) for name, array in (labels | further).items() if array is not None}
    codes = {name: _codes(array, single=len(labels) == 1) for name, array in labels.items()}
    listed = {name: fields for name, fields in codes.items() if fields}
    if any(fields.get("values", [0])[0] == 1 for fields in listed.values()):
        images["first_label"] = 1
        notes.append("first_label (labels begin with 1; it counts where words take the place of these numbers)")
    return Found(pa.table(columns), images, notes, listed, next(iter(listed)) if len(listed) == 1 else None)


def found_in_folder(folder: Path, options: Mapping[str, Any]) -> tuple[Found, Detected]:
    """Look at index and table of a folder, at how they are written, and at its first images.

    Parameters
    ----------
    folder
        The folder.
    options
        Parts of the format of its CSV files that a person has given.

    Raises
    ------
    FileError, DataError
        If there is no index, or an image cannot be read.
    """
    index = index_of(folder)
    if index is None:
        if patients_of(folder) is None and has_classes(folder):
            return _of_classes(folder), Detected(FileFormat())
        raise no_index(folder)
    (listed, form), patients = detected_table(index, options), patients_of(folder)
    column = next((name for name in PATHS if name in listed.column_names), None)
    if column is None:
        raise DataError(f"{index.name}: has no column image; expected the path of each image, relative to the folder.")
    images, notes = _looked_at(folder, names_of(listed[column]))
    if patients is None:
        return Found(listed.drop_columns([column]), images, notes, {}), form
    table, form = detected_table(patients, options)
    return _of_patients(listed, table, images, notes), form


def _looked_at(folder: Path, names: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the fields of `images` and their notes, by the first images of a folder."""
    paths = places(folder, names[:_LOOKED_AT])
    if not paths:
        raise DataError(f"{folder.name}: its index names no images; expected at least one.")
    arrays = [stored(path) for path in paths]
    numpy = all(path.suffix.lower() == ".npy" for path in paths)
    return _images([array.shape for array in arrays], arrays, may_begin_with_channels=numpy)


def _of_classes(folder: Path) -> Found:
    """Say that folders were taken for classes, unless there are so many that they must be patients."""
    import pyarrow as pa

    names, labels = classes_of(folder)
    classes = sorted(set(labels))
    if len(classes) > _MOST_LABELS:
        raise DataError(
            f"{folder.name}: has more than {_MOST_LABELS} folders, too many for classes. If each is a patient, write "
            "an index.csv with the columns image and patient."
        )
    images, notes = _looked_at(folder, names)
    column = class_column(())
    notes.append(f"{column} (each folder is taken for a class)")
    notes.append("patient (folders of classes do not say whose an image is: each counts as one patient)")
    fields = {column: {"type": "categorical", "values": classes}}
    return Found(pa.table({column: pa.array(labels, pa.string())}), images, notes, fields, column)


def _of_patients(listed: Any, patients: Any, images: dict[str, Any], notes: list[str]) -> Found:
    """Say which column tells patients apart: the one that index and table share; and how many images one has."""
    shared = [name for name in patients.column_names if name in listed.column_names]
    key = shared[0] if len(shared) == 1 else "patient"
    if key in listed.column_names:
        most = max(count["counts"] for count in listed[key].value_counts().to_pylist())
        images["max_per_patient"] = int(nice_above(most))
        notes.append("max_per_patient")
    return Found(patients, images, notes, {key: {"type": "identifier"}} if len(shared) == 1 else {})


def _images(
    shapes: Sequence[tuple[int, ...]], arrays: Sequence[npt.NDArray[Any]], *, may_begin_with_channels: bool
) -> tuple[dict[str, Any], list[str]]:
    axis = _axis_of_channels(shapes[0], may_begin=may_begin_with_channels)
    channels = 1 if axis is None else shapes[0][axis]
    cut = {None: slice(None), 0: slice(1, None), -1: slice(None, -1)}[axis]
    sizes = {shape[cut] for shape in shapes}
    size = min(sizes, key=lambda sides: (len(sides), sides))
    fields: dict[str, Any] = {"size": list(size), "channels": channels, "range": _range(arrays)}
    notes = ["size", "channels", "range"]
    if axis == 0 and len(size) == 2:
        slices = " x ".join(map(str, shapes[0]))
        notes[1] = f"channels (the first axis; if these are slices of a volume, its size is {slices})"
    if len(sizes) > 1:
        fields["resize"] = True
        notes.append("resize (they differ in size)")
    return fields, notes


def _axis_of_channels(shape: tuple[int, ...], *, may_begin: bool) -> int | None:
    """Return which axis of an image seems to hold channels: -1, 0, or None."""
    if len(shape) < 3:
        return None
    begins = may_begin and shape[0] in _FIRST
    if shape[-1] in _COLOURS or (may_begin and shape[-1] == 1 and len(shape) == 3):
        return -1
    if begins:
        return 0
    return -1 if len(shape) > 3 else None


def _range(arrays: Sequence[npt.NDArray[Any]]) -> list[float]:
    """Return the range of the stored type, where it is short, or else a rounded one around what was seen."""
    dtype = arrays[0].dtype
    if dtype == np.bool_:
        return [0, 1]
    if dtype in (np.uint8, np.uint16):
        return [0, int(np.iinfo(dtype).max)]
    finite = [array[np.isfinite(array)] for array in arrays]
    seen = [value for array in finite if array.size for value in (array.min(), array.max())]
    low, high = nice_below(float(min(seen, default=0.0))), nice_above(float(max(seen, default=1.0)))
    return [low, high] if low < high else [low, low + 1]


def _codes(labels: npt.NDArray[Any], *, single: bool) -> dict[str, Any]:
    """Return the fields of a column of labels that are codes from 0 or 1 on; nothing where they are something else."""
    if labels.dtype.kind not in "bui" or not labels.size or labels.min() < 0 or labels.max() >= _MOST_LABELS:
        return {}
    most, first = int(labels.max()), int(labels.min() == 1 and single and labels.max() > 1)
    if not single and most <= 1:
        return {"type": "boolean", "labels": [0, 1]}
    return {"type": "categorical", "values": list(range(first, max(most, 1) + 1))}
