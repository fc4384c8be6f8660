"""The whole evaluation of a synthetic cohort, and the object that holds it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dpsynth.errors import InputError
from dpsynth.evaluation.alike import under_one_schema
from dpsynth.evaluation.arrays.bins import BinKind
from dpsynth.evaluation.arrays.groups import Grouping, grouping
from dpsynth.evaluation.arrays.table import Floats, Table, tables
from dpsynth.evaluation.coins import Coins
from dpsynth.evaluation.evaluation import Evaluation
from dpsynth.evaluation.images.sections import image_results, shown_images
from dpsynth.evaluation.learners.from_outside import Classifier, ClassifierAnswers, answers, image_answers
from dpsynth.evaluation.learners.tabular import task_of
from dpsynth.evaluation.metrics.checks import size_results, violation_results
from dpsynth.evaluation.metrics.inference import Regression, default_regression
from dpsynth.evaluation.metrics.orders import order_pairs
from dpsynth.evaluation.metrics.released import ReleasedCounts, released_results
from dpsynth.evaluation.metrics.representation import released_shares, synthetic_shares
from dpsynth.evaluation.protocol import Margins, Progress, Protocol, split
from dpsynth.evaluation.result import Disclosure, Result, guarded
from dpsynth.evaluation.results import Results
from dpsynth.evaluation.sections import Study
from dpsynth.progress import silent

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort
    from dpsynth.schema.schema import Schema

__all__ = ["check", "describe", "evaluate"]

Groups = Sequence[str | Sequence[str]]

#: Share of the progress that is shown for the table where there are images too.
TABLE = 0.3
#: The cohorts of real patients, of which there is one each; of other arms there may be several draws.
REAL = ("test", "train")


def _listed(draws: "Cohort | Sequence[Cohort]") -> "list[Cohort]":
    return list(draws) if isinstance(draws, Sequence) else [draws]


def evaluate(
    real_test: "Cohort",
    synthetic: "Cohort | Sequence[Cohort]",
    *,
    real_train: "Cohort | None" = None,
    coins: Coins | None = None,
    target: str | None = None,
    subgroups: Groups | None = None,
    arms: "Mapping[str, Cohort | Sequence[Cohort]] | None" = None,
    classifiers: Sequence[Classifier] = (),
    regression: Regression | None = None,
    released: Sequence[ReleasedCounts] = (),
    statement: Mapping[str, Any] | None = None,
    bins: BinKind = "quantile",
    margins: Margins | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Judge a synthetic cohort against real patients: fidelity, utility, inference and subgroups.

    Parameters
    ----------
    real_test : Cohort
        Real patients that the synthetic cohort was not fitted on. Everything is tested on them.
    synthetic : Cohort or sequence of Cohort
        One or several draws of the synthetic cohort. Several draws let intervals cover the randomness of drawing. Of
        another schema (drafted by itself, say) it is read again under that of `real_test`: other spellings of a value
        are that value.
    real_train : Cohort, optional
        The real patients that it was fitted on. Without them `real_test` is divided into two halves that share no
        patient; one takes their place, and the other is tested on.
    coins : Coins, optional
        In place of `real_train`: which side of `real_test` each patient is on. Kept by a run that held patients out
        (``internal/split.json``), they test on these. Default for the two halves: new secret ones, or for public
        patients such as `seed` repeats.
    target : str, optional
        The outcome; the schema's target where left out.
    subgroups : sequence of str or of sequences of str, optional
        Columns, and intersections of columns, whose groups are judged; the schema's where left out.
    arms : mapping of str to Cohort or draws, optional
        ``floor`` (independent columns at the same epsilon) and ``noiseless`` (the same model without noise).
    classifiers : sequence of Classifier
        DP classifiers that were fitted directly on `real_train`, at the same epsilon: an arm beside the learners of
        rows, or of images, that are trained here. Several beside one learner are taken for several fits of it.
    regression : Regression, optional
        Named before looking; `default_regression` of the schema where left out.
    released : sequence of ReleasedCounts
        Noisy counts that the budget paid for: what the public report can compare with.
    statement : mapping, optional
        The privacy statement (``privacy.json``) of the release.
    bins : {"quantile", "public"}
        Cells of numbers in tables of counts: cut from the real test patients, or from the schema's ranges.
    margins : Margins, optional
        How far the cohort may fall short and still be called good enough; choose before looking.
    seed : int
        Draws subsets, bootstrap draws and the learners' randomness; two runs with one seed, and the same sides of
        private patients, agree.
    progress : callable, optional
        Called with a phase and the share of the work that is done.

    Returns
    -------
    Evaluation
        Results that touched real patients are internal, unless every real cohort is public. A metric that cannot be
        computed is there as not estimable or failed, with its reason.

    Raises
    ------
    InputError
        If a name is not a modelled column, an arm is unknown, a cohort has too few patients, or a classifier's
        predictions are not of the form that `Classifier` says.
    DataError
        If the cohorts do not have the same columns.
    """
    say = progress or silent
    real_train, real_test = _sides(real_test, real_train, coins, seed)
    real_test, real_train, drawn = under_one_schema(real_test, real_train, _drawn(synthetic, arms))
    schema, public = real_test.schema, real_test.public and real_train.public
    disclosure = Disclosure.PUBLIC if public else Disclosure.INTERNAL
    terms = Protocol(seed=seed, disclosure=disclosure, margins=margins or Margins())
    target = target or schema.target
    regression = regression or default_regression(schema)
    say("reading", 0.0)
    cohorts = {"test": [real_test], "train": [real_train], **drawn}
    arrays = _tables(cohorts)
    test, train = arrays["test"][0], arrays["train"][0]
    groupings = _groupings(test, schema, subgroups)
    of_rows, of_images = _answers(classifiers, real_test, real_train, test, target=target, seed=seed)
    of_table = _stage(say, 0.0, TABLE if schema.images is not None else 1.0)
    study = Study(test, train, {arm: arrays[arm] for arm in drawn}, terms, of_table, of_rows)
    results = [
        *_checks({"real": real_test, "synthetic": drawn["synthetic"][0]}, terms),
        *released_results(released, terms),
        *_studied(study, schema, target, groupings, bins=bins, regression=regression),
        *image_results(cohorts, arrays, target, groupings, terms=terms, say=_stage(say, TABLE, 1.0), answers=of_images),
    ]
    say("done", 1.0)
    about = _about(schema, target, bins, regression, public=public, classifiers=classifiers)
    return Evaluation(Results(results), schema, terms, dict(statement or {}), about | study.about())


