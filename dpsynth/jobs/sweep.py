"""Fit and judge over budgets, models and repetitions, on public or simulated data.

Every fit reads the patients again. Nothing here is kept in a ledger, so private data are refused.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dpsynth.cohort.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.jobs.fit import check_model, default_model, fit
from dpsynth.models.registry import available, make, synthesizer
from dpsynth.privacy.spending.budget import Budget, default_delta
from dpsynth.progress import Progress, silent
from dpsynth.schema.schema import Schema

if TYPE_CHECKING:
    from dpsynth.evaluation.learners.from_outside import Classifier
    from dpsynth.evaluation.sweep import Sweep, SweepRun

T = TypeVar("T")

__all__ = ["FLOOR", "sweep", "write_sweep"]

FLOOR = "independent"
"""The model of the floor: independent columns, at the same epsilon."""

TEST = 0.3
"""Share of patients that everything is tested on."""


def sweep(
    cohort: Cohort,
    epsilons: Sequence[float],
    *,
    models: Sequence[str] = (),
    seeds: int = 5,
    target: str | None = None,
    subgroups: Sequence[str | Sequence[str]] | None = None,
    classifier: "Callable[[Cohort, Budget], Classifier] | None" = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> "Iterator[SweepRun]":
    """Fit each model at each epsilon several times on a training part and judge each fit on the other patients.

    One repetition of everything comes before the next, so that what is there early is balanced.

    Parameters
    ----------
    cohort : Cohort
        Public or simulated patients; 30 % of them, split by patient, test what is fitted on the others.
    epsilons : sequence of float
        Budgets, each the whole budget of one fit; delta is the default one.
    models : sequence of str
        Names of installed models; default: the model that `fit` takes by default.
    seeds : int
        Repetitions of each fit. The noise is that of the operating system, not repeatable.
    target : str, optional
        The outcome; default: the schema's.
    subgroups : sequence, optional
        Columns, or several of them together, whose groups are judged; default: the schema's.
    classifier : callable, optional
        Fits a DP classifier of rows on the training patients with a budget, once for each epsilon and repetition: the
        yardstick for whether synthesis is worth it; see `dpsynth.jobs.yardstick.dp_classifier`.
    seed : int
        Seed of what the evaluation draws.
    progress : callable, optional
        Called with a phase and the share of it that is done.

    Yields
    ------
    SweepRun
        As each fit is judged.

    Raises
    ------
    InputError
        At once, if the cohort is not public, or an argument is unknown or out of range.
    SchemaError
        If nobody has confirmed the schema.

    Notes
    -----
    Privacy contract: none. The real patients' part of every result is not covered by any epsilon.

    Examples
    --------
    >>> from dpsynth.datasets import load_support2
    >>> runs = sweep(load_support2(), [0.3, 1.0], models=["independent"], seeds=2, target="hospdead")
    >>> next(runs)  # fits and judges, for as long as it is asked for more  # doctest: +SKIP
    """
    if not cohort.public:
        raise InputError(
            "sweep: every fit would spend its epsilon again; only data that are declared public can be swept "
            "(--public, Cohort.read(..., public=True))."
        )
    cohort.schema.check_confirmed()
    names = _names(models or (default_model(cohort.schema),), cohort.schema)
    budgets = _budgets(epsilons)
    if seeds < 1:
        raise InputError(f"seeds: found {seeds}, expected 1 or more.")
    _check_columns(cohort, target, subgroups)
    cells = list(itertools.product(range(seeds), budgets, names))
    task = {"target": target, "subgroups": subgroups, "seed": seed}
    return _runs(cohort, cells, task, classifier, progress or silent)


def write_sweep(judged: "Sweep", page: Path) -> list[Path]:
    """Write the page, and beside it the same numbers as CSV and JSON; return the three paths.

    Parameters
    ----------
    judged : Sweep
        The judged fits.
    page : pathlib.Path
        The HTML page; the other two files have its name and the endings ``.csv`` and ``.json``.

    Returns
    -------
    list of pathlib.Path
        Page, CSV and JSON.

    Raises
    ------
    FileError
        If one of them cannot be written.
    """
    from dpsynth.atomic import whole_file

    table, twin = page.with_suffix(".csv"), page.with_suffix(".json")
    judged.write_html(page, public=judged.public)
    with whole_file(table) as partial:
        judged.to_frame().to_csv(partial, index=False)
    with whole_file(twin) as partial:
        partial.write_text(judged.json() + "\n", encoding="utf-8")
    return [page, table, twin]


def _names(models: Sequence[str], schema: Schema) -> list[str]:
    for name in models:
        if name != FLOOR or schema.images is None:  # the floor is of the table alone
            check_model(make(name), schema)
    return _different("model", models)


def _budgets(epsilons: Sequence[float]) -> list[Budget]:
    if not epsilons:
        raise InputError("sweep: there is no epsilon; give one or more, such as 0.3,1,3.")
    return [Budget(epsilon, default_delta()) for epsilon in _different("epsilon", epsilons)]


def _different(what: str, values: Sequence[T]) -> list[T]:
    if len(set(values)) < len(values):
        raise InputError(f"{what}: one is named twice; name each once, --seeds repeats the fits.")
    return list(values)


def _check_columns(cohort: Cohort, target: str | None, subgroups: Sequence[str | Sequence[str]] | None) -> None:
    """Refuse what the first evaluation would refuse, before the first fit."""
    wanted = target or cohort.schema.target
    if wanted is None:
        raise InputError("target: a sweep needs an outcome; name one (--target, target=), or in the schema.")
    columns = ([group] if isinstance(group, str) else group for group in subgroups or ())
    names = [wanted, *itertools.chain.from_iterable(columns)]
    unknown = [name for name in names if name not in cohort.schema.modelled]
    if unknown:
        modelled = ", ".join(cohort.schema.modelled)
        raise InputError(f"column {unknown[0]!r}: is not a modelled column; the columns are {modelled}.")


def _runs(
    cohort: Cohort,
    cells: Sequence[tuple[int, Budget, str]],
    task: dict[str, Any],
    classifier: "Callable[[Cohort, Budget], Classifier] | None",
    say: Progress,
) -> "Iterator[SweepRun]":
    from dpsynth.evaluation.protocol import split
    from dpsynth.evaluation.sweep import SweepRun
    from dpsynth.evaluation.sweep_metrics import follow

    train, test = split(cohort, TEST, key=f"sweep {task['seed']}")  # public patients: whoever repeats it agrees
    beside: dict[tuple[int, float], dict[str, Any]] = {}
    each = len(cells) // (1 + cells[-1][0])
    for place, (repetition, budget, model) in enumerate(cells):
        say(f"repetition {repetition + 1}", place % each / each)
        key = (repetition, budget.epsilon)
        if key not in beside:
            beside = {key: _beside(train, budget, classifier)}
        floor = beside[key]["floor"]
        synthetic = floor if model == FLOOR and floor is not None else _drawn(train, model, budget)
        results = follow(test, train, synthetic, **beside[key], **task)
        say(f"repetition {repetition + 1}", (place % each + 1) / each)
        yield SweepRun(model, budget.epsilon, repetition, results)


def _beside(
    train: Cohort, budget: Budget, classifier: "Callable[[Cohort, Budget], Classifier] | None"
) -> dict[str, Any]:
    """Fit what all models of one epsilon and repetition stand beside: the floor, and the DP classifier if asked for."""
    floor = _drawn(train, FLOOR, budget) if FLOOR in available() else None
    return {"floor": floor, "classifiers": [] if classifier is None else [classifier(train, budget)]}


def _drawn(train: Cohort, model: str, budget: Budget) -> Cohort:
    """Fit and draw as many rows as there are training rows, which is no secret here."""
    of_table = train.schema.images is not None and not synthesizer(model).of_images
    return fit(train, model, epsilon=budget.epsilon, delta=budget.delta, without_images=of_table).sample(len(train))
