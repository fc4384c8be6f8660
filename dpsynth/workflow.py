"""Plan, fit, release, evaluate: the steps from a private cohort to a judged release. `publishing` joins them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.bundle import write_bundle
from dpsynth.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.files import check_target
from dpsynth.models.base import Model, Plan, Progress, Synthesizer, make
from dpsynth.outlook import add_warnings, foresee, found_values
from dpsynth.privacy import processes
from dpsynth.privacy.account import ledger_of
from dpsynth.privacy.budget import MAX_EPSILON, Budget, default_delta
from dpsynth.privacy.checkpoint import Checkpoint
from dpsynth.privacy.ledger import Ledger
from dpsynth.privacy.session import Session
from dpsynth.progress import silent
from dpsynth.schema import Schema
from dpsynth.visits import flattened

if TYPE_CHECKING:
    from dpsynth.evaluation.bins import BinKind
    from dpsynth.evaluation.classifiers import Classifier
    from dpsynth.evaluation.coins import Coins
    from dpsynth.evaluation.judge import Evaluation

__all__ = [
    "DEFAULT_IMAGE_MODEL",
    "DEFAULT_MODEL",
    "bundle",
    "check_model",
    "default_model",
    "draw",
    "evaluate",
    "fit",
    "plan",
    "release",
]

DEFAULT_MODEL = "prism"
"""The model of tables where none is named."""
DEFAULT_IMAGE_MODEL = "moments"
"""The model of images where none is named: seconds, no label and no extra package needed, and within 0.012 of the best
accuracy of classifiers trained on what was drawn (benchmarks/results/images_fashion_mnist.md)."""


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
        The whole budget; `delta` defaults to `dpsynth.privacy.budget.default_delta`.
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
    cohort: Cohort,
    model: str | Synthesizer | None = None,
    *,
    epsilon: float,
    delta: float | None = None,
    without_images: bool = False,
    anyway: bool = False,
    expected_rows: int | None = None,
    ledger: str | Path | Ledger | None = None,
    limit: float | None = None,
    label: str = "",
    seed: int | None = None,
    checkpoint: str | Path | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Model:
    """Fit a model to a cohort. Formal guarantee: the model is (epsilon, delta)-DP for one patient more or less.

    Parameters
    ----------
    cohort : Cohort
        The private cohort; its schema must be confirmed by a person.
    model : str or Synthesizer, optional
        See `dpsynth.models.available`; default: `default_model`, by whether the schema declares images.
    epsilon, delta : float
        The whole budget; `delta` defaults to `dpsynth.privacy.budget.default_delta`, a fixed public rule.
    without_images : bool
        Learn the table alone, of a schema that declares images.
    anyway : bool
        Spend also where the plan expects little but noise, see `dpsynth.outlook`. Without a public number of rows it
        cannot be known before; the statement then warns.
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

    >>> from dpsynth.auditing import demo_cohort
    >>> fitted = fit(demo_cohort(), "independent", epsilon=1.0)
    >>> fitted.statement["epsilon"], fitted.statement["private"]
    (1.0, True)
    >>> len(fitted.sample(10))
    10
    """
    maker = _maker(model, options, cohort.schema, without_images=without_images)
    budget = _budget(epsilon, delta)
    cohort.schema.check_confirmed()  # before the ledger beside the data is touched
    _check_images(maker, cohort)
    count = expected_rows or cohort.schema.units
    outlook = None if count is None else foresee(maker, cohort.schema, budget, count)
    if outlook is not None and not (anyway or cohort.public):
        raise InputError(outlook.refusal())
    processes.join()
    if limit is not None:
        book = ledger_of(cohort, ledger)
        processes.shared(lambda: _set_limit(book, limit, budget))
    fitted = _fitted(cohort, maker, budget, progress, ledger=ledger, label=label, seed=seed, checkpoint=checkpoint)
    _add_facts(fitted, maker)
    if count is None:  # the model's own number is noisy, so it may be told by now
        outlook = foresee(maker, cohort.schema, budget, max(fitted.rows, 1), search=False)
    add_warnings(fitted, outlook)
    return fitted


def _fitted(
    cohort: Cohort,
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


def _add_facts(fitted: Model, maker: Synthesizer) -> None:
    """Add to the privacy statement the model, whether it learned images, and the outcome of discovery."""
    about = {"name": maker.name, "options": maker.options(), "training_rows": fitted.rows}
    if fitted.schema.images is not None:
        about["images"] = "learned" if maker.of_images else "left out on purpose"
    fitted.statement = {"model": about, **fitted.statement, **found_values(fitted)}


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

    Examples
    --------
    >>> import tempfile
    >>> from dpsynth.auditing import demo_cohort
    >>> fitted = fit(demo_cohort(), "independent", epsilon=1.0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = release(fitted, Path(folder) / "release", rows=100, licence="CC0-1.0")
    ...     sorted(file.name for file in path.glob("*.json"))
    ['croissant.json', 'privacy.json', 'report.json']
    """
    check_rows(rows)
    check_target(Path(folder), force=force)
    synthetic = draw(model, rows, seed=seed, progress=progress)
    return bundle(model, synthetic, folder, licence=licence, force=force, progress=progress)


