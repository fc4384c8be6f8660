"""What a draft schema says of images, and the table that goes with them, guessed from an ``.npz`` or a folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dpsynth.detecting import Detected, detected_table
from dpsynth.errors import DataError
from dpsynth.guessing import nice_above, nice_below
from dpsynth.images.archive import PARTS, Archive
from dpsynth.images.arrays import as_arrow
from dpsynth.images.folder import index_of, names_of, patients_of, places
from dpsynth.images.formats import stored

__all__ = ["Found", "found_in_archive", "found_in_folder"]

_LOOKED_AT = 50
_MOST_LABELS = 50
_COLOURS = (3, 4)


@dataclass
class Found:
    """What was found.

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
        If it holds no images in the layout of `dpsynth.images.archive`.
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
    images, notes = _images([header.shape[1:]], [pixels])
    columns = {name: as_arrow(array) for name, array in (labels | further).items() if array is not None}
    codes = {name: _codes(array, single=len(labels) == 1) for name, array in labels.items()}
    known = {name: fields for name, fields in codes.items() if fields}
    return Found(pa.table(columns), images, notes, known, next(iter(known)) if len(known) == 1 else None)


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
        raise DataError(f"{folder.name}: has no index.csv or index.parquet, which says whose each image is.")
    (listed, form), patients = detected_table(index, options), patients_of(folder)
    if "image" not in listed.column_names:
        raise DataError(f"{index.name}: has no column image; expected the path of each image, relative to the folder.")
    looked = [stored(path) for path in places(folder, names_of(listed["image"])[:_LOOKED_AT])]
    if not looked:
        raise DataError(f"{index.name}: names no images; expected at least one.")
    images, notes = _images([array.shape for array in looked], looked)
    if patients is None:
        return Found(listed.drop_columns(["image"]), images, notes, {}), form
    table, form = detected_table(patients, options)
    return _of_patients(listed, table, images, notes), form


def _of_patients(listed: Any, patients: Any, images: dict[str, Any], notes: list[str]) -> Found:
    """Say which column tells patients apart: the one that index and table share; and how many images one has."""
    shared = [name for name in patients.column_names if name in listed.column_names]
    key = shared[0] if len(shared) == 1 else "patient"
    if key in listed.column_names:
        most = max(count["counts"] for count in listed[key].value_counts().to_pylist())
        images["max_per_patient"] = int(nice_above(most))
        notes.append("max_per_patient")
    return Found(patients, images, notes, {key: {"type": "identifier"}} if len(shared) == 1 else {})


def _images(shapes: Sequence[tuple[int, ...]], arrays: Sequence[npt.NDArray[Any]]) -> tuple[dict[str, Any], list[str]]:
    coloured = len(shapes[0]) > 2 and (shapes[0][-1] in _COLOURS or len(shapes[0]) > 3)
    channels = shapes[0][-1] if coloured else 1
    sizes = {shape[:-1] if coloured else shape for shape in shapes}
    size = min(sizes, key=lambda sides: (len(sides), sides))
    fields: dict[str, Any] = {"size": list(size), "channels": channels, "range": _range(arrays)}
    notes = ["size", "channels", "range"]
    if len(sizes) > 1:
        fields["resize"] = True
        notes.append("resize (they differ in size)")
    return fields, notes


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
    """Return the fields of a column of labels that are codes from 0 on; nothing where they are something else."""
    if labels.dtype.kind not in "bui" or not labels.size or labels.min() < 0 or labels.max() >= _MOST_LABELS:
        return {}
    most = int(labels.max())
    if not single and most <= 1:
        return {"type": "boolean", "labels": [0, 1]}
    return {"type": "categorical", "values": list(range(max(most, 1) + 1))}
