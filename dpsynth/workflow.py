"""The whole way: fit, sample, release, evaluate. The only module that joins the kernel, the models and the judges."""

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.bundle import write_bundle
from dpsynth.codec import Codec
from dpsynth.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.files import check_target, new_folder
from dpsynth.models.base import Model, Plan, Progress, Synthesizer, make
from dpsynth.privacy.budget import MAX_EPSILON, Budget, default_delta
from dpsynth.privacy.counting import Query, contingency
from dpsynth.privacy.ledger import Ledger
from dpsynth.privacy.session import Session
from dpsynth.schema import Schema

if TYPE_CHECKING:
    from dpsynth.evaluation.judge import Evaluation
    from dpsynth.evaluation.released import ReleasedCounts

__all__ = ["DEFAULT_MODEL", "Published", "demo", "evaluate", "fit", "plan", "publish", "release", "republish"]

DEFAULT_MODEL = "independent"
"""The model of `fit` and of the command line where none is named."""
_READABLE = 12
DEMO_EPSILON = 1.0
DEMO_HOLDOUT = 0.3


def plan(
    schema: Schema,
    *,
    epsilon: float,
    delta: float | None = None,
    rows: int | None = None,
    model: str | Synthesizer = DEFAULT_MODEL,
    **options: Any,
) -> Plan:
    """Say what a budget would buy, without any data.

    Parameters
    ----------
    schema : Schema
        Public facts about the table.
    epsilon, delta : float
        The whole budget; `delta` defaults to `dpsynth.privacy.budget.default_delta`.
    rows : int, optional
        Assumed number of rows; default: the schema's public `rows`.
    model : str or Synthesizer
        See `dpsynth.models.available`.
    **options
        Options of the model.

    Raises
    ------
    InputError
        If an argument is unknown or out of range, or no row count is given anywhere.
    """
    count = schema.rows if rows is None else rows
    if count is None:
        raise InputError("plan: the schema declares no rows; say for how many rows to plan (--rows, rows=).")
    if count < 1:
        raise InputError(f"plan: rows is {count}, expected 1 or more.")
    return _maker(model, options).plan(schema, _budget(epsilon, delta), count)


