"""A temporary folder for private values: only its owner can read it, and it is gone after the run.

It is removed when the session closes, when the process ends or is interrupted. A second, idle process removes it when
the run is killed (SIGKILL): it waits for the end of a pipe that closes with the run. What stays when that one is killed
too, or after a power cut, is removed by the next run of the same user on the same machine: a folder whose lock nobody
holds belongs to no run.
"""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from dpsynth.errors import FileError

__all__ = ["Scratch"]

PREFIX = "dpsynth-rows-"
FRESH = "dpsynth-new-"
"""Begins the name of a folder whose lock is not held yet."""
LOCK = "lock"
WATCH = "import shutil, sys; sys.stdin.buffer.read(); shutil.rmtree(sys.argv[1], ignore_errors=True)"
"""What the second process does: it imports nothing of ours and knows nothing but the folder's name."""
YOUNG = 60.0
"""Seconds in which a run that has only just made its folder is sure to hold the lock."""


class Scratch:
    """A new temporary folder (mode 0700) with a lock that is held as long as the process lives.

    It lies where temporary files lie (``TMPDIR``). Making one removes what killed runs have left there.

    Raises
    ------
    FileError
        If it cannot be made.
    """

    def __init__(self) -> None:
        remove_stale(Path(tempfile.gettempdir()))
        with writing():
            fresh = Path(tempfile.mkdtemp(prefix=FRESH))
            lock = FileLock(fresh / LOCK, thread_local=False)
            lock.acquire(timeout=0)
            self.folder = fresh.rename(fresh.with_name(PREFIX + fresh.name.removeprefix(FRESH)))
        self._remove = weakref.finalize(self, _removed, self.folder, lock, _watch(self.folder))

    def __repr__(self) -> str:
        return "Scratch(...)"

    @property
    def is_closed(self) -> bool:
        """Whether it was removed."""
        return not self._remove.alive

    def close(self) -> None:
        """Remove the folder; a second call does nothing."""
        self._remove()


def _watch(folder: Path) -> "subprocess.Popen[bytes] | None":
    """Start the process that removes the folder when this one is killed; Ctrl-C does not reach it.

    Where no process can be started, the next run removes what a killed one leaves.
    """
    command = [sys.executable, "-I", "-S", "-c", WATCH, str(folder)]
    silent = subprocess.DEVNULL
    try:
        return subprocess.Popen(  # noqa: S603  (our own words and a folder that we made)
            command, stdin=subprocess.PIPE, stdout=silent, stderr=silent, start_new_session=True
        )
    except OSError:
        return None


def _removed(folder: Path, lock: FileLock, watch: "subprocess.Popen[bytes] | None" = None) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lock.release()
    if watch is not None:
        watch.communicate()  # closes the pipe, upon which it ends


@contextmanager
def writing() -> Iterator[None]:
    """Turn what the operating system says of a temporary file that cannot be written into our own error.

    Raises
    ------
    FileError
        With what to do about it.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or "the disk may be full"
        raise FileError(
            f"temporary folder: {tempfile.gettempdir()} cannot be written ({reason}). Rows that do not fit into memory "
            "are kept there while the run lasts, about twice as much as the uncompressed codes of all rows; nothing "
            "was left in it. Free some space, or name another folder in the environment variable TMPDIR."
        ) from None


def remove_stale(place: Path) -> None:
    """Remove the temporary folders of this user's runs that were killed; those of running ones stay."""
    for folder in (*place.glob(PREFIX + "*"), *place.glob(FRESH + "*")):
        if not _is_ours(folder):
            continue
        lock = FileLock(folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):
            continue
        _removed(folder, lock)


def _is_ours(folder: Path) -> bool:
    """Return whether a path is a folder, no link, of this user, and not one that is only just being made."""
    try:
        facts = folder.lstat()
        owner = os.geteuid() if hasattr(os, "geteuid") else facts.st_uid
        mine = stat.S_ISDIR(facts.st_mode) and facts.st_uid == owner
        return mine and (folder.name.startswith(PREFIX) or time.time() - facts.st_mtime > YOUNG)
    except OSError:
        return False