def _about(
    schema: "Schema",
    target: str | None,
    bins: BinKind,
    regression: "Regression | None",
    *,
    public: bool,
    classifiers: Sequence[Classifier],
) -> dict[str, Any]:
    """Return what was compared, for the page: JSON-able and public."""
    about = {"name": schema.name, "target": target, "bins": bins, "regression": regression and regression.words}
    about |= {"real_data": "public" if public else "private"}
    return about | ({"classifiers": [classifier.about() for classifier in classifiers]} if classifiers else {})


def _studied(
    study: Study,
    schema: "Schema",
    target: str | None,
    groupings: Sequence[Grouping],
    *,
    bins: BinKind,
    regression: "Regression | None",
) -> list[Result]:
    """Return what a study of tables says: fidelity, orders, representation, learning and inference."""
    return [
        *study.fidelity(bins),
        *study.ordered(order_pairs(schema)),
        *study.representation(groupings),
        *(study.learned(target, groupings) if target is not None else []),
        *study.inferred(regression if schema.survival is None else None),
        *study.in_time(schema, groupings),
    ]


def _stage(say: Progress, start: float, end: float) -> Progress:
    """Return a listener for one stage, whose share of 0 is `start` of the whole and whose share of 1 is `end`."""
    return lambda phase, share: say(phase, start + (end - start) * share)


def _checks(cohorts: "Mapping[str, Cohort]", terms: Protocol) -> list[Result]:
    """Return how large cohorts are, and how often they break the schema's constraints."""
    return [
        *size_results(cohorts, terms),
        *guarded("constraint_violations", lambda: violation_results(cohorts, terms), disclosure=terms.disclosure),
    ]


def _sides(real: "Cohort", train: "Cohort | None", coins: Coins | None, seed: int) -> "tuple[Cohort, Cohort]":
    """Return training and test patients: as they are given, or the sides of those that there are."""
    if train is not None:
        if coins is not None:
            raise InputError("coins: say who is tested on, and so does real_train; give one of them.")
        return train, real
    if coins is None and real.public:
        return split(real, 0.5, key=f"halves {seed}")
    coins = coins or Coins.draw()
    return split(real, coins.share or 0.5, key=coins)


