"""A green answer is earned: a table of cases in which nothing was tested, none of which is answered with yes."""

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from dpsynth.cohort import Cohort
from dpsynth.evaluation import Evaluation, Margins, Results, describe, evaluate
from dpsynth.evaluation.report.answers import Answer
from dpsynth.evaluation.report.signing import signable
from dpsynth.evaluation.report.verdicts import group_verdicts, verdicts
from dpsynth.evaluation.result import Interval, Result, estimate, not_estimable
from dpsynth.schema import Schema

from .helpers import STATEMENT, ward

TEACHING, ONE, TWO = "Teaching", "Describing columns one", "Describing two columns"
DEVELOPING, RISKS, DIRECTIONS, GROUPS = (
    "Developing a model that pred",
    "Taking predicted risks",
    "Finding directions",
    "Use in",
)


def score(metric: str, low: float, high: float, arm: str = "synthetic", **fields: object) -> Result:
    """Return a result with this interval."""
    return estimate(metric, (low + high) / 2, interval=Interval(low, high), arm=arm, **fields)


def learned(real: tuple[float, float], change: tuple[float, float] = (-0.01, 0.01), **detail: object) -> list[Result]:
    """Return what learners of real patients reach, and what the cohort loses against them."""
    ceiling = score("auroc", *real, "real", detail={"features": 5, "task": "binary", **detail})
    return [ceiling, score("change", *change, detail={"of": "auroc"})]


def kept(value: float = 0.0, **detail: object) -> Result:
    """Return what is known of constraints."""
    return estimate("constraint_violations", value, n=100, detail={"constraints": {}, "idle": [], **detail})


def column(*shares: float) -> Result:
    """Return a column with these shares among real patients."""
    return estimate("tvd_column", 0.0, subject=f"c{len(shares)}", detail={"real": list(shares), "real_halves": 0.0})


def floored(low: float, high: float) -> Result:
    """Return a distance of pairs beside that of columns without any relation."""
    independent = {"value": (low + high) / 2, "low": low, "high": high}
    return score("tvd_2way_excess", -0.01, 0.01, detail={"independent": independent})


CLOSE = [score("tvd_1way_excess", -0.01, 0.01), score("tvd_2way_excess", -0.01, 0.01), score("tvd_2way", 0.0, 0.02)]
VACUOUS: dict[str, tuple[str, list[Result], Answer]] = {
    "no constraint is declared": (TEACHING, [kept()], Answer.NOTHING_CHECKED),
    "no row is of those that a constraint speaks of": (
        TEACHING,
        [kept(constraints={"a": 0}, idle=["a"])],
        Answer.NOTHING_CHECKED,
    ),
    "every column is constant": (ONE, [*CLOSE, column(1.0), column(1.0)], Answer.NOTHING_CHECKED),
    "one column alone varies": (TWO, [*CLOSE, column(1.0), column(0.5, 0.5)], Answer.NOTHING_CHECKED),
    "one column": (TWO, [CLOSE[0], column(0.5, 0.5)], Answer.NOTHING_CHECKED),
    "independent columns pass too": (
        TWO,
        [CLOSE[0], floored(0.005, 0.02), column(0.5, 0.5), column(0.2, 0.8)],
        Answer.UNKNOWN,
    ),
    "real patients teach nothing": (DEVELOPING, learned((0.45, 0.55)), Answer.UNKNOWN),
    "real patients teach less than may be lost": (DEVELOPING, learned((0.53, 0.58)), Answer.UNKNOWN),
    "real patients teach the contrary": (DEVELOPING, learned((0.08, 0.12)), Answer.UNKNOWN),
    "the floor is as high as the ceiling": (
        DEVELOPING,
        [*learned((0.70, 0.74)), score("auroc", 0.68, 0.72, "floor")],
        Answer.UNKNOWN,
    ),
    "there is no ceiling": (DEVELOPING, learned((0.7, 0.8))[1:], Answer.UNKNOWN),
    "there is no other column to learn from": (DEVELOPING, learned((0.7, 0.8), features=0), Answer.NOTHING_CHECKED),
    "one learner failed": (
        DEVELOPING,
        [*learned((0.7, 0.8)), not_estimable("change", "stopped", subject="other", detail={"of": "auroc"})],
        Answer.UNKNOWN,
    ),
    "a number that cannot be explained": (
        DEVELOPING,
        [score("r2", -0.02, 0.03, "real"), score("change", -0.01, 0.01, detail={"of": "r2"})],
        Answer.UNKNOWN,
    ),
    "everybody has the same risk": (
        RISKS,
        [
            *learned((0.7, 0.8)),
            score("calibration_intercept", -0.05, 0.05),
            not_estimable("calibration_slope", "every patient has the same predicted risk"),
        ],
        Answer.NOT_SHOWN,
    ),
    "risks where nothing can be learned": (
        RISKS,
        [*learned((0.45, 0.55)), score("calibration_intercept", -0.05, 0.05), score("calibration_slope", 0.9, 1.1)],
        Answer.UNKNOWN,
    ),
    "risks of a number": (RISKS, learned((0.7, 0.8), task="numeric"), Answer.NOTHING_CHECKED),
    "risks of several classes": (RISKS, learned((0.7, 0.8), task="multiclass"), Answer.NOTHING_CHECKED),
    "no regression": (DIRECTIONS, learned((0.7, 0.8)), Answer.NOTHING_CHECKED),
    "no coefficient is clearly off 0": (
        DIRECTIONS,
        [not_estimable("sign_agreement", "no coefficient of the real patients is clearly off 0")],
        Answer.UNKNOWN,
    ),
    "no subgroup is named": (GROUPS, learned((0.7, 0.8)), Answer.NOTHING_CHECKED),
}