def draw(model: Model, rows: int | None = None, *, seed: int | None = None, progress: Progress | None = None) -> Cohort:
    """Sample as many rows as a release has; arguments as for `release`.

    Whoever takes `rows` from a person passes it to `check_rows` first, before anything is spent for it.

    Returns
    -------
    Cohort
        Synthetic rows; of a model of images with their images.
    """
    report = progress or silent
    report("sampling", 0.0)
    synthetic = model.sample(rows or model.schema.units or model.rows, seed=seed)
    report("sampling", 1.0)
    return synthetic


def bundle(
    model: Model,
    synthetic: Cohort,
    folder: str | Path,
    *,
    licence: str = "",
    force: bool = False,
    statement: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the release of rows that were drawn already; arguments as for `release`.

    Parameters
    ----------
    model, folder, licence, force, progress
        See `release`.
    synthetic : Cohort
        The rows, as `draw` returned them.
    statement : mapping, optional
        What ``privacy.json`` is to say, where the caller needs it too: `dpsynth.bundle.release_statement`.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    FileError
        If the folder is there (without `force`) or cannot be written.
    """
    from dpsynth.public_page import public_page

    report = progress or silent
    report("writing", 0.0)
    page = public_page(model, synthetic)
    path = write_bundle(model, synthetic, folder, licence=licence, force=force, statement=statement, report=page)
    report("writing", 1.0)
    return path


def check_rows(rows: int | None) -> None:
    """Refuse a number of rows that is not positive, before anything is spent for it.

    Raises
    ------
    InputError
        If `rows` is below 1.
    """
    if rows is not None and rows < 1:
        raise InputError(f"rows: found {rows}, expected 1 or more.")


def evaluate(
    real: Cohort,
    synthetic: Cohort | Sequence[Cohort],
    *,
    train: Cohort | None = None,
    split: "str | Path | Coins | None" = None,
    target: str | None = None,
    subgroups: Sequence[str | Sequence[str]] | None = None,
    arms: "Mapping[str, Cohort | Sequence[Cohort]] | None" = None,
    classifiers: "Sequence[Classifier]" = (),
    bins: "BinKind" = "quantile",
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
    split : path or dpsynth.evaluation.Coins, optional
        In place of `train`: the ``internal/split.json`` of the run that made the cohort, where `real` is the whole
        table. Those that it held out are tested on.
    target : str, optional
        The outcome; default: the schema's.
    subgroups : sequence, optional
        Columns, or several of them together, whose groups are judged; default: the schema's.
    arms : mapping, optional
        Cohorts to compare with: ``floor`` (independent columns at the same epsilon), ``noiseless`` (the same model
        without noise).
    classifiers : sequence of dpsynth.evaluation.Classifier
        DP classifiers that were fitted directly on `train`, at the same epsilon, as an arm of their own.
    bins : {"quantile", "public"}
        Cells of numbers in tables of counts: cut from `real`, or from the schema's public ranges.
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

    Raises
    ------
    InputError
        If an argument is unknown, cohorts have different columns, or both `train` and `split` are given.

    Notes
    -----
    Privacy contract: none. Distances, scores and groups are computed from real patients without noise.

    Examples
    --------
    >>> from dpsynth.auditing import demo_cohort
    >>> from dpsynth.evaluation import split
    >>> train, test = split(demo_cohort(), 0.3, key="example")
    >>> synthetic = fit(train, "independent", epsilon=1.0).sample(1000, seed=0)
    >>> evaluation = evaluate(test, synthetic, train=train)  # a minute  # doctest: +SKIP
    >>> evaluation.write_html("report.html")  # doctest: +SKIP
    """
    from dpsynth.evaluation.coins import Coins
    from dpsynth.evaluation.judge import evaluate as judge

    return judge(
        real,
        synthetic,
        real_train=train,
        coins=split if split is None or isinstance(split, Coins) else Coins.read(split),
        target=target,
        subgroups=subgroups,
        arms=arms,
        classifiers=classifiers,
        bins=bins,
        statement=statement,
        seed=seed,
        progress=progress,
    )


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


def _check_images(maker: Synthesizer, cohort: Cohort) -> None:
    """Refuse a model of images for a cohort whose table alone was read, before anything is spent."""
    if maker.of_images and cohort.images is None:
        raise InputError(
            f"model {maker.name!r}: learns images, and the schema declares images, but the cohort was read from a "
            "table. Give an .npz or a folder with images; to learn the table alone, say so with --without-images "
            "(without_images=True)."
        )


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
