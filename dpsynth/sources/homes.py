"""Beside which file or folder the ledger of patients lies that are in many files.

One ledger counts for all ways to the same files, as far as it can be told: a folder, a pattern of files in it and one
of its files are the same patients, or some of them. So whichever of them was spent on first goes on: a file in a folder
that has a ledger counts there, and a folder one of whose files has a ledger counts there. Where two of them have one,
there is no total, and a run is refused.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from dpsynth.errors import LedgerError

__all__ = ["home_of"]


def home_of(root: Path, members: Iterable[Path], spent: Callable[[Path], bool]) -> Path:
    """Return the path beside which the ledger lies that counts for a dataset.

    Parameters
    ----------
    root
        The dataset's own path: a file, or the folder that holds all files of it.
    members
        The files that it consists of.
    spent
        Returns whether a ledger, or what points to one, is beside a path.

    Raises
    ------
    LedgerError
        If several of the paths that lead to these patients have a ledger each.
    """
    real = root.resolve()
    inside: dict[Path, None] = {}
    for member in (member.resolve() for member in members):
        between = [folder for folder in member.parents if real in folder.parents]
        inside |= dict.fromkeys([*between, *([member] if member != real else [])])
    books = [path for path in (*reversed(real.parents), *inside) if path.name and spent(path)]
    if spent(root):
        books = [root, *books]
    if len(books) > 1:
        raise LedgerError(
            f"{real.name}: {len(books)} ledgers lie beside it, beside files in it or beside folders around it, and all "
            "are of these patients, so there is no total. Whoever answers for the data decides: put all but one away, "
            "and count what they say was spent against the limit."
        )
    return books[0] if books else root