@pytest.mark.parametrize(("use", "items", "answer"), VACUOUS.values(), ids=VACUOUS.keys())
def test_nothing_tested_is_never_a_yes(use: str, items: list[Result], answer: Answer) -> None:
    """And is not signed as good enough either."""
    found = verdicts(Results(items), Margins(), "died", withheld=False)
    one = next(verdict for verdict in found if verdict.use.startswith(use))
    if "one learner failed" not in str(items) and not any(item.reason == "stopped" for item in items):
        assert one.answer is answer, one
    assert one.answer is not Answer.YES
    said = dict(signable(found, [], STATEMENT, Results(items)))
    assert not any(one.use in sentence for sentence in said["Can be signed"])


def test_the_same_uses_can_be_earned() -> None:
    """With something to test, and intervals within the margins, they are answered with yes: the rules can pass."""
    items = [
        CLOSE[0],
        floored(0.02, 0.03),
        column(0.5, 0.5),
        column(0.2, 0.8),
        kept(constraints={"a": 0, "b": 0}, idle=["b"]),
        *learned((0.7, 0.8)),
        score("calibration_intercept", -0.05, 0.05),
        score("calibration_slope", 0.9, 1.1),
        estimate("sign_agreement", 1.0, n=4),
        score("order_difference_excess", -0.01, 0.02),
    ]
    found = verdicts(Results(items), Margins(), "died", withheld=False)
    assert {verdict.answer for verdict in found[:7]} == {Answer.YES}
    assert [verdict.use for verdict in found[7:] if verdict.answer is not Answer.NO] == ["Use in groups of patients"]


def test_no_outcome_is_nothing_checked() -> None:
    """The use is named all the same, so that nobody takes its absence for a pass."""
    found = verdicts(Results([kept()]), Margins(), None, withheld=False)
    assert next(verdict for verdict in found if verdict.use.startswith("Developing")).answer is Answer.NOTHING_CHECKED


GROUP_CASES: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float], Answer]] = {
    "the whole and the group hold": ((0.7, 0.8), (-0.01, 0.01), (0.7, 0.9), Answer.YES),
    "the whole is not shown": ((0.7, 0.8), (-0.08, 0.01), (0.7, 0.9), Answer.NOT_SHOWN),
    "the whole does not hold": ((0.7, 0.8), (-0.2, -0.1), (0.7, 0.9), Answer.NOT_SHOWN),
    "nothing can be learned in the whole": ((0.45, 0.55), (-0.01, 0.01), (0.7, 0.9), Answer.NOT_SHOWN),
    "nothing can be learned in the group": ((0.7, 0.8), (-0.01, 0.01), (0.4, 0.6), Answer.UNKNOWN),
}


@pytest.mark.parametrize(("whole", "change", "group", "answer"), GROUP_CASES.values(), ids=GROUP_CASES.keys())
def test_no_group_holds_up_where_the_whole_does_not(
    whole: tuple[float, float], change: tuple[float, float], group: tuple[float, float], answer: Answer
) -> None:
    """Nor where real patients of the group teach nothing."""
    items = [
        *learned(whole, change),
        score("group_auroc", *group, "real", group="sex=f"),
        score("group_change", -0.01, 0.01, group="sex=f", detail={"of": "group_auroc"}),
    ]
    assert group_verdicts(Results(items), Margins())[0].learning is answer


