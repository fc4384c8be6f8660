"""Where a cohort comes from: a table, an ``.npz`` or a folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dpsynth.errors import InputError
from dpsynth.files.archive import is_archive, read_archive
from dpsynth.files.folder import folder_of, is_image_folder, read_folder
from dpsynth.files.image_set import ImageSet
from dpsynth.files.tables import read_table
from dpsynth.schema.schema import Schema

__all__ = ["read_source"]


def read_source(
    path: Path, schema: Schema, *, part: str | None, synthetic: bool
) -> tuple[Any, Callable[[], ImageSet] | None]:
    """Read the table of a cohort, and say how its images are read: the table is checked first.

    Parameters
    ----------
    path
        CSV, Parquet, ``.npz`` or a folder; its content says which.
    schema
        Its schema.
    part
        The part of an ``.npz``.
    synthetic
        Whether identifiers may be left out.

    Returns
    -------
    pyarrow.Table
        The declared columns, not yet checked value by value.
    callable or None
        Reads the images; None for a table.

    Raises
    ------
    FileError, DataError, InputError
        If the path holds no cohort as declared, or a part is named that it does not have.
    """
    if path.parts[:1] in (("postgresql:",), ("postgres:",)) and not path.exists():
        raise InputError(
            "database: a table of a database is not read as a whole. `dpsynth fit`, `release` and `schema` take its "
            "address, and in Python Cohort.scan does, whose cohort dpsynth.evaluate takes, too."
        )
    if path.is_file() and is_archive(path):
        return read_archive(path, schema, part=part, synthetic=synthetic)
    if part is not None:
        raise InputError(f"part: is for an .npz file, which holds several parts; leave it out for {path.name}.")
    if schema.images is not None and path.stem in ("index", "metadata"):
        path = folder_of(path)
    if is_image_folder(path) or (schema.images is not None and path.is_dir()):
        return read_folder(path, schema, synthetic=synthetic)
    return read_table(path, schema, synthetic=synthetic), None
