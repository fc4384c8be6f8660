"""Atomic replacement of a file, flushed to the disk."""

import contextlib
import errno
import os
import stat
from pathlib import Path


def replace_synced(target: Path, text: str) -> None:
    """Put a text in a file's place, all or nothing, and bring it to the disk; the caller holds the file's lock.

    Raises
    ------
    OSError
        When it cannot be written; the old file is there, or none.
    """
    fresh = target.with_name(target.name + ".tmp")
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "the file is read-only")
    try:
        fresh.unlink(missing_ok=True)  # left by a killed process: we hold the lock
        _write_synced(fresh, text.encode("utf-8"), target)
        fresh.replace(target)
        _sync_folder(target.parent)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise


def _write_synced(path: Path, data: bytes, like: Path) -> None:
    """Write a new file with the mode of another and bring it to the disk."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o644)
    try:
        if like.exists():
            path.chmod(stat.S_IMODE(like.stat().st_mode))
        while data:
            data = data[os.write(handle, data) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    """Bring a rename to the disk."""
    if os.name == "nt":  # Windows has no handle on a folder; its rename is journalled
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
