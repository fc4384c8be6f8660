"""Files that are whole or not there: folders are written beside their target and renamed."""

import contextlib
import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from dpsynth.errors import FileError, InputError

__all__ = [
    "check_target",
    "check_unpublished",
    "new_folder",
    "read_json",
    "whole_file",
    "write_error",
    "write_json",
]

_PUBLISHED = ("privacy.json", "model.safetensors")
"""Files by which a release, or a saved model, is known."""


def write_error(path: Path, error: OSError) -> FileError:
    """Return the error to raise where `path` could not be written: what happened and what to do."""
    reason = error.strerror or type(error).__name__
    remedy = {
        errno.ENOSPC: "free some space or choose another folder",
        errno.EFBIG: "free some space or choose another folder",
        errno.EDQUOT: "free some space or choose another folder",
        errno.EACCES: "choose a folder that you may write to",
        errno.EISDIR: "give the name of a file, this is a folder",
        errno.EROFS: "choose a folder that you may write to",
    }.get(error.errno or 0, "choose another place")
    return FileError(f"{path.name}: cannot be written ({reason}); nothing was left half-written. To go on, {remedy}.")


def check_target(target: Path, *, force: bool = False) -> None:
    """Refuse a target that is there already, or whose parent is not, before any work is done for it.

    Raises
    ------
    FileError
        If `target` exists and `force` is false, is not a folder, or its parent folder does not exist.
    """
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise FileError(f"{target.name}: is there and is not a folder; choose another name.")
    if target.exists() and not force:
        raise FileError(
            f"{target.name}: is there already; choose another folder, or replace it on purpose with --force."
        )
    parent = target.absolute().parent
    if not parent.is_dir():
        raise FileError(f"{target.name}: its parent folder does not exist; create it first.")
    if not os.access(parent, os.W_OK):
        raise FileError(f"{target.name}: its parent folder cannot be written to; choose another place.")


def check_unpublished(target: Path) -> None:
    """Refuse a place in a release or a saved model for a file that is not to be published.

    Raises
    ------
    InputError
        If the file, or folder, would lie in one of them, at any depth.
    """
    parent = target.parent.resolve()
    for folder in (parent, *parent.parents):
        mark = next((name for name in _PUBLISHED if (folder / name).is_file()), None)
        if mark is not None:
            raise InputError(
                f"{target.name}: is internal, and {folder.name} is made to be published (it holds {mark}). Write it to "
                "a folder outside of that one."
            )


@contextlib.contextmanager
def new_folder(target: str | Path, *, force: bool = False) -> Iterator[Path]:
    """Give a temporary folder beside `target` that becomes `target` when the block ends well, and vanishes else.

    Parameters
    ----------
    target : path
        The folder to make.
    force : bool
        Replace a folder that is there. The old one stays whole until the new one is.

    Raises
    ------
    FileError
        If the target is there (without `force`) or cannot be written.
    """
    target = Path(target)
    check_target(target, force=force)
    mark = secrets.token_hex(4)
    fresh = target.with_name(f".{target.name}.{mark}.partial")
    try:
        fresh.mkdir()
        yield fresh
        _sync(fresh)
        _swap(fresh, target, target.with_name(f".{target.name}.{mark}.old"))
    except FileError:
        raise
    except OSError as error:
        raise write_error(target, error) from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


@contextlib.contextmanager
def whole_file(target: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `target` that becomes `target` when the block ends well, and vanishes else.

    Parameters
    ----------
    target : path
        The file to make; a file that is there is replaced in one step.

    Raises
    ------
    FileError
        If the target cannot be written.
    """
    target = Path(target)
    fresh = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        yield fresh
        with fresh.open("rb+") as file:
            os.fsync(file.fileno())
        fresh.replace(target)
    except FileError:
        raise
    except OSError as error:
        raise write_error(target, error) from None
    finally:
        fresh.unlink(missing_ok=True)


def _swap(fresh: Path, target: Path, aside: Path) -> None:
    """Rename `fresh` to `target`; a folder that is there is moved aside first and put back if that fails."""
    if not target.exists():
        fresh.rename(target)
        return
    target.rename(aside)
    try:
        fresh.rename(target)
    except BaseException:
        aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Bring every file of `folder` to the disk, so that a full disk is met before the rename."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    with ThreadPoolExecutor(16) as pool:  # together: 3,000 small images take half a second, one by one twelve
        list(pool.map(_sync_file, files))


def _sync_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value, readable by people; NaN and infinity are refused, because JSON has neither."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path, *, limit: int = 1 << 28) -> Any:
    """Read a JSON file of at most `limit` bytes.

    Raises
    ------
    InputError
        If the file is not there, too large, not UTF-8 or not JSON. The message holds nothing of its content.
    """
    try:
        if path.stat().st_size > limit:
            raise InputError(f"{path.name}: is larger than {limit} bytes.")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path.name}: cannot be read ({error.strerror or 'unknown reason'}).") from None
    except (ValueError, RecursionError):  # not UTF-8, not JSON, or a number of more digits than Python reads
        raise InputError(f"{path.name}: is not a JSON file, or is cut short.") from None