def test_the_share_of_a_group_that_is_everybody_is_nothing_checked() -> None:
    """It is 100 % in any cohort."""
    detail = {"real_share": 1.0, "synthetic_share": 1.0, "grouping": "sex"}
    everybody = score("representation", 0.0, 0.0, group="sex=f", detail=detail)
    assert group_verdicts(Results([everybody]), Margins())[0].share is Answer.NOTHING_CHECKED
    half = replace(everybody, detail={**detail, "real_share": 0.5, "synthetic_share": 0.5})
    assert group_verdicts(Results([half]), Margins())[0].share is Answer.YES


def noise(rows: int, seed: int, **facts: object) -> Cohort:
    """Return patients of whom nothing says anything about the outcome, and no constraint, subgroup or regression."""
    rng = np.random.default_rng(seed)
    columns = {name: {"type": "numeric", "min": 0, "max": 1, "decimals": 3} for name in ("a", "b")}
    document = {"name": "noise", "confirmed": True, "target": "y", "columns": {**columns, "y": {"type": "boolean"}}}
    frame = pd.DataFrame({"a": rng.random(rows).round(3), "b": rng.random(rows).round(3), "y": rng.random(rows) < 0.5})
    return Cohort.from_pandas(frame, Schema.parse(document), **facts)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def of_noise() -> Evaluation:
    """Return the evaluation of a cohort that equals real patients in distribution, and teaches as little."""
    return evaluate(noise(300, 1), noise(300, 2, synthetic=True), real_train=noise(300, 3))


def test_a_cohort_of_noise_earns_no_yes_for_learning(of_noise: Evaluation) -> None:
    """Nothing is lost, because there is nothing to lose; the page, its twin and what is signed say so."""
    answers = {one["use"].split(" ")[0]: one["answer"] for one in of_noise.to_dict()["verdicts"]}
    assert answers["Developing"] in ("unknown", "not shown", "no")
    assert answers["Taking"] != "yes"
    assert answers["Teaching,"] == answers["Use"] == "nothing checked"
    page = of_noise.html()
    assert "nothing to learn here" in page
    assert 'class="answer nothing-checked"' in page
    signed = re.search(r"<h3>Can be signed</h3>(.*?)</ul>", page, flags=re.DOTALL)
    for words in ("predicts y", "Teaching", "groups of patients"):
        assert signed is None or words not in signed[1]
    assert "Nothing was checked: no evidence for or against" in page


def test_an_internal_page_does_not_point_to_an_internal_page(of_noise: Evaluation) -> None:
    """What is not there, is said to be not there; only the public page of private patients refers to another."""
    page = of_noise.html()
    assert "internal report" not in page.replace("Internal report. Do not publish", "")
    assert "may be shown here" not in page.replace("or none that may be shown here", "")
    assert "internal report" in of_noise.html(public=True)


def test_what_a_kind_of_outcome_makes_impossible_is_said_as_that() -> None:
    """A number has no AUROC, and no risk that could be calibrated."""
    page = evaluate(ward(150), ward(120, 1, synthetic=True), real_train=ward(150, 2), target="age").html()
    assert "do not exist for a numeric outcome" in page
    assert "calibration of risks does not exist for age, which is a number" in page


def test_without_a_statement_privacy_cannot_be_signed(of_noise: Evaluation) -> None:
    """A file of synthetic rows without privacy.json protects nobody as far as anybody knows; a test mode neither."""
    for statement in ({}, {**STATEMENT, "private": False}):
        said = dict(signable([], [], statement, of_noise.results))
        refused = next(each for words, each in said.items() if words.startswith("Cannot be signed"))
        assert any("protects anybody" in sentence for sentence in refused)
    assert not any("protects anybody" in one for _, each in signable([], [], STATEMENT, Results()) for one in each)
    assert "That the cohort protects anybody" in replace(of_noise, statement={}).html()


def test_a_release_without_constraints_is_not_praised_for_keeping_them() -> None:
    """On the public page too, which knows no real patient."""
    found = describe(noise(100, 4, synthetic=True)).to_dict()["verdicts"]
    assert found[0]["answer"] == "nothing checked"


def test_the_table_of_cases_is_long_enough() -> None:
    """Each use that can be answered with yes has a case in which nothing was tested."""
    uses: set[str] = {use for use, _, _ in VACUOUS.values()}
    named: Callable[[str], bool] = lambda use: any(use.startswith(start) for start in uses)  # noqa: E731
    found = verdicts(Results([kept()]), Margins(), "died", withheld=False)
    assert all(named(verdict.use) for verdict in found[:-2])