def fit(
    cohort: Cohort,
    model: str | Synthesizer = DEFAULT_MODEL,
    *,
    epsilon: float,
    delta: float | None = None,
    ledger: str | Path | Ledger | None = None,
    limit: float | None = None,
    label: str = "",
    seed: int | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Model:
    """Learn a model of a cohort. Formal guarantee: the model is (epsilon, delta)-DP for one patient more or less.

    Parameters
    ----------
    cohort : Cohort
        The private cohort; its schema must be confirmed by a person.
    model : str or Synthesizer
        See `dpsynth.models.available`.
    epsilon, delta : float
        The whole budget; `delta` defaults to `dpsynth.privacy.budget.default_delta`, a fixed public rule.
    ledger : path or Ledger, optional
        Where spending on this dataset is kept; default: beside the file that the cohort was read from.
    limit : float, optional
        What all runs on this dataset may spend together; only the first run sets it (default: its own epsilon).
    label : str
        A name for the run in the ledger.
    seed : int, optional
        Test mode: noise is repeatable and everything made from the model is stamped *not private*.
    progress : callable, optional
        Called with a phase and the share of it that is done.
    **options
        Options of the model.

    Raises
    ------
    SchemaError
        If nobody has confirmed the schema.
    InputError
        If an argument is unknown or out of range, or a private cohort from memory comes without a ledger.
    BudgetExceeded, LedgerError
        If the ledger refuses; nothing was looked at.
    """
    maker, budget = _maker(model, options), _budget(epsilon, delta)
    cohort.schema.check_confirmed()
    book = _book(cohort, ledger)
    if limit is not None:
        _set_limit(book, limit, budget)
    report = progress or _silent
    report("opening the cohort", 0.0)
    with Session.open(cohort, budget, accounting=maker.accounting, ledger=book, label=label, seed=seed) as session:
        report("opening the cohort", 1.0)
        fitted = maker.fit(session, progress)
    fitted.statement = {"model": {"name": maker.name, "options": maker.options()}, **fitted.statement}
    return fitted


def release(
    model: Model,
    folder: str | Path,
    *,
    rows: int | None = None,
    seed: int | None = None,
    licence: str = "",
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Sample from a model and write the bundle that can be published. Post-processing: costs nothing.

    Parameters
    ----------
    model : Model
        A fitted model.
    folder : path
        A new folder, written whole or not at all.
    rows : int, optional
        Default: the schema's public row count, else the model's own noisy estimate; never the private count.
    seed : int, optional
        Makes the sample repeatable.
    licence : str
        SPDX name or URL for the dataset card.
    force : bool
        Replace a folder that is there, once the new one is whole.
    progress : callable, optional
        Called with a phase and the share of it that is done.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    InputError, FileError
        If `rows` is not positive, or the folder is there or cannot be written.
    """
    check_target(Path(folder), force=force)
    _check_rows(rows)
    report = progress or _silent
    synthetic = _sample(model, rows or model.schema.rows or model.rows, seed, report)
    return _write(model, synthetic, Path(folder), licence=licence, force=force, report=report)


def evaluate(
    real: Cohort,
    synthetic: Cohort | Sequence[Cohort],
    *,
    train: Cohort | None = None,
    target: str | None = None,
    subgroups: Sequence[str | Sequence[str]] | None = None,
    statement: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> "Evaluation":
    """Judge a synthetic cohort against real patients; the results are internal unless the real patients are public.

    Parameters
    ----------
    real : Cohort
        Real patients that the model has not seen.
    synthetic : Cohort or sequence of Cohort
        The cohort to judge, or several draws of it.
    train : Cohort, optional
        The real patients that the model was fitted on, for what is trained on real patients. Without them half of
        `real`, by patient, takes their place.
    target : str, optional
        The outcome; default: the schema's.
    subgroups : sequence, optional
        Columns, or several of them together, whose groups are judged; default: the schema's.
    statement : mapping, optional
        The privacy statement of the release, for the report.
    seed : int
        Seed of whatever the evaluation draws.
    progress : callable, optional
        Called with a phase and the share of the work that is done.

    Returns
    -------
    Evaluation
        Shows itself in a notebook; see `dpsynth.evaluation.judge.evaluate` for more options.
    """
    from dpsynth.evaluation.judge import evaluate as judge

    return judge(
        real,
        synthetic,
        real_train=train,
        target=target,
        subgroups=subgroups,
        statement=statement,
        seed=seed,
        progress=progress,
    )


@dataclass(frozen=True)
class Published:
    """What `publish` made.

    Parameters
    ----------
    model : Model
        The fitted model.
    synthetic : Cohort
        The released rows.
    release : pathlib.Path
        Safe to publish.
    internal : pathlib.Path or None
        Numbers that touched real patients; None without held-out patients.
    evaluation : Evaluation or None
        The same numbers.
    """

    model: Model
    synthetic: Cohort
    release: Path
    internal: Path | None = None
    evaluation: "Evaluation | None" = None


def publish(
    cohort: Cohort,
    folder: str | Path,
    model: str | Synthesizer = DEFAULT_MODEL,
    *,
    epsilon: float,
    delta: float | None = None,
    holdout: float | None = None,
    rows: int | None = None,
    licence: str = "",
    force: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> Published:
    """Fit, sample, and write ``release/`` and, with held-out patients, ``internal/`` into a folder.

    Parameters
    ----------
    cohort : Cohort
        The private cohort.
    folder : path
        Gets the two folders; made where it is not there.
    model, epsilon, delta : see `fit`
    holdout : float, optional
        Share of patients that the model never sees and the cohort is judged on; default: all patients train the model
        and nothing is judged.
    rows, licence, force : see `release`
    progress : callable, optional
        Called with a phase and the share of it that is done.
    **settings
        Further arguments of `fit`.

    Raises
    ------
    InputError, SchemaError, FileError, BudgetExceeded, LedgerError
        As `fit` and `release`. What can be refused is refused before the budget is spent.
    """
    report = progress or _silent
    _check_rows(rows)
    with _outer(Path(folder)):
        places = _places(Path(folder), force=force, judged=holdout is not None)
        train, test = _split(cohort, holdout)
        fitted = fit(train, model, epsilon=epsilon, delta=delta, progress=progress, **settings)
        synthetic = _sample(fitted, rows or cohort.schema.rows or fitted.rows, None, report)
        written = _write(fitted, synthetic, places["release"], licence=licence, force=force, report=report)
    if test is None:
        return Published(fitted, synthetic, written)
    report("judging", 0.0)
    found = evaluate(
        test, synthetic, train=train, statement=fitted.statement, progress=lambda _, share: report("judging", share)
    )
    _write_internal(found, places["internal"], force=force)
    report("judging", 1.0)
    return Published(fitted, synthetic, written, places["internal"], found)


def republish(
    model: Model,
    folder: str | Path,
    *,
    rows: int | None = None,
    licence: str = "",
    force: bool = False,
    progress: Progress | None = None,
) -> Published:
    """Sample from a fitted model and write ``release/`` into a folder; spends nothing. Arguments as for `publish`."""
    report = progress or _silent
    _check_rows(rows)
    with _outer(Path(folder)):
        places = _places(Path(folder), force=force, judged=False)
        synthetic = _sample(model, rows or model.schema.rows or model.rows, None, report)
        written = _write(model, synthetic, places["release"], licence=licence, force=force, report=report)
    return Published(model, synthetic, written)


def demo(
    folder: str | Path,
    model: str | Synthesizer = DEFAULT_MODEL,
    *,
    force: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> Published:
    """Run the main job on SUPPORT2, real patients that ship with dpsynth; arguments as for `publish`."""
    from dpsynth.datasets import load_support2

    given = {"epsilon": DEMO_EPSILON, "delta": default_delta(), "holdout": DEMO_HOLDOUT, **settings}
    return publish(load_support2(), folder, model, force=force, progress=progress, **given)


def _silent(_phase: str, _share: float) -> None:
    """Show no progress."""


def _budget(epsilon: float, delta: float | None) -> Budget:
    return Budget(epsilon, default_delta() if delta is None else delta)


def _maker(model: str | Synthesizer, options: Mapping[str, Any]) -> Synthesizer:
    if isinstance(model, str):
        return make(model, **options)
    if options:
        raise InputError(f"option {min(options)!r}: a synthesizer that is made already takes no further options.")
    return model


def _book(cohort: Cohort, ledger: str | Path | Ledger | None) -> Ledger | None:
    """Return the ledger of the dataset; None for public data without a ledger of its own."""
    if isinstance(ledger, Ledger):
        return ledger
    if ledger is not None:
        return Ledger(ledger)
    return None if cohort.public or cohort.source is None else Ledger.beside(cohort.source)


def _set_limit(book: Ledger | None, epsilon: float, run: Budget) -> None:
    """Set the limit of a dataset on which nothing was spent yet; an equal limit that is there is no contradiction."""
    if not run.epsilon <= epsilon <= MAX_EPSILON:
        raise InputError(f"limit: found {epsilon:g}, expected {run.epsilon:g} (this run) to {MAX_EPSILON:g}.")
    limit = Budget(epsilon, run.delta)
    if book is None:
        raise InputError("limit: there is no ledger to keep it in; name one (--ledger, ledger=).")
    there = book.limit
    if there is None:
        book.raise_limit(limit, reason="set with the first run")
    elif there.epsilon != limit.epsilon:
        raise InputError(
            f"limit: this dataset has a limit already (epsilon {there.epsilon:g}); leave --limit out, or raise the "
            "limit on purpose with `dpsynth ledger raise-limit`."
        )


def _check_rows(rows: int | None) -> None:
    if rows is not None and rows < 1:
        raise InputError(f"rows: found {rows}, expected 1 or more.")


def _split(cohort: Cohort, holdout: float | None) -> tuple[Cohort, Cohort | None]:
    """Keep a share of the patients aside. How many are left to train on is private, so it is no longer declared."""
    if holdout is None:
        return cohort, None
    if not 0 < holdout < 1:
        raise InputError(f"holdout: found {holdout:g}, expected a share between 0 and 1, such as 0.2.")
    from dpsynth.evaluation.protocol import split

    cohort.schema.check_confirmed()
    train, test = split(cohort, holdout)
    undeclared = train.schema.model_copy(update={"rows": None})
    return dataclasses.replace(train, schema=undeclared), test


@contextlib.contextmanager
def _outer(folder: Path) -> Iterator[None]:
    """Make the folder that holds a release, and take it away again if nothing came of it."""
    if folder.is_dir():
        yield
        return
    check_target(folder)
    folder.mkdir()
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            folder.rmdir()
        raise


def _places(folder: Path, *, force: bool, judged: bool) -> dict[str, Path]:
    """Return the folders to write, after checking that they can be, before anything is spent."""
    places = {name: folder / name for name in (("release", "internal") if judged else ("release",))}
    for place in places.values():
        check_target(place, force=force)
    return places


def _sample(model: Model, rows: int, seed: int | None, report: Progress) -> Cohort:
    report("sampling", 0.0)
    synthetic = model.sample(rows, seed=seed)
    report("sampling", 1.0)
    return synthetic


def _write(model: Model, synthetic: Cohort, folder: Path, *, licence: str, force: bool, report: Progress) -> Path:
    report("writing", 0.0)
    page = _public_page(model, synthetic)
    written = write_bundle(model, synthetic, folder, licence=licence, force=force, report=page)
    report("writing", 1.0)
    return written


def _public_page(model: Model, synthetic: Cohort) -> Callable[[Path], None]:
    """Return what writes the report of public numbers: the statement, and the synthetic cohort beside paid counts."""
    from dpsynth.evaluation.judge import Evaluation
    from dpsynth.evaluation.protocol import Protocol
    from dpsynth.evaluation.released import released_results
    from dpsynth.evaluation.results import Results

    terms, schema = Protocol(), model.schema
    results = Results(released_results(_released(model, synthetic), terms))
    about = {"name": schema.name, "target": schema.target, "synthetic_rows": len(synthetic)}
    found = Evaluation(results, schema, terms, model.statement, about)
    return partial(found.write_html, public=True)


def _released(model: Model, synthetic: Cohort) -> "list[ReleasedCounts]":
    """Count the synthetic cohort in the cells of the model's noisy counts."""
    from dpsynth.evaluation.released import ReleasedCounts

    tables, codec = model.released(), model.codec
    queries = [Query(table.columns, table.maps) for table in tables]
    counts = contingency(codec.encode(synthetic), len(synthetic), queries) if queries else []
    return [
        ReleasedCounts(table.columns, table.counts, table.sigma, own, _cell_names(codec, query))
        for table, query, own in zip(tables, queries, counts, strict=True)
    ]


def _cell_names(codec: Codec, query: Query) -> tuple[str, ...]:
    """Return a name for each cell of a small table, in C order; nothing for a table too large to read."""
    if query.size > _READABLE:
        return ()
    names = []
    for column, cells in zip(query.columns, query.maps, strict=True):
        labels = codec.columns[column].labels
        fine = [[labels[code] for code in np.flatnonzero(cells == cell)] for cell in range(int(cells.max()) + 1)]
        names.append([" ... ".join(dict.fromkeys((*inside[:1], *inside[-1:]))) for inside in fine])
    return tuple(", ".join(parts) for parts in itertools.product(*names))


def _write_internal(found: "Evaluation", folder: Path, *, force: bool) -> None:
    """Write the numbers that touched real patients; the folder is for its owner's eyes."""
    with new_folder(folder, force=force) as fresh:
        fresh.chmod(0o700)
        found.write_json(fresh / "results.json")
        found.write_html(fresh / "report.html")
