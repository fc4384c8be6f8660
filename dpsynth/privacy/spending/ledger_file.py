"""The file of a ledger: locked, read whole, and written so that it is on the disk."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dpsynth.errors import LedgerError
from dpsynth.privacy.spending import ledger_pointer
from dpsynth.privacy.spending.ledger_records import (
    RESTORE,
    LedgerState,
    chain,
    parse,
)
from dpsynth.privacy.spending.synced import replace_synced

LOCK_SECONDS = 60.0


class LedgerFile:
    """One file that is read whole, and replaced whole under a lock.

    Parameters
    ----------
    path
        The ledger file; it need not exist yet.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._places: tuple[Path, ...] = ()

    def _target(self) -> Path:
        """Return the file itself, links and pointers followed, so that two names of one file share one lock."""
        return ledger_pointer.counted(self.path.resolve())

    def _read(self) -> LedgerState:
        target = self._target()
        try:
            if not stat.S_ISREG(target.stat().st_mode):
                raise LedgerError(f"{self.path.name}: is not a regular file, so it cannot be a ledger.")
            text = target.read_bytes().decode("utf-8")
        except FileNotFoundError:
            return LedgerState()
        except UnicodeDecodeError:
            raise LedgerError(f"{self.path.name}: is not a ledger (not text). {RESTORE}") from None
        except OSError as error:
            raise LedgerError(f"{self.path.name}: the ledger cannot be read ({error.strerror}).") from None
        return parse(text, self.path.name)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[LedgerState]:
        """Hold the dataset's lock and give what the file says at that moment."""
        while True:
            target = self._target()
            if not target.parent.is_dir():  # a lock would make it, and a misspelt path would then be a fresh ledger
                raise self._unwritable(FileNotFoundError(errno.ENOENT, "its folder does not exist"))
            with self._held(target):
                if self._target() == target:  # else a first run that named another ledger was faster: go there
                    yield self._read()
                    return

    @contextlib.contextmanager
    def _place_held(self) -> Iterator[dict[Path, Path]]:
        """Hold the places of the data that are to point here, and give for each where its pointer goes."""
        homes: dict[Path, Path] = {}
        with contextlib.ExitStack() as locks:
            for place in sorted(self._places):  # in one order for all processes, so that none waits for another
                try:
                    homes[place] = ledger_pointer.writable(place)
                except OSError as error:
                    raise self._unwritable(error) from None
                locks.enter_context(self._held(homes[place]))
                ledger_pointer.check(place, self._target())
            yield homes

    def _point(self, homes: Mapping[Path, Path]) -> None:
        """Let the places of the data point here."""
        target = self._target()
        for place, home in homes.items():
            if not target.exists() or ledger_pointer.counts(place, target):
                continue
            try:
                ledger_pointer.write(home, target)
            except OSError as error:
                raise self._unwritable(error) from None

    @contextlib.contextmanager
    def _held(self, file: Path) -> Iterator[None]:
        """Hold the lock of a file."""
        from filelock import FileLock, Timeout

        lock = FileLock(f"{file}.lock", timeout=LOCK_SECONDS)
        try:
            lock.acquire()
        except Timeout:
            raise LedgerError(
                f"{self.path.name}: another process has held the ledger for {LOCK_SECONDS:g} s; wait for it to end."
            ) from None
        except (OSError, NotImplementedError) as error:
            raise self._unwritable(error) from None
        try:
            yield
        finally:
            lock.release()

    def _write(self, state: LedgerState, records: Sequence[Mapping[str, Any]]) -> None:
        """Replace the file by itself plus new records, all or nothing, and bring it to the disk."""
        text = "".join(line + "\n" for line in [*state.lines, *chain(records, state.checksum)])
        try:
            replace_synced(self._target(), text)
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: Exception) -> LedgerError:
        why = getattr(error, "strerror", None) or type(error).__name__
        return LedgerError(
            f"{self.path.name}: the ledger cannot be written ({why}), so nothing may be spent. Make room or give write "
            "access to its folder, or name another ledger file that every run on this dataset will use."
        )
