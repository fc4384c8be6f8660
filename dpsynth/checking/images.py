"""The images of a folder against a schema: every image that cannot be read, or that belongs to nobody."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dpsynth.checking.faults import Fault
from dpsynth.checking.reading import line_numbers
from dpsynth.columns.typed import identifiers
from dpsynth.errors import DpsynthError
from dpsynth.files.archive import is_archive
from dpsynth.files.folder import folder_of, index_of, is_image_folder, patients_of, places
from dpsynth.files.image_files import read_images
from dpsynth.files.layouts import PATHS, has_classes
from dpsynth.files.tables import read_all
from dpsynth.schema.images import Images
from dpsynth.schema.schema import Schema

__all__ = ["check_image_files", "folder_at", "table_of"]


def table_of(path: Path, schema: Schema) -> Path | None:
    """Return the file that holds the table of a path: itself, or that of a folder of images; None for an archive."""
    if path.is_file() and is_archive(path):
        return None
    folder = folder_at(path, schema)
    if folder is None:
        return path
    return None if schema.images is None else patients_of(folder) or index_of(folder)


def folder_at(path: Path, schema: Schema) -> Path | None:
    """Return the folder of images that a path names, as a fit would find it; None for a table or an archive."""
    if schema.images is not None and path.stem == "index":
        path = folder_of(path)
    return path if is_image_folder(path) or (schema.images is not None and path.is_dir()) else None


def check_image_files(path: Path, schema: Schema) -> list[Fault]:
    """Return the faults of a folder's index and of its images; none for a table or an archive.

    Parameters
    ----------
    path
        The folder, or one of its tables.
    schema
        The schema, which declares images.
    """
    folder = folder_at(path, schema)
    if folder is None or schema.images is None:
        return []
    index = index_of(folder)
    if index is None and patients_of(folder) is None and has_classes(folder):
        return []  # folders of classes, which are read without an index
    if index is None:
        words = "has no index.csv or index.parquet, which says whose each image is"
        return [Fault(folder.name, words, is_refused=True)]
    try:
        listed = read_all(index, schema.file, PATHS[:1])
    except DpsynthError as error:
        return [Fault(index.name, str(error).rstrip("."), is_refused=True)]
    column = next((name for name in PATHS if name in listed.column_names), None)
    if column is None:
        return [Fault(index.name, "has no column image; expected a path for each image", is_refused=True)]
    names = identifiers(column, listed[column], schema.missing_values).to_pylist()
    located = [*_paths(names), *_files(folder, names, schema.images), *_owners(folder, listed, schema)]
    return _placed(index, len(names), located, schema)


_Located = tuple[str, bool, npt.NDArray[np.int64]]


def _paths(names: Sequence[str | None]) -> list[_Located]:
    """Return rows of the index without a path, or with one that another row has."""
    seen: set[str] = set()
    repeated = []
    for row, name in enumerate(names):
        if name is not None and name in seen:
            repeated.append(row)
        seen.add(name or "")
    absent = [row for row, name in enumerate(names) if name is None]
    return [
        ("names no image", True, np.array(absent, dtype=np.int64)),
        ("names an image that stands in the index before", True, np.array(repeated, dtype=np.int64)),
    ]


def _files(folder: Path, names: Sequence[str | None], images: Images) -> list[_Located]:
    """Return the rows whose image cannot be read as declared, by reason."""
    reasons: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        if name is None:
            continue
        try:
            read_images(places(folder, [name.replace("\\", "/")]), images)
        except DpsynthError as error:
            words = str(error).rstrip(".").removeprefix("images: ").removeprefix("column 'image': ")
            reasons.setdefault(words, []).append(row)
    return [(words, True, np.array(rows, dtype=np.int64)) for words, rows in reasons.items()]


def _owners(folder: Path, listed: Any, schema: Schema) -> list[_Located]:
    """Return the rows whose image belongs to no patient of the table, or is one too many of a patient."""
    key, table = schema.patient, patients_of(folder)
    if table is None or schema.images is None or key is None or key not in listed.column_names:
        return []
    try:
        patients = read_all(table, schema.file, (key,))
    except DpsynthError:
        return []  # said of the table itself
    if key not in patients.column_names:
        return []
    patient_keys = {*identifiers(key, patients[key], schema.missing_values).to_pylist()}
    owners = identifiers(key, listed[key], schema.missing_values).to_pylist()
    strangers = [row for row, owner in enumerate(owners) if owner is None or owner not in patient_keys]
    counts: dict[Any, int] = {}
    beyond = []
    for row, owner in enumerate(owners):
        counts[owner] = counts.get(owner, 0) + 1
        if counts[owner] > schema.images.max_per_patient:
            beyond.append(row)
    words = "is an image beyond max_per_patient of its patient: a fit draws that many and leaves out the others"
    return [
        ("belongs to no patient of the table", True, np.array(strangers, dtype=np.int64)),
        (words, False, np.array(beyond, dtype=np.int64)),
    ]


def _placed(index: Path, rows: int, located: Sequence[_Located], schema: Schema) -> list[Fault]:
    """Return faults with the lines of the index that they are on."""
    lines = line_numbers(index, rows, schema.file)
    unit = "row" if lines is None else "line"
    return [
        Fault(
            index.name,
            words,
            is_refused,
            lines=tuple(row + 1 if lines is None else lines[row] for row in places.tolist()),
            unit=unit,
            count=len(places),
        )
        for words, is_refused, places in located
        if len(places)
    ]
