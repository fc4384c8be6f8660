"""``dpsynth ledger``: what was spent on a dataset, and raising its limit on purpose."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpsynth.cli.common import JsonOption, LedgerOption, emit, guarded, note, table
from dpsynth.cli.databases import DatasetOption, QueryOption, source
from dpsynth.errors import FileError, InputError

if TYPE_CHECKING:
    from dpsynth.privacy.spending.ledger import Ledger
    from dpsynth.privacy.spending.ledger_records import Run
    from dpsynth.sources.database import Database

app = typer.Typer(no_args_is_help=True, help="What was spent on a dataset, over all runs.")

DataArgument = Annotated[
    str | None,
    typer.Argument(
        help="The data file, folder or pattern (its ledger lies beside it), the table of a database, or a ledger file.",
        show_default=False,
    ),
]


@app.command()
@guarded
def show(
    data: DataArgument = None,
    query: QueryOption = None,
    dataset: DatasetOption = "",
    ledger: LedgerOption = None,
    json: JsonOption = False,
) -> None:
    """Show the limit of a dataset and every run on it.

    A run without an end (killed, or still going) counts with all that it reserved.

    For example:

        dpsynth ledger show ward.csv

        dpsynth ledger show --ledger shared/ward.ledger.jsonl --json

        dpsynth ledger show postgresql://steward@db/ehr::ward.visits
    """
    facts = _facts(_find(data, ledger, query, dataset))
    if json:
        emit(facts)
        return
    limit = facts["limit"]
    limited = f"limit: epsilon {limit['epsilon']:g}, delta {limit['delta']:g}" if limit else "no limit yet"
    table(
        f"{facts['ledger']}: {limited}",
        ("time", "run", "label", "protected", "epsilon", "delta", "state"),
        [_row(run) for run in facts["runs"]],
        caption=f"spent: epsilon {facts['spent']['epsilon']:.4g} at delta {facts['spent']['delta']:g}",
    )
    if limit:
        note(_limits(facts))
    if facts["unnamed"]:
        note(
            f"{facts['unnamed']} run(s) were recorded without the name of their patient column; the total holds if "
            "they had the same column as the others."
        )
    if facts["added"]:
        note(
            f"added up: epsilon {facts['added']['epsilon']:.4g}, delta {facts['added']['delta']:g}. This holds even "
            "where a training was chosen by what an earlier run had shown; the total above where all runs were decided "
            "beforehand."
        )


@app.command("raise-limit")
@guarded
def raise_limit(
    *,
    epsilon: Annotated[float, typer.Option("--epsilon", "-e", help="The new limit for all runs together.")],
    reason: Annotated[str, typer.Option("--reason", help="Who decided it and why; kept in the ledger.")],
    data: DataArgument = None,
    delta: Annotated[
        float | None, typer.Option("--delta", help="The new limit of delta; default: the present one.")
    ] = None,
    query: QueryOption = None,
    dataset: DatasetOption = "",
    ledger: LedgerOption = None,
    json: JsonOption = False,
) -> None:
    """Raise the limit of a dataset. It is never lowered, and the reason stays in the file.

    Patients are protected less afterwards: this is a decision of those who answer for the data.

    For example:

        dpsynth ledger raise-limit ward.csv --epsilon 3 --reason "data protection board, 12 May"
    """
    from dpsynth.privacy.spending.budget import Budget, default_delta

    book = _find(data, ledger, query, dataset)
    old = book.limit
    fallback = old.delta if old else default_delta()
    book.raise_limit(Budget(epsilon, fallback if delta is None else delta), reason=reason)
    if json:
        emit(_facts(book))
        return
    note(f"{book.name}: the limit is now epsilon {epsilon:g}; the reason is in the ledger.")


def _row(run: dict[str, Any]) -> tuple[str, ...]:
    spent = (f"{run['epsilon']:g}", f"{run['delta']:g}")
    return (run["time"][:16], run["run"], run["label"], run["protected"], *spent, run["state"])


def _limits(facts: dict[str, Any]) -> str:
    """Say of epsilon and of delta what is spent and what is left, and which of them ends first."""
    told = [f"{name}: {_number(facts[name], name)}" for name in ("epsilon", "delta")]
    first = facts["ends_first"]
    over = facts[first]["left"] <= 0
    ends = f"{first} is exhausted" if over else f"{first} ends first"
    return (
        f"{told[0]}. {told[1]} (finding values spends delta, which noise then lacks). {ends[0].upper()}{ends[1:]}: a "
        "run past either is refused."
    )


def _number(part: dict[str, float], name: str) -> str:
    least = "at least " if name == "epsilon" else ""
    return f"{part['spent']:.4g} of {part['limit']:g} spent, {least}{part['left']:.4g} left"


def _find(data: str | None, ledger: Path | None, query: str | None, dataset: str) -> "Ledger":
    """Return the ledger that is there: the one named, the one that counts for the data, or the file given itself."""
    from dpsynth.privacy.spending.ledger import Ledger

    if (data is None and not dataset) == (ledger is None):
        raise InputError("ledger: give the data or its --dataset, or --ledger with the ledger file, and not both.")
    if ledger is not None:
        book = Ledger(ledger)
    elif data is not None and data.endswith(".jsonl"):
        book = Ledger(data)
    else:
        book = _counting(None if data is None else source(data, query), dataset)
    if not book.exists():
        raise FileError(
            f"{book.path.name}: there is no such ledger; nothing was spent through one, or it lies elsewhere."
        )
    return book


def _counting(data: "Path | Database | None", dataset: str) -> "Ledger":
    """Return the ledger that counts for data, for a dataset of a name, or for both."""
    from dpsynth.privacy.spending.ledger import Ledger
    from dpsynth.privacy.spending.named_places import common_book, named_places
    from dpsynth.sources.database import Database
    from dpsynth.sources.postgres import Query

    relations = Query(data).relations if isinstance(data, Database) else None
    places = named_places(dataset, relations)
    if isinstance(data, Path):
        places = [Ledger.beside(_home(data)), *places]
    if not places:
        raise InputError(
            "dataset: it cannot be told which tables the query reads; give the dataset's name (--dataset)."
        )
    return common_book(places)


def _home(data: Path) -> Path:
    """Return the file or folder beside which the ledger lies that counts for a path."""
    from dpsynth.privacy.spending.ledger_place import dataset_of, home
    from dpsynth.sources.locating import is_several
    from dpsynth.sources.scanned import rows_at

    if not is_several(data):
        own = dataset_of(data)
        return home(own, (own,))
    rows = rows_at(data)
    return home(rows.root or data, rows.members)


def _facts(ledger: "Ledger") -> dict[str, Any]:
    limit, spent = ledger.limit, ledger.spent()
    return {
        "ledger": ledger.name,
        "limit": {"epsilon": limit.epsilon, "delta": limit.delta} if limit else None,
        "spent": {"epsilon": spent.epsilon, "delta": spent.delta},
        "epsilon": limit and _part(spent.epsilon, limit.epsilon),
        "delta": limit and _part(spent.delta_spent, limit.delta),
        "ends_first": limit and spent.ends_first(limit),
        "unnamed": spent.unnamed,
        "added": spent.added and {"epsilon": spent.added[0], "delta": spent.added[1]},
        "runs": [_run(run) for run in ledger.runs()],
    }


def _part(spent: float, limit: float) -> dict[str, float]:
    return {"spent": spent, "limit": limit, "left": max(0.0, limit - spent) if spent < limit * (1 - 1e-9) else 0.0}


def _run(run: "Run") -> dict[str, Any]:
    return {
        "run": run.run,
        "time": run.time,
        "label": run.label,
        "epsilon": run.budget.epsilon,
        "delta": run.budget.delta,
        "accounting": run.accounting,
        "unit": run.unit,
        "patient_column": run.patient_column,
        "protected": run.protected,
        "private": run.private,
        "state": "done" if run.closed else "open: counts in full",
        "events": [event.to_json() for event in run.events or ()],
    }
