"""Which ledger a run on a cohort is kept in."""

from pathlib import Path

from dpsynth.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.privacy.ledger import Ledger

__all__ = ["ledger_for"]


def ledger_for(cohort: Cohort, named: str | Path | Ledger | None = None) -> Ledger | None:
    """Return the ledger that is named, or that beside the data; without a name None for public data and for a frame.

    Raises
    ------
    InputError
        If another ledger is named than one that lies beside the data already: it would forget what was spent.
    """
    own = None if cohort.public or cohort.source is None else Ledger.beside(cohort.source)
    if named is None:
        return own
    book = named if isinstance(named, Ledger) else Ledger(named)
    if own is not None and own.path.exists() and not _one_file(own.path, book.path):
        raise InputError(
            f"ledger: {own.path.name} beside the data knows what was spent on them, and {book.path.name} is another "
            f"file, which would forget it. Leave the ledger out, or name {own.path.name}. To keep it elsewhere, move "
            f"{own.path.name} there and name it in every run."
        )
    return book


def _one_file(first: Path, second: Path) -> bool:
    return second.exists() and first.samefile(second)
