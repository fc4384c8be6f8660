"""Which files a path, a folder or a pattern means, and what the names of folders say (``year=2020``)."""

import glob
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from dpsynth.errors import FileError
from dpsynth.files.csvfiles import first_bytes

__all__ = ["DUCKDB", "Located", "is_several", "locate", "relation_of"]

DUCKDB = "::"
"""Between a DuckDB file and a table or view in it."""
_TABLES = (".parquet", ".parq", ".pq", ".csv", ".tsv")
_WORDS = (".md", ".yaml", ".yml", ".crc", ".sha256", ".md5", ".lock", ".ledger.jsonl")
"""Endings of files that stand beside tables and hold no patients."""
_NULL = "__HIVE_DEFAULT_PARTITION__"
_MODEL = ("config.json", "privacy.json")


@dataclass(frozen=True)
class Located:
    """Files of one dataset.

    Parameters
    ----------
    root
        The file, or the folder that holds all of them; the ledger lies beside it.
    files
        The files, in the order of their names.
    keys
        For each file what the names of the folders say that it lies in.
    path
        What was named: the file, the folder or the pattern.
    """

    root: Path
    files: tuple[Path, ...]
    keys: tuple[dict[str, str | None], ...]
    path: Path


def relation_of(path: Path) -> tuple[Path, str] | None:
    """Return the DuckDB file and the table or view that ``extract.duckdb::visits`` names; None for any other path."""
    before, mark, relation = str(path).rpartition(DUCKDB)
    if before.startswith(("postgresql:/", "postgres:/")):  # the address of a server, whose `//` a path has lost
        return None
    return (Path(before), relation) if mark and before and relation and not path.exists() else None


def is_several(path: Path) -> bool:
    """Return whether a path is a pattern, a table of a DuckDB file, or a folder of tables, not of images or a model."""
    from dpsynth.files.folder import is_image_folder

    if path.is_dir():
        is_other = is_image_folder(path) or any((path / name).is_file() for name in _MODEL)
        return not is_other and _holds_tables(path)
    return not path.exists() and (_is_pattern(path) or relation_of(path) is not None)


def locate(path: Path) -> Located:
    """Return the files that a path, a folder or a pattern means.

    Parameters
    ----------
    path
        A file; a folder, whose Parquet or CSV files at any depth are meant; or a pattern such as ``visits/*.parquet``.

    Raises
    ------
    FileError
        If there are none, or a folder holds files that are no tables, both kinds of tables, or links to elsewhere.
    """
    if path.is_dir():
        return _located(path, _tables(path), path)
    if path.exists() or not _is_pattern(path):
        first_bytes(path)  # says why a file cannot be a table
        return Located(path, (path,), ({},), path)
    root = _fixed(path)
    files = [file for file in sorted(root.glob(str(path.relative_to(root)))) if file.is_file()]
    files = [file for file in files if not _is_passed_over(file.relative_to(root))]
    if not files:
        raise FileError(f"{path.name}: no file has such a name; correct the pattern, and put it in quotes.")
    return _located(root, files, path)


def _is_pattern(path: Path) -> bool:
    return glob.has_magic(str(path))


def _fixed(path: Path) -> Path:
    """Return the folder above the first part of a pattern that is not fixed."""
    return next(folder for folder in path.parents if not _is_pattern(folder))


def _located(root: Path, files: Iterable[Path], path: Path) -> Located:
    files, real = tuple(files), root.resolve()
    if not files:
        raise FileError(f"{path.name}: the folder holds no Parquet and no CSV file; give one that does.")
    if any(real not in file.resolve().parents for file in files):
        raise FileError(
            f"{path.name}: one of the files is a link to a file elsewhere, so which ledger counts for its patients "
            "cannot be told. Name the folder where the files are."
        )
    if len({file.resolve() for file in files}) < len(files):
        raise FileError(f"{path.name}: two names are links to one file, whose patients would count twice; drop one.")
    return Located(root, files, tuple(_keys(file) for file in files), path)


def _tables(folder: Path) -> list[Path]:
    """Return the tables in a folder, at any depth."""
    files = [f for f in sorted(folder.rglob("*")) if f.is_file() and not _is_passed_over(f.relative_to(folder))]
    other = next((f for f in files if not _is_table(f)), None)
    if other is not None:
        raise FileError(
            f"{folder.name}: holds a file {_kind(other)}, which is neither Parquet nor CSV by its name. Take it out of "
            "the folder, or name the files that are meant by a pattern in quotes, such as 'folder/*.parquet'."
        )
    kinds = {_ending(file) in (".csv", ".tsv") for file in files}
    if len(kinds) > 1:
        raise FileError(
            f"{folder.name}: holds both Parquet and CSV files; if they hold the same rows, patients would count twice. "
            "Name the files that are meant by a pattern in quotes, such as 'folder/*.parquet'."
        )
    return files


def _holds_tables(folder: Path) -> bool:
    return any(_is_table(file) for file in folder.rglob("*") if not _is_passed_over(file.relative_to(folder)))


def _ending(file: Path) -> str:
    name = file.name.lower().removesuffix(".gz")
    return Path(name).suffix


def _kind(file: Path) -> str:
    """Return a file's ending in words; its name may be a patient's."""
    return f"that ends in {file.suffix.lower()}" if file.suffix[1:].isalnum() else "without an ending"


def _is_table(file: Path) -> bool:
    return _ending(file) in _TABLES


def _is_passed_over(file: Path) -> bool:
    """Return whether a file is hidden, a marker that another program left, or of words."""
    return any(part.startswith((".", "_")) and part not in ("..", ".") for part in file.parts) or (
        file.name.lower().endswith(_WORDS)
    )


def _keys(file: Path) -> dict[str, str | None]:
    """Return what the names of a file's folders say, as text; nothing is made of it but what the schema declares."""
    parts = [part.partition("=") for part in file.parent.parts]
    return {name: None if value == _NULL else unquote(value) for name, mark, value in parts if mark and name}
