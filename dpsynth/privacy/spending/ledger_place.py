"""Where the ledger of a dataset is: beside the table, the archive or the folder, or kept for a database's tables."""

from collections.abc import Sequence
from pathlib import Path

from dpsynth.cohort.cohort import Cohort
from dpsynth.errors import InputError, LedgerError
from dpsynth.files.folder import folder_of
from dpsynth.files.layouts import (
    STEMS,
    index_of,
    patients_of,
)
from dpsynth.privacy.spending import ledger_pointer
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.privacy.spending.named_places import common_book, named_places
from dpsynth.sources.homes import home_of
from dpsynth.sources.scanned import ScannedCohort


def dataset_of(path: Path) -> Path:
    """Return that beside which the ledger of a path's patients lies, whatever name they are read under.

    A folder of images and its tables are one dataset; links are followed first, also that of a folder to its table of
    patients. Where a table was spent on before it had images, or a folder while it had its index, that ledger goes on.

    Raises
    ------
    LedgerError
        If a folder and one of its tables have a ledger each, so that there is no total.
    """
    real = path.resolve()
    folder = folder_of(real)
    if not folder.is_dir():
        return _spent_on(path, real.parent) if real.stem in STEMS else path
    table = patients_of(folder) or index_of(folder)
    if table is not None and table.resolve() != table:
        home = dataset_of(table.resolve())
    else:
        home = path if folder == real else folder
    return _spent_on(home, folder, *(folder / f"{stem}.{kind}" for stem in STEMS for kind in ("parquet", "csv")))


def _spent_on(home: Path, *others: Path) -> Path:
    """Return the place that has a ledger already, else the first: all are of the same patients."""
    books = {Ledger.beside(place).path: place for place in (*others, home)}
    ledgers = [book for book in books if ledger_pointer.exists(book)]
    if len(ledgers) > 1 and len({ledger_pointer.counted(book) for book in ledgers}) > 1:
        raise LedgerError(
            f"{home.name}: {' and '.join(sorted(book.name for book in ledgers))} keep apart what was spent on the same "
            "patients, so there is no total. Whoever answers for the data decides: put one of them away, and count "
            "what it says was spent against the limit."
        )
    return books[ledgers[0]] if ledgers else home


def ledger_of(cohort: Cohort | ScannedCohort, named: str | Path | Ledger | None = None) -> Ledger | None:
    """Return the ledger of a cohort: the one that is named, else the one beside its file; None for a public cohort.

    A ledger that is named for a file counts for it from then on: the place beside the file points to it.

    Parameters
    ----------
    cohort
        The cohort on which something is to be spent.
    named
        The ledger, or the path of its file, where the caller names one.

    Returns
    -------
    Ledger or None
        None where the cohort is public and no ledger is named.

    Raises
    ------
    InputError
        If a private cohort has no file and no ledger is named, or another one is named than lies beside the file
        already, or than that place points to: that would forget what was spent.
    LedgerError
        If the place beside the file points to a ledger that is not there.

    Examples
    --------
    >>> from dpsynth.schema.schema import Schema
    >>> schema = Schema.parse("{name: ward, columns: {age: {type: numeric, min: 0, max: 99}}}")
    >>> import pandas as pd
    >>> cohort = Cohort.from_pandas(pd.DataFrame({"age": [64, 71]}), schema)
    >>> ledger_of(cohort, "ward.ledger.jsonl")
    Ledger('ward.ledger.jsonl')
    """
    places = [] if cohort.public else places_of(cohort)
    named = getattr(cohort, "ledger", None) if named is None else named
    if named is None:
        if not places and not cohort.public:
            raise InputError(_nowhere(cohort))
        return common_book(places).counting(*places) if places else None
    book = named if isinstance(named, Ledger) else Ledger(named)
    return book.counting(*places) if places else book


def places_of(cohort: Cohort | ScannedCohort) -> list[Ledger]:
    """Return the places at which it is known what was spent on a cohort's patients, whichever way they were read.

    Beside their file or folder; for the name that their steward gave them (`dataset` in the schema); for each table of
    a database. A new ledger is kept at the first.

    Raises
    ------
    InputError, LedgerError
        If the folder of such ledgers is not there, or two ledgers lie beside the files.
    """
    members, relations = (cohort.members, cohort.relations) if isinstance(cohort, ScannedCohort) else ((), None)
    beside = [] if cohort.source is None else [Ledger.beside(home(dataset_of(cohort.source), members))]
    return [*beside, *named_places(cohort.schema.dataset, relations)]


def _nowhere(cohort: Cohort | ScannedCohort) -> str:
    """Say why no ledger can be found for a cohort, and what to do."""
    if isinstance(cohort, ScannedCohort) and cohort.relations is not None:
        why = "reads no table of its own" if cohort.relations.server else "is on a server that does not say which it is"
        return (
            f"dataset: the query {why}, so it cannot be told whose patients these are, and which ledger counts for "
            "them. Give them a name (dataset: in the schema, or --dataset), the same for every run on these patients."
        )
    return (
        "ledger: this private cohort came from a data frame or another object, so there is no file beside which to "
        "keep what is spent on it. Pass ledger=Ledger('cohort.ledger.jsonl') and use that one file for every run on "
        "these data."
    )


def home(root: Path, members: Sequence[Path]) -> Path:
    """Return the file or folder beside which the ledger of files lies; see `dpsynth.sources.homes`."""
    return home_of(root, members, lambda path: Ledger.beside(path).exists())
