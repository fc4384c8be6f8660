"""The whole evaluation of a synthetic cohort, and the object that holds it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.errors import InputError
from dpsynth.evaluation.alike import under_one_schema
from dpsynth.evaluation.bins import BinKind
from dpsynth.evaluation.checks import size_results, violation_results
from dpsynth.evaluation.classifiers import Answers, Classifier, answers, image_answers
from dpsynth.evaluation.coins import Coins
from dpsynth.evaluation.groups import Grouping, grouping
from dpsynth.evaluation.images import image_results, shown_images
from dpsynth.evaluation.inference import Regression, default_regression
from dpsynth.evaluation.learners import task_of
from dpsynth.evaluation.orders import order_pairs
from dpsynth.evaluation.protocol import Margins, Progress, Protocol, split
from dpsynth.evaluation.released import ReleasedCounts, released_results
from dpsynth.evaluation.representation import released_shares, synthetic_shares
from dpsynth.evaluation.results import Disclosure, Result, Results, guarded
from dpsynth.evaluation.study import Study
from dpsynth.evaluation.table import Floats, Table, tables
from dpsynth.progress import silent

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.cohort import Cohort
    from dpsynth.schema import Schema

__all__ = ["Evaluation", "check", "describe", "evaluate"]

Groups = Sequence[str | Sequence[str]]

#: Share of the progress that is shown for the table where there are images too.
TABLE = 0.3


@dataclass(frozen=True)
class Evaluation:
    """Everything that was found about a synthetic cohort.

    Parameters
    ----------
    results : Results
    schema : Schema
        Public facts about the columns, for the report.
    terms : Protocol
    statement : mapping
        The privacy statement of the release; empty where there is none.
    about : mapping
        What was compared: rows, draws, bins, target, regression; JSON-able and public.
    """

    results: Results
    schema: "Schema"
    terms: Protocol
    statement: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def public(self) -> "Evaluation":
        """Return the evaluation with those results only that may be published."""
        return replace(self, results=self.results.public())

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per result."""
        return self.results.to_frame()

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-able values, in the form of ``report/report.schema.json``."""
        from dpsynth.evaluation.report import document

        return document(self)

    def json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=1)

    def html(self, *, public: bool = False) -> str:
        """Return the report as one HTML page; see `write_html`."""
        from dpsynth.evaluation.report import render_internal, render_public

        return render_public(self.public()) if public else render_internal(self)

    def write_html(self, path: str | Path, *, public: bool = False) -> None:
        """Write the report as one HTML page that needs no network.

        Parameters
        ----------
        path : path
        public : bool
            Write the page that may be published: results that touched private data without noise are left out, and
            the page says so. Otherwise the page is marked internal.

        Raises
        ------
        InputError
            If the page is not public and would lie in a release.
        """
        from dpsynth.files import check_unpublished, whole_file

        if not public:
            check_unpublished(Path(path))
        with whole_file(Path(path)) as partial:
            partial.write_text(self.html(public=public), encoding="utf-8")

    def write_json(self, path: str | Path, *, public: bool = False) -> None:
        """Write the JSON twin of the page that `write_html` writes; raises as that does."""
        from dpsynth.files import check_unpublished, whole_file

        if not public:
            check_unpublished(Path(path))
        text = (self.public() if public else self).json()
        with whole_file(Path(path)) as partial:
            partial.write_text(text + "\n", encoding="utf-8")

    def _repr_html_(self) -> str:
        from dpsynth.evaluation.report import embed

        return embed(self)


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
    public = real_test.public and real_train.public
    terms = Protocol(
        seed=seed,
        disclosure=Disclosure.PUBLIC if public else Disclosure.INTERNAL,
        margins=margins or Margins(),
    )
    schema = real_test.schema
    target = target or schema.target
    say("reading", 0.0)
    found = _tables(real_test, real_train, drawn)
    others = {arm: [found[f"{arm} {place}"] for place in range(len(given))] for arm, given in drawn.items()}
    cohorts = {"real": real_test, "synthetic": drawn["synthetic"][0]}
    groupings = _groupings(found["test"], schema, subgroups)
    said, shown = _answers(classifiers, real_test, real_train, found["test"], target=target, seed=seed)
    quiet: Progress = (lambda phase, share: say(phase, TABLE * share)) if schema.images is not None else say
    study = Study(found["test"], found["train"], others, terms, quiet, said)
    regression = regression or default_regression(schema)
    results = [
        *size_results(cohorts, terms),
        *guarded("constraint_violations", lambda: violation_results(cohorts, terms), disclosure=terms.disclosure),
        *released_results(released, terms),
        *study.fidelity(bins),
        *study.ordered(order_pairs(schema)),
        *study.representation(groupings),
        *(study.learned(target, groupings) if target is not None else []),
        *study.inferred(regression),
        *image_results(
            {"test": [real_test], "train": [real_train], **drawn},
            {"test": [found["test"]], "train": [found["train"]], **others},
            target,
            groupings,
            terms=terms,
            say=lambda phase, share: say(phase, TABLE + (1 - TABLE) * share),
            answers=shown,
        ),
    ]
    say("done", 1.0)
    about = {
        "name": schema.name,
        "target": target,
        "bins": bins,
        "regression": regression and regression.words,
        "real_data": "public" if public else "private",
        **({"classifiers": [one.about() for one in classifiers]} if classifiers else {}),
    }
    return Evaluation(Results(results), schema, terms, dict(statement or {}), about | study.about())


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
    found = _tables(real, train, drawn)
    task_of(found["test"], target)
    _groupings(found["test"], real.schema, subgroups)
    for name, one in {"real": real, "training": train, "synthetic": drawn["synthetic"][0]}.items():
        if images and not one.images:
            raise InputError(f"images: the {name} cohort has none, so that a classifier of images cannot be judged.")


def _drawn(
    synthetic: "Cohort | Sequence[Cohort]", arms: "Mapping[str, Cohort | Sequence[Cohort]] | None"
) -> "dict[str, list[Cohort]]":
    drawn = {"synthetic": _listed(synthetic)} | {arm: _listed(given) for arm, given in (arms or {}).items()}
    unknown = sorted(set(drawn) - {"synthetic", "floor", "noiseless"})
    if unknown:
        raise InputError(f"arms: {unknown[0]!r} is unknown; expected floor or noiseless.")
    return drawn


def _tables(test: "Cohort", train: "Cohort", drawn: "Mapping[str, Sequence[Cohort]]") -> dict[str, Table]:
    """Return all cohorts as tables with common codes; draws have their number in their name."""
    flat = {"test": test, "train": train}
    return tables(flat | {f"{arm} {place}": one for arm, given in drawn.items() for place, one in enumerate(given)})


def _answers(
    classifiers: Sequence[Classifier], test: "Cohort", train: "Cohort", table: Table, *, target: str | None, seed: int
) -> tuple[list[Answers], dict[str, list[Floats]]]:
    """Return what classifiers say of rows, and what they say of images."""
    if not classifiers:
        return [], {}
    if target is None:
        raise InputError("classifiers: there is no outcome for them to predict; name a target.")
    task = task_of(table, target)
    of_rows = [answers(one, test, train, task, seed) for one in classifiers if not one.of_images]
    return of_rows, image_answers([one for one in classifiers if one.of_images], test, train, task, seed)


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
    released, statement, subgroups, margins
        As for `evaluate`.

    Notes
    -----
    Privacy contract: post-processing of the release; touches no private value.
    """
    schema, terms = synthetic.schema, Protocol(disclosure=Disclosure.PUBLIC, margins=margins or Margins())
    cohorts = {"synthetic": synthetic}
    table = tables(cohorts)["synthetic"]
    groupings = _groupings(table, schema, subgroups)
    results = [
        *size_results(cohorts, terms),
        *guarded("constraint_violations", lambda: violation_results(cohorts, terms), disclosure=terms.disclosure),
        *released_results(released, terms),
        *synthetic_shares(table, groupings),
        *released_shares(released, groupings, terms),
        *shown_images(synthetic, table, schema.target, groupings, terms),
    ]
    about = {"name": schema.name, "target": schema.target, "synthetic_rows": len(synthetic), "real_data": "none"}
    return Evaluation(Results(results).public(), schema, terms, dict(statement or {}), about)
