"""Evaluate: a synthetic cohort is judged against real patients."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.cohort.cohort import Cohort
from dpsynth.progress import Progress
from dpsynth.sources.sampling import sampled
from dpsynth.sources.scanned import ScannedCohort

if TYPE_CHECKING:
    from dpsynth.evaluation.arrays.bins import BinKind
    from dpsynth.evaluation.coins import Coins
    from dpsynth.evaluation.evaluation import Evaluation
    from dpsynth.evaluation.learners.from_outside import Classifier


def evaluate(
    real: Cohort | ScannedCohort,
    synthetic: Cohort | Sequence[Cohort],
    *,
    train: Cohort | ScannedCohort | None = None,
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
    real : Cohort or ScannedCohort
        Real patients that the model has not seen. Of a source that is scanned, here and as `train`, a sample of at most
        200,000 rows is judged by, drawn by patient.
    synthetic : Cohort or sequence of Cohort
        The cohort to judge, or several draws of it.
    train : Cohort or ScannedCohort, optional
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
        The privacy statement of the release, for the report; default: the one that the drawn cohort remembers.
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
    >>> from dpsynth.jobs.audit import demo_cohort
    >>> from dpsynth import fit
    >>> from dpsynth.evaluation import split
    >>> train, test = split(demo_cohort(), 0.3, key="example")
    >>> synthetic = fit(train, "independent", epsilon=1.0).sample(1000, seed=0)
    >>> evaluation = evaluate(test, synthetic, train=train)  # a minute  # doctest: +SKIP
    >>> evaluation.write_html("report.html")  # doctest: +SKIP
    """
    from dpsynth.evaluation.coins import Coins
    from dpsynth.evaluation.judge import evaluate as judge

    coins = split if split is None or isinstance(split, Coins) else Coins.read(split)
    real, train, coins = _in_memory(real, train, coins)
    return judge(
        real,
        synthetic,
        real_train=train,
        coins=coins,
        target=target,
        subgroups=subgroups,
        arms=arms,
        classifiers=classifiers,
        bins=bins,
        statement=statement if statement is not None else _remembered(synthetic),
        seed=seed,
        progress=progress,
    )


def _in_memory(
    real: Cohort | ScannedCohort, train: Cohort | ScannedCohort | None, coins: "Coins | None"
) -> "tuple[Cohort, Cohort | None, Coins | None]":
    """Return samples of sources, both of whose sides are drawn where coins tell them apart."""
    if isinstance(real, ScannedCohort) and coins is not None and train is None:
        share = coins.bound(real, coins.share or 0.5).share or 0.5
        train, real = sampled(real, coins.sides(share))
        coins = None
    train = sampled(train)[0] if isinstance(train, ScannedCohort) else train
    return sampled(real)[0] if isinstance(real, ScannedCohort) else real, train, coins


def _remembered(synthetic: Cohort | Sequence[Cohort]) -> Mapping[str, Any] | None:
    """Return the privacy statement of the model that a cohort, or the first of several, was drawn from."""
    first = synthetic[0] if isinstance(synthetic, Sequence) else synthetic
    statement: Mapping[str, Any] | None = first.statement
    return statement
