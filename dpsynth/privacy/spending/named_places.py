"""Places of ledgers of patients who are beside no file: the tables of a database, and datasets that a steward named.

They lie in one folder: that which the environment variable ``DPSYNTH_LEDGERS`` names, else one of the user's own. Each
table has a place, by its server, database, schema and name, and so has each name. All places of a query lead to one
ledger: the first run writes it at one of them and pointers at the others, so that whichever table is read next, by
whatever query, finds it. Where two of them lead to different ledgers there is no total, and a run is refused.
"""

import hashlib
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from dpsynth.errors import InputError, LedgerError
from dpsynth.privacy.spending import ledger_pointer
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.sources.relations import Relations

__all__ = ["FOLDER", "common_book", "named_places"]

FOLDER = "DPSYNTH_LEDGERS"
_LONGEST = 80


def named_places(dataset: str, relations: Relations | None) -> list[Ledger]:
    """Return the places of a dataset's name and of the tables of a query.

    Parameters
    ----------
    dataset
        The name that a steward gave; empty where none was. Case, and blanks around it, make no difference.
    relations
        The tables; None where patients are in no database.

    Returns
    -------
    list of Ledger
        Empty where there is no name and no table can be told.

    Raises
    ------
    InputError
        If the folder that the environment names is not there, or the user has none.
    """
    name = unicodedata.normalize("NFKC", dataset).strip().casefold()
    keys: list[tuple[str, ...]] = [("dataset", name)] if name else []
    keys += [] if relations is None else list(relations.keys)
    if not keys:
        return []
    folder = _folder()
    return [Ledger.beside(folder / _file(key)) for key in keys]


def _file(key: Sequence[str]) -> str:
    """Return a name that a person can read and that no other key has."""
    words = re.sub(r"[^\w.-]+", "_", ".".join(key[-3:]))[:_LONGEST]
    return f"{words}-{hashlib.sha256(chr(0).join(key).encode()).hexdigest()[:16]}"


def _folder() -> Path:
    """Return the folder of such ledgers; the user's own is made."""
    given = os.environ.get(FOLDER)
    if given:
        if not Path(given).is_dir():
            raise InputError(f"{FOLDER}: names a folder that is not there, so no ledger can be kept in it; make it.")
        return Path(given)
    state = ledger_pointer.state_folder()
    if state is None:
        raise InputError(f"{FOLDER}: no home folder is known; name in it the folder of the ledgers of databases.")
    folder = state / "datasets"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(
            f"{folder}: cannot be made ({error.strerror}), so no ledger can be kept there. Name another folder in "
            f"the environment variable {FOLDER}."
        ) from None
    return folder


def common_book(places: Sequence[Ledger]) -> Ledger:
    """Return the place that leads to the ledger of all, or the first where nothing was spent yet.

    Raises
    ------
    LedgerError
        If they lead to different ones.
    """
    books = {ledger_pointer.counted(place.path.resolve()): place for place in places if place.exists()}
    if len(books) > 1:
        names = " and ".join(sorted(book.name for book in books))
        raise LedgerError(
            f"ledger: {names} keep apart what was spent on patients who are read together here, so there is no total. "
            "Whoever answers for the data decides: put one of them away, and count what it says was spent against the "
            "limit of the other; or read tables that were not read together with others."
        )
    return next(iter(books.values()), places[0])