def check(
    real: "Cohort",
    synthetic: "Cohort | Sequence[Cohort]",
    train: "Cohort",
    *,
    target: str,
    subgroups: Groups | None = None,
    arms: "Mapping[str, Cohort | Sequence[Cohort]] | None" = None,
    images: bool = False,
) -> None:
    """Refuse what `evaluate` would refuse, before anything is paid for that is to be judged there.

    Parameters
    ----------
    real, synthetic, train, target, subgroups, arms
        As for `evaluate`, whose `real_test` and `real_train` are `real` and `train`.
    images : bool
        Whether images are to be judged: all cohorts must then have some.

    Raises
    ------
    InputError, DataError
        As for `evaluate`.
    """
    drawn = _drawn(synthetic, arms)
    test = _tables({"test": [real], "train": [train], **drawn})["test"][0]
    task_of(test, target)
    _groupings(test, real.schema, subgroups)
    for name, cohort in {"real": real, "training": train, "synthetic": drawn["synthetic"][0]}.items():
        if images and not cohort.images:
            raise InputError(f"images: the {name} cohort has none, so that a classifier of images cannot be judged.")


def _drawn(
    synthetic: "Cohort | Sequence[Cohort]", arms: "Mapping[str, Cohort | Sequence[Cohort]] | None"
) -> "dict[str, list[Cohort]]":
    drawn = {"synthetic": _listed(synthetic)} | {arm: _listed(draws) for arm, draws in (arms or {}).items()}
    unknown = sorted(set(drawn) - {"synthetic", "floor", "noiseless"})
    if unknown:
        raise InputError(f"arms: {unknown[0]!r} is unknown; expected floor or noiseless.")
    return drawn


def _tables(cohorts: "Mapping[str, Sequence[Cohort]]") -> dict[str, list[Table]]:
    """Return all draws of all cohorts as tables with common codes."""
    names = {arm: [arm] if arm in REAL else [f"{arm} {place}" for place in range(len(cohorts[arm]))] for arm in cohorts}
    flat = {name: draw for arm, draws in cohorts.items() for name, draw in zip(names[arm], draws, strict=True)}
    arrays = tables(flat)
    return {arm: [arrays[name] for name in names[arm]] for arm in cohorts}


def _answers(
    classifiers: Sequence[Classifier], test: "Cohort", train: "Cohort", table: Table, *, target: str | None, seed: int
) -> tuple[list[ClassifierAnswers], dict[str, list[Floats]]]:
    """Return what classifiers say of rows, and what they say of images."""
    if not classifiers:
        return [], {}
    if target is None:
        raise InputError("classifiers: there is no outcome for them to predict; name a target.")
    task = task_of(table, target)
    of_rows = [answers(classifier, test, train, task, seed) for classifier in classifiers if not classifier.of_images]
    return of_rows, image_answers(
        [classifier for classifier in classifiers if classifier.of_images], test, train, task, seed
    )


def _groupings(table: Table, schema: "Schema", subgroups: Groups | None) -> list[Grouping]:
    wanted: Groups = (*schema.subgroups, *schema.intersections) if subgroups is None else subgroups
    return [grouping(table, columns) for columns in wanted]


def describe(
    synthetic: "Cohort",
    *,
    released: Sequence[ReleasedCounts] = (),
    statement: Mapping[str, Any] | None = None,
    subgroups: Groups | None = None,
    margins: Margins | None = None,
) -> Evaluation:
    """Say of a synthetic cohort what may be said without any real patient; all results are public.

    Parameters
    ----------
    synthetic : Cohort
        One draw of a synthetic cohort.
    released, statement, subgroups, margins
        As for `evaluate`.

    Returns
    -------
    Evaluation

    Raises
    ------
    InputError
        If a subgroup is not of modelled columns.

    Notes
    -----
    Privacy contract: post-processing of the release; touches no private value.
    """
    schema, terms = synthetic.schema, Protocol(disclosure=Disclosure.PUBLIC, margins=margins or Margins())
    cohorts = {"synthetic": synthetic}
    table = tables(cohorts)["synthetic"]
    groupings = _groupings(table, schema, subgroups)
    results = [
        *_checks(cohorts, terms),
        *released_results(released, terms),
        *synthetic_shares(table, groupings),
        *released_shares(released, groupings, terms),
        *shown_images(synthetic, table, schema.target, groupings, terms),
    ]
    about = {"name": schema.name, "target": schema.target, "synthetic_rows": len(synthetic), "real_data": "none"}
    return Evaluation(Results(results).public(), schema, terms, dict(statement or {}), about)
