"""Pointers to ledgers: where one is kept elsewhere, the place beside the data says which file counts.

The *place* of a file of patients is ``<data file>.ledger.jsonl`` beside it. There the ledger lies, or, where the first
run named another file, a pointer of one line that says where it is. So every later run finds it, whichever name it is
given or none. The run's own ledger is written first and the pointer then, both before the data is touched: whoever is
killed between the two has read nothing, and what they reserved counts in the ledger that they named.

A pointer says where the ledger is, from the root and from its own folder (a folder that is moved whole keeps its
ledger), and the checksum of the ledger's first record, by which it is told from any other file. Where both ways lead to
copies, the one that goes on from the other counts; copies that went different ways are refused, and so is a pointer to
what is not there.

In a folder that may not be written, the pointer lies with the user's own files (``$XDG_STATE_HOME/dpsynth``), under a
hash of the place's name: it is then found by runs of this user on this machine alone.

A pointer holds a path, stays with the data and is in no release.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from dpsynth.errors import InputError, LedgerError
from dpsynth.privacy.spending.ledger_records import chain
from dpsynth.privacy.spending.synced import replace_synced

STATE = "elsewhere"
LONGEST = 2**16


@dataclass(frozen=True)
class Pointer:
    """The contents of a pointer file.

    Parameters
    ----------
    place
        The pointer's own file.
    absolute, relative
        The ledger from the root, and from the pointer's folder; ``relative`` is empty where there is no such way.
    first
        Checksum of the ledger's first record.
    """

    place: Path
    absolute: str
    relative: str
    first: str

    def candidates(self) -> list[Path]:
        """Return the files to which it leads that begin as the ledger does, each once."""
        ways = [Path(self.absolute), *([self.place.parent / self.relative] if self.relative else [])]
        there: list[Path] = []
        for way in ways:
            if first_checksum(way) == self.first and not any(way.samefile(other) for other in there):
                there.append(way.resolve())
        return there

    def target(self) -> Path:
        """Return the ledger.

        Raises
        ------
        LedgerError
            When it is not there, or copies of it went different ways.
        """
        there = self.candidates()
        if not there:
            raise LedgerError(
                f"{self.place.name}: what was spent on these data is kept in {self.absolute}, and that ledger is not "
                "there, or is another one. Bring it back from a backup; if it was moved, name it where it is now "
                "(--ledger, ledger=)."
            )
        texts = [file.read_bytes() for file in there]
        longest = max(texts, key=len)
        if not all(longest.startswith(text) for text in texts):
            raise LedgerError(
                f"{self.place.name}: {there[0]} and {there[1]} are copies of one ledger that went different ways, so "
                "there is no total. Whoever answers for the data decides: put one of them away, and count what it says "
                "was spent against the limit."
            )
        return there[texts.index(longest)]


def state_folder() -> Path | None:
    """Return the folder of the user's own files of dpsynth, which need not exist; None where no home is known."""
    state = os.environ.get("XDG_STATE_HOME") or os.environ.get("LOCALAPPDATA")
    try:
        return (Path(state) if state else Path.home() / ".local" / "state") / "dpsynth"
    except RuntimeError:  # no home
        return None


def remembered(place: Path) -> Path | None:
    """Return where the pointer of a place lies whose folder may not be written; None where no home is known."""
    state = state_folder()
    name = hashlib.sha256(os.fsencode(place)).hexdigest()[:32]
    return None if state is None else state / "ledgers" / f"{name}.ledger.jsonl"


def writable(place: Path) -> Path:
    """Return where the pointer of a place can be written: there, or with the user's own files.

    Raises
    ------
    OSError
        When neither can be written.
    """
    elsewhere = remembered(place)
    if os.access(place.parent, os.W_OK) or elsewhere is None:
        return place
    elsewhere.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return elsewhere


def read(place: Path) -> Pointer | None:
    """Return the pointer at a place, or kept for it; None where there is a ledger, or nothing."""
    for file in (place, remembered(place)):
        if file is not None and file.is_file():
            return _parsed(file)
    return None


def exists(place: Path) -> bool:
    """Whether anything is known of what was spent on the data beside a place: a ledger or a pointer to one."""
    elsewhere = remembered(place)
    return place.exists() or (elsewhere is not None and elsewhere.exists())


def counted(place: Path) -> Path:
    """Return the ledger file that counts for a place: the file itself, or the one that it points to.

    Raises
    ------
    LedgerError
        When a pointer leads to nothing, or to copies that went different ways.
    """
    pointer = read(place)
    return place if pointer is None else pointer.target()


def check(place: Path, ledger: Path) -> None:
    """Refuse a ledger that would forget what is known at a place; the one that it points to, moved, is taken.

    Raises
    ------
    InputError
        When the place has another ledger, or points to one.
    LedgerError
        When it points to what is not there.
    """
    if not exists(place):
        return
    pointer = read(place)
    if pointer is not None and not pointer.candidates() and first_checksum(ledger) == pointer.first:
        return
    there = counted(place)
    if not (ledger.exists() and there.samefile(ledger)):
        leads = "" if pointer is None else f"leads to {there}, which "
        raise InputError(
            f"ledger: {place.name} beside the data {leads}knows what was spent on them, and {ledger.name} is another "
            f"file, which would forget it. Leave the ledger out, or name {there.name}. To keep it elsewhere, move "
            f"{there.name} there and name it in the next run."
        )


def counts(place: Path, ledger: Path) -> bool:
    """Whether a place leads to this ledger already, by its own file or by where its pointer says that it is."""
    if place == ledger:
        return True
    pointer = read(place)
    return pointer is not None and Path(pointer.absolute) == ledger and first_checksum(ledger) == pointer.first


def write(place: Path, ledger: Path) -> None:
    """Let a place point to a ledger that is there; whoever calls holds the place's lock.

    Raises
    ------
    OSError
        When it cannot be written.
    """
    try:
        relative = Path(os.path.relpath(ledger, place.parent)).as_posix()
    except ValueError:  # another drive
        relative = ""
    (line,) = chain(
        [{"state": STATE, "ledger": str(ledger), "relative": relative, "first": first_checksum(ledger)}], ""
    )
    replace_synced(place, line + "\n")


def first_checksum(ledger: Path) -> str:
    """Return the checksum of a ledger's first record, which it keeps for good; empty where there is none."""
    try:
        with ledger.open("rb") as file:
            record = json.loads(file.readline(LONGEST))
    except (OSError, ValueError, RecursionError):
        return ""
    checksum = record.get("sum") if isinstance(record, dict) and record.get("state") != STATE else ""
    return checksum if isinstance(checksum, str) else ""


def _parsed(file: Path) -> Pointer | None:
    """Return what a pointer file says; None where it is anything else, which the ledger's own reader then judges."""
    try:
        with file.open("rb") as lines:
            line = lines.readline(LONGEST).decode("utf-8")
        record = json.loads(line)
        if record["state"] != STATE or line != next(chain([_facts(record)], "", version=record["v"])) + "\n":
            return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return Pointer(file, record["ledger"], record["relative"], record["first"])


def _facts(record: dict[str, str]) -> dict[str, str]:
    facts = {name: record[name] for name in ("state", "ledger", "relative", "first")}
    if not all(isinstance(value, str) for value in facts.values()) or not facts["first"]:
        raise ValueError("not a pointer")
    return facts
