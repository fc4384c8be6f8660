"""Plan and fit: what a budget would buy, and a model that is learned under it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dpsynth.cohort.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.jobs.outlook import add_warnings, foresee, found_values
from dpsynth.models.base import Model, Progress, Synthesizer
from dpsynth.models.plan import Plan
from dpsynth.models.registry import make
from dpsynth.privacy import processes
from dpsynth.privacy.resuming import Checkpoint
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import MAX_EPSILON, Budget, default_delta
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.privacy.spending.ledger_place import ledger_of
from dpsynth.progress import silent
from dpsynth.schema.flat import flattened
from dpsynth.schema.schema import Schema
from dpsynth.sources.memory_budget import MemoryBudget
from dpsynth.sources.scanned import ScannedCohort

__all__ = [
    "DEFAULT_IMAGE_MODEL",
    "DEFAULT_MODEL",
    "check_model",
    "default_model",
    "fit",
    "plan",
    "set_limit",
    "within",
]

DEFAULT_MODEL = "prism"
"""The model of tables where none is named."""
DEFAULT_IMAGE_MODEL = "moments"
"""The model of images where none is named: seconds, no label, option or extra package needed. Of classifiers trained on
what is drawn it is ahead of all other models at epsilon 10; at epsilon 1 `judged-moments` is ahead by 0.011 for one of
two and behind by 0.006 for the other (benchmarks/results/images_fashion_mnist.md)."""


def default_model(schema: Schema, *, without_images: bool = False) -> str:
    """Return the name of the model that a cohort gets where none is named.

    Parameters
    ----------
    schema : Schema
        Public facts about the cohort.
    without_images : bool
        Whether images are left out on purpose.

    Returns
    -------
    str
        A name of `dpsynth.models.available`.

    Examples
    --------
    >>> from dpsynth.datasets import load_support2
    >>> default_model(load_support2().schema)
    'prism'
    """
    return DEFAULT_MODEL if schema.images is None or without_images else DEFAULT_IMAGE_MODEL


def check_model(maker: Synthesizer, schema: Schema, *, without_images: bool = False) -> None:
    """Refuse a model that would drop a cohort's images without a word, or that learns images where there are none.

    Raises
    ------
    InputError
        Naming what to do; nothing was looked at.
    """
    if without_images and schema.images is None:
        raise InputError("without-images: the schema declares no images; leave it out.")
    if maker.of_images and (schema.images is None or without_images):
        words = "declares no images" if schema.images is None else "declares images, which are left out on purpose"
        raise InputError(
            f"model {maker.name!r}: learns images, and the schema {words}. Give an .npz or a folder with images and "
            "declare images in the schema, or name a model of tables."
        )
    if not maker.of_images and schema.images is not None and not without_images:
        raise InputError(
            f"model {maker.name!r}: learns tables, and the schema declares images, which would be lost. Leave the "
            f"model out (that gives {DEFAULT_IMAGE_MODEL}) or name one of images, see `dpsynth models`; to learn the "
            "table alone, say so with --without-images (without_images=True)."
        )


def plan(
    schema: Schema,
    *,
    epsilon: float,
    delta: float | None = None,
    rows: int | None = None,
    model: str | Synthesizer | None = None,
    without_images: bool = False,
    **options: Any,
) -> Plan:
    """Say what a budget would buy: what a model would measure, with which noise. Reads no data, spends nothing.

    Parameters
    ----------
    schema : Schema
        Public facts about the table.
    epsilon, delta : float
        The whole budget; `delta` defaults to `dpsynth.privacy.spending.budget.default_delta`.
    rows : int, optional
        Assumed number of rows, of patients where the schema declares visits; default: the schema's public number.
    model : str or Synthesizer, optional
        See `dpsynth.models.available`; default: `default_model`, by whether the schema declares images.
    without_images : bool
        Plan for the table alone, of a schema that declares images.
    **options
        Options of the model.

    Returns
    -------
    Plan
        Tables, noise (standard deviation in rows), expected errors (total variation distance, 0 to 1) and seconds.

    Raises
    ------
    InputError
        If an argument is unknown or out of range, the model does not fit the schema, or no row count is given anywhere.

    Examples
    --------
    >>> from dpsynth.datasets import load_support2
    >>> planned = plan(load_support2().schema, epsilon=1.0, rows=9105, model="independent")
    >>> planned.epsilon, planned.delta, planned.rows
    (1.0, 1e-06, 9105)
    >>> planned.expected_error["1-way"] < 0.05
    True
    """
    count = schema.units if rows is None else rows
    if count is None:
        raise InputError("plan: the schema declares no rows; say for how many rows to plan (--rows, rows=).")
    if count < 1:
        raise InputError(f"plan: rows is {count}, expected 1 or more.")
    maker = _maker(model, options, schema, without_images=without_images)
    return maker.plan(flattened(schema), _budget(epsilon, delta), count)


def fit(
    cohort: Any,
    model: str | Synthesizer | None = None,
    *,
    epsilon: float,
    delta: float | None = None,
    schema: Schema | None = None,
    without_images: bool = False,
    anyway: bool = False,
    expected_rows: int | None = None,
    ledger: str | Path | Ledger | None = None,
    limit: float | None = None,
    label: str = "",
    seed: int | None = None,
    checkpoint: str | Path | None = None,
    memory: str | int | MemoryBudget | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Model:
    """Fit a model to a cohort. Formal guarantee: the model is (epsilon, delta)-DP for one patient more or less.

    Parameters
    ----------
    cohort : Cohort or ScannedCohort, or data frame, Arrow table or path
        The private cohort, from `Cohort.read` or `dpsynth.scan`, or what `Cohort.of` takes together with `schema`. The
        schema must be confirmed by a person.
    model : str or Synthesizer, optional
        See `dpsynth.models.available`; default: `default_model`, by whether the schema declares images.
    epsilon, delta : float
        The whole budget; `delta` defaults to `dpsynth.privacy.spending.budget.default_delta`, a fixed public rule.
    schema : Schema, optional
        Of data that are no cohort yet.
    without_images : bool
        Learn the table alone, of a schema that declares images.
    anyway : bool
        Spend also where the plan expects little but noise, see `dpsynth.jobs.outlook`. Without a public number of rows
        it cannot be known before; the statement then warns.
    expected_rows : int, optional
        A public number of rows (of patients, where the schema declares visits) to foresee this by; default: the
        schema's. Never the private count.
    ledger : path or Ledger, optional
        Where spending on this dataset is kept; default: beside the file that the cohort was read from. One that is
        named for a file counts from then on: the place beside the file points to it.
    limit : float, optional
        What all runs on this dataset may spend together; only the first run sets it (default: its own epsilon).
    label : str
        A name for the run in the ledger.
    seed : int, optional
        Test mode: noise is repeatable and everything made from the model is stamped *not private*.
    checkpoint : path, optional
        A folder in which the run is kept while it goes on. Called again with the same arguments, a run that was stopped
        is taken up there, and nothing is spent twice; delete the folder when the model is saved.
    memory : str or int, optional
        How much memory the run may take, such as ``"8GB"``, where the cohort is scanned; one that is in memory already
        is refused where it is too large for that.
    progress : callable, optional
        Called with a phase and the share of it that is done.
    **options
        Options of the model.

    Returns
    -------
    Model
        To sample from, to save and to release, as often as wanted: all this is post-processing and costs nothing.

    Raises
    ------
    SchemaError
        If nobody has confirmed the schema.
    InputError
        If an argument is unknown or out of range, the model does not fit the schema, the plan expects little but noise
        (without `anyway`), a private cohort from memory comes without a ledger, or another ledger is named than that
        which lies beside the data.
    BudgetExceeded, LedgerError
        If the ledger refuses; nothing was looked at.

    Examples
    --------
    A cohort that is public spends nothing; of a private one the ledger beside its file keeps the budget.

    >>> from dpsynth.jobs.audit import demo_cohort
    >>> fitted = fit(demo_cohort(), "independent", epsilon=1.0)
    >>> fitted.statement["epsilon"], fitted.statement["private"]
    (1.0, True)
    >>> len(fitted.sample(10))
    10
    """
    cohort = _cohort(cohort, schema)
    maker = _maker(model, options, cohort.schema, without_images=without_images)
    budget = _budget(epsilon, delta)
    cohort.schema.check_confirmed()  # before the ledger beside the data is touched
    cohort = within(cohort, memory)
    _check_images(maker, cohort)
    _check_sums(maker, cohort, budget)
    count = expected_rows or cohort.schema.units
    outlook = None if count is None else foresee(maker, cohort.schema, budget, count)
    if outlook is not None and not (anyway or cohort.public):
        raise InputError(outlook.refusal())
    processes.join()
    if limit is not None:
        book = ledger_of(cohort, ledger)
        processes.shared(lambda: set_limit(book, limit, budget))
    fitted = _fitted(cohort, maker, budget, progress, ledger=ledger, label=label, seed=seed, checkpoint=checkpoint)
    add_facts(fitted, maker)
    if count is None:  # the model's own number is noisy, so it may be told by now
        outlook = foresee(maker, cohort.schema, budget, max(fitted.rows, 1), search=False)
    add_warnings(fitted, outlook)
    return fitted


def within(cohort: Cohort | ScannedCohort, memory: str | int | MemoryBudget | None) -> Cohort | ScannedCohort:
    """Return a cohort under a memory budget; its own where none is named.

    Parameters
    ----------
    cohort
        The cohort.
    memory
        The budget, such as ``"8GB"``.

    Raises
    ------
    InputError
        If it is too little, or the cohort is in memory and takes too much of it.
    """
    if memory is None:
        return cohort
    budget = MemoryBudget.of(memory)
    if isinstance(cohort, ScannedCohort):
        return replace(cohort, memory=budget)
    if not budget.holds(len(cohort), len(cohort.columns)):
        raise InputError(
            f"memory: {memory} is too little for a cohort that was read as a whole. Scan it in its place "
            "(Cohort.scan), or give more."
        )
    return cohort


def _cohort(data: Any, schema: Schema | None) -> Cohort | ScannedCohort:
    """Return the cohort that was given, or that of data and a schema."""
    if isinstance(data, Cohort | ScannedCohort):
        if schema is not None and schema != data.schema:
            raise InputError("schema: the cohort has its own; give the data with another schema, or leave it out.")
        return data
    if schema is None:
        raise InputError(
            f"cohort: found {type(data).__name__}, expected a cohort; for a data frame, an Arrow table or a path give "
            "its schema too (schema=)."
        )
    return Cohort.of(data, schema)


def _fitted(
    cohort: Cohort | ScannedCohort,
    maker: Synthesizer,
    budget: Budget,
    progress: Progress | None,
    *,
    checkpoint: str | Path | None,
    **terms: Any,
) -> Model:
    """Open a session on the cohort and fit the model in it."""
    report = progress or silent
    report("opening the cohort", 0.0)
    if isinstance(cohort, ScannedCohort):
        cohort = replace(cohort, progress=progress)
    with Session.open(
        cohort,
        budget,
        accounting=maker.accounting,
        training=maker.training(cohort.schema, budget),
        checkpoint=None if checkpoint is None else Checkpoint(checkpoint),
        **terms,
    ) as session:
        report("opening the cohort", 1.0)
        return maker.fit(session, progress)


def add_facts(fitted: Model, maker: Synthesizer) -> None:
    """Add to the privacy statement the model, whether it learned images, and the outcome of discovery."""
    about = {"name": maker.name, "options": maker.options(), "training_rows": fitted.rows}
    if fitted.schema.images is not None:
        about["images"] = "learned" if maker.of_images else "left out on purpose"
    fitted.statement = {"model": about, **fitted.statement, **found_values(fitted)}


def _budget(epsilon: float, delta: float | None) -> Budget:
    return Budget(epsilon, default_delta() if delta is None else delta)


def _maker(
    model: str | Synthesizer | None, options: Mapping[str, Any], schema: Schema, *, without_images: bool
) -> Synthesizer:
    if model is None:
        model = default_model(schema, without_images=without_images)
    if isinstance(model, str):
        model = make(model, **options)
    elif options:
        raise InputError(f"option {min(options)!r}: a synthesizer that is made already takes no further options.")
    check_model(model, schema, without_images=without_images)
    return model


def _check_images(maker: Synthesizer, cohort: Cohort | ScannedCohort) -> None:
    """Refuse a model of images for a cohort whose table alone was read, before anything is spent."""
    if maker.of_images and cohort.images is None:
        raise InputError(
            f"model {maker.name!r}: learns images, and the schema declares images, but the cohort was read from a "
            "table. Give an .npz or a folder with images; to learn the table alone, say so with --without-images "
            "(without_images=True)."
        )


def _check_sums(maker: Synthesizer, cohort: Cohort | ScannedCohort, budget: Budget) -> None:
    """Refuse a model that learns from patients one by one where they stay on a cluster, before anything is spent."""
    if not (isinstance(cohort, ScannedCohort) and cohort.sums_only):
        return
    if maker.of_teachers or maker.training(cohort.schema, budget) is not None:
        raise InputError(
            f"model {maker.name!r}: learns from patients one by one on this machine, and those of a table on Spark "
            "stay on the cluster, which gives sums alone. Choose a model of counts, such as prism or aim, or scan an "
            "extract in files (Parquet)."
        )


def set_limit(book: Ledger | None, epsilon: float, run: Budget) -> None:
    """Set the limit of a dataset on which nothing was spent yet; an equal limit that is there is no contradiction.

    Parameters
    ----------
    book
        The dataset's ledger.
    epsilon
        What all runs together may spend.
    run
        The budget of the run at hand, which the limit must allow.

    Raises
    ------
    InputError
        If the limit is too small or too large, there is no ledger, or another limit is set.
    """
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
