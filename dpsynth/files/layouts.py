"""Which tables a folder of images has, and what stands for a table where there is none: a folder for each class."""

from collections.abc import Sequence
from pathlib import Path

from dpsynth.errors import DataError, DpsynthError
from dpsynth.files.tables import column_names

__all__ = ["PATHS", "STEMS", "class_column", "classes_of", "has_classes", "index_of", "path_column", "patients_of"]

STEMS = ("patients", "index", "metadata")
"""What the tables of a folder are called."""
PATHS = ("image", "file_name")
"""What the column of paths is called, in an index and in the metadata of Hugging Face's image folders."""
_SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".nii", ".gz", ".npy")
_OURS = ("privacy.json", "config.json")
"""Files of a release or a saved model, whose folders are no classes."""
_SYSTEM = ("thumbs.db", "desktop.ini")


def index_of(folder: Path) -> Path | None:
    """Return the index of a folder of images, or its metadata, or None."""
    index = _table_of(folder, "index")
    if index is not None:
        return index
    metadata = _table_of(folder, "metadata")
    return metadata if metadata is not None and path_column(metadata) is not None else None


def patients_of(folder: Path) -> Path | None:
    """Return the table of patients in a folder, or None."""
    return _table_of(folder, "patients")


def path_column(index: Path) -> str | None:
    """Return the column of an index that holds the images' paths, or None."""
    try:
        names = column_names(index)
    except DpsynthError:
        return None
    return next((name for name in PATHS if name in names), None)


def _table_of(folder: Path, stem: str) -> Path | None:
    return next((path for path in (folder / f"{stem}.parquet", folder / f"{stem}.csv") if path.is_file()), None)


def has_classes(folder: Path) -> bool:
    """Return whether a folder without an index has folders of images, of which `classes_of` takes those it can."""
    if not folder.is_dir() or any((folder / name).exists() for name in _OURS):
        return False
    places = (place for inner in _folders(folder) for place in (inner, *_folders(inner)))
    return any(file.suffix.lower() in _SUFFIXES for place in places for file in _files(place))


def classes_of(folder: Path) -> tuple[list[str], list[str]]:
    """Return the paths of all images in a folder of classes, relative to it and in order, and the class of each.

    Raises
    ------
    DataError
        If images and folders are mixed, or folders lie in folders; no message holds a name, which may be a patient's.
    """
    inner = _folders(folder)
    if any(file.suffix.lower() in _SUFFIXES for file in _files(folder)):
        raise DataError(
            f"{folder.name}: has images beside folders of images. Give each class a folder, or write an index.csv with "
            "the columns image and label."
        )
    if any(_folders(deeper) for deeper in inner):
        raise DataError(
            f"{folder.name}: has folders within its folders, such as those of several parts or of patients. Name the "
            "folder of one part (train), or write an index.csv with the columns image, label and patient."
        )
    pairs = [(f"{place.name}/{file.name}", place.name) for place in inner for file in _files(place)]
    return [path for path, _ in pairs], [label for _, label in pairs]


def class_column(declared: Sequence[str]) -> str:
    """Return the column that classes fill: the one that `images: labels` names, else label.

    Raises
    ------
    DataError
        If it names several.
    """
    if len(declared) > 1:
        raise DataError(f"images: labels names {len(declared)} columns, and a folder for each class gives one label.")
    return declared[0] if declared else "label"


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _files(folder: Path) -> list[Path]:
    """Return the files of a folder, without those that systems put there."""
    names = (path for path in folder.iterdir() if not path.name.startswith(".") and not path.is_dir())
    return sorted(path for path in names if path.name.lower() not in _SYSTEM)
