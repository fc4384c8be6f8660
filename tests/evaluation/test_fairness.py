from functools import partial
from typing import Any

import numpy as np
import pytest
from fairlearn import metrics as fair
from sklearn import metrics

from dpsynth.errors import InputError
from dpsynth.evaluation.arrays.groups import grouping
from dpsynth.evaluation.arrays.table import Table, Variable, tables
from dpsynth.evaluation.learners.arms import Exam, Trained
from dpsynth.evaluation.learners.tabular import Prediction, task_of
from dpsynth.evaluation.metrics.fairness import Judged, group_results, judge
from dpsynth.evaluation.metrics.gaps import _shuffles, change_results, gap_results, holm, parity_results, with_holm
from dpsynth.evaluation.metrics.released import ReleasedCounts
from dpsynth.evaluation.metrics.representation import (
    log_ratio,
    released_shares,
    representation,
    slope,
    synthetic_shares,
)
from dpsynth.evaluation.protocol import Protocol
from dpsynth.evaluation.result import Disclosure, Status
from dpsynth.evaluation.results import Results

from .helpers import categories, cohort, frame, ward

TERMS = Protocol(draws=300)


def patients(rows: int = 400, seed: int = 0, *, small: int = 0) -> Table:
    """Return test patients with an outcome and two groups, and `small` more patients in a third."""
    rng = np.random.default_rng(seed)
    group = np.concatenate([rng.integers(0, 2, rows), np.full(small, 2)])
    outcome = rng.integers(0, 2, rows + small)
    return Table(
        {
            "g": Variable("g", group, ("a", "b", "c")),
            "y": Variable("y", outcome, ("no", "yes")),
        },
        np.arange(rows + small),
    )


def judged(table: Table, *, harm: float = 0.0, seed: int = 1) -> Judged:
    """Return predictions of a good model and of one that is `harm` worse in group b."""
    rng = np.random.default_rng(seed)
    exam = Exam(task_of(table, "y"), table, (), TERMS)
    noise = rng.normal(size=len(table))
    real = exam.truth * 1.5 + noise
    worse = harm * (table["g"].values == 1)
    synthetic = exam.truth * (1.5 - worse) + noise + rng.normal(0, 0.2, len(table))
    trained = [
        Trained(arm, "gb", (Prediction(1 / (1 + np.exp(-score)), (score > 0.7).astype(int)),), 100)
        for arm, score in (("real", real), ("synthetic", synthetic))
    ]
    return judge(grouping(table, "g"), trained, exam, "gb")


def test_group_scores_are_scikit_learns_and_fairlearns() -> None:
    """AUROC and AUPRC by scikit-learn in each group; TPR, FPR and PPV by fairlearn's MetricFrame."""
    one = judged(patients())
    found = Results(group_results(one))
    truth, codes = one.exam.truth.astype(int), one.exam.test["g"].values
    for arm, trained in one.trained.items():
        prediction = trained.predictions[0]
        frame = fair.MetricFrame(
            metrics={
                "tpr": fair.true_positive_rate,
                "fpr": fair.false_positive_rate,
                "ppv": metrics.precision_score,
            },
            y_true=truth,
            y_pred=prediction.guesses,
            sensitive_features=codes,
        ).by_group
        for code, label in ((0, "g=a"), (1, "g=b")):
            rows = codes == code
            expected: dict[str, Any] = {
                "group_auroc": metrics.roc_auc_score(truth[rows], prediction.scores[rows]),
                "group_auprc": metrics.average_precision_score(truth[rows], prediction.scores[rows]),
                "calibration_error": truth[rows].mean() - prediction.scores[rows].mean(),
                **{name: frame.loc[code, name] for name in ("tpr", "fpr", "ppv")},
            }
            for metric, value in expected.items():
                result = found.one(metric, arm=arm, group=label)
                assert result.number == pytest.approx(value), metric
                assert result.interval is not None
                assert result.interval.low <= result.number <= result.interval.high
                assert (result.n, result.detail["positives"]) == (rows.sum(), truth[rows].sum())


def test_parity_is_fairlearns() -> None:
    """Equalised odds and demographic parity differences over the groups that can be estimated."""
    one = judged(patients())
    found = Results(parity_results(one))
    truth, codes = one.exam.truth.astype(int), one.exam.test["g"].values
    guesses = one.trained["synthetic"].predictions[0].guesses
    expected = fair.equalized_odds_difference(truth, guesses, sensitive_features=codes)
    assert found.one("equalized_odds", arm="synthetic").number == pytest.approx(expected)
    expected = fair.demographic_parity_difference(truth, guesses, sensitive_features=codes)
    assert found.one("demographic_parity", arm="synthetic").number == pytest.approx(expected)


def test_a_group_of_three_is_not_estimable_and_the_others_are() -> None:
    """Each of its scores says how many patients there are and how many are needed; it is in no gap."""
    one = judged(patients(small=3))
    results = Results([*group_results(one), *change_results(one)])
    tiny = results.select(group="g=c")
    assert len(tiny) > 6
    assert {item.status for item in tiny} == {Status.NOT_ESTIMABLE}
    assert all("needs 10" in item.reason for item in tiny)
    assert all(item.ok for item in results.select("group_auroc", group="g=a"))
    assert {item.n for item in gap_results(one)} == {2}
    assert {item.n for item in parity_results(one)} == {2}


def test_a_predictive_value_of_a_few_alarms_is_not_estimable() -> None:
    """Ten patients of a kind: for the positive predictive value, those who are alarmed in that group and arm."""
    one = judged(patients())
    in_a = one.exam.test["g"].values == 0
    for arm, wanted in (("real", 9), ("synthetic", 10)):
        found = one.trained[arm].predictions[0].guesses
        found[in_a] = 0
        found[np.flatnonzero(in_a)[:wanted]] = 1
    results = Results(group_results(one))
    few = results.one("ppv", group="g=a", arm="real")
    assert (few.status, few.reason) == (Status.NOT_ESTIMABLE, "9 patients alarmed; needs 10")
    assert results.one("ppv", group="g=a", arm="synthetic").ok
    assert results.one("tpr", group="g=a", arm="real").ok


def test_changes_and_their_differences_are_paired_auroc_differences() -> None:
    """By hand from scikit-learn's AUROC."""
    one = judged(patients(), harm=1.0)
    found = Results(change_results(one))
    truth, codes = one.exam.truth, one.exam.test["g"].values
    change = {}
    for code in (0, 1):
        rows = codes == code
        real, synthetic = (
            metrics.roc_auc_score(truth[rows], one.trained[arm].predictions[0].scores[rows])
            for arm in ("real", "synthetic")
        )
        change[code] = synthetic - real
    assert found.one("group_change", group="g=b").number == pytest.approx(change[1])
    assert found.one("did", group="g=b").number == pytest.approx(change[1] - change[0])
    assert found.one("did", group="g=a").number == pytest.approx(change[0] - change[1])


def test_harm_to_one_group_is_found_and_none_is_not() -> None:
    """With a planted loss in group b both p values are small; without it they are not (below 1e-3 by chance alone)."""
    harmed, equal = (Results(with_holm(change_results(judged(patients(800), harm=harm)))) for harm in (1.5, 0.0))
    assert harmed.one("largest_did").detail["p_permutation"] <= 0.01
    assert harmed.one("did", group="g=b").detail["p_holm"] < 1e-4
    assert harmed.one("did", group="g=b").number < -0.1
    assert equal.one("largest_did").detail["p_permutation"] > 1e-3
    assert equal.one("did", group="g=b").detail["p_holm"] > 1e-3


def test_pairing_makes_the_interval_of_a_change_narrow() -> None:
    """Two models that rank alike differ by less than each of them is uncertain."""
    one = judged(patients())
    change = Results(change_results(one)).one("group_change", group="g=a").interval
    alone = Results(group_results(one)).one("group_auroc", arm="real", group="g=a").interval
    assert change is not None
    assert alone is not None
    assert change.high - change.low < 0.7 * (alone.high - alone.low)


def test_holm_by_hand() -> None:
    """Sorted 0.01, 0.02, 0.04 times 3, 2, 1; never falling, never above 1."""
    assert holm([0.02, 0.01, 0.04]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_one_group_has_nobody_to_be_compared_with() -> None:
    """Differences between groups need two."""
    table = patients().take(np.flatnonzero(patients()["g"].values == 0))
    results = Results(change_results(judged(table)))
    assert results.one("did", group="g=a").status is Status.NOT_ESTIMABLE
    assert results.one("largest_did").status is Status.NOT_ESTIMABLE
    assert Results(parity_results(judged(table))).select(status=Status.OK)._items == ()


def test_groups_are_named_by_value_and_missing_is_a_group() -> None:
    """Categories, declared cut points, special values and intersections."""
    table = tables({"x": ward(300)})["x"]
    assert grouping(table, "sex").labels == ("sex=f", "sex=m", "sex=missing")
    ages = grouping(table, "age")
    assert ages.labels == ("age < 65", "age ≥ 65", "age=missing")
    assert ((ages.codes(table) == 1) == (table["age"].values >= 65)).all()
    assert grouping(table, "crea").labels[-2:] == ("crea=0", "crea=missing")
    both = grouping(table, ["sex", "race"])
    assert both.name == "sex & race"
    assert both.labels[both.codes(table)[0]].count("=") == 2
    assert (grouping(table, "race").codes(table) == 3).sum() == table["race"].missing.sum()


def test_an_unknown_group_or_too_many_groups_are_refused() -> None:
    """With the column's name and what to do."""
    table = categories(x=np.arange(300), y=[0, 1] * 150)
    with pytest.raises(InputError, match="'z': is not a modelled column"):
        grouping(table, "z")
    with pytest.raises(InputError, match="at most 200"):
        grouping(categories(x=np.arange(60), y=np.arange(60) % 6), ["x", "y"])


def test_representation_by_hand() -> None:
    """Shares 3/4 and 1/4 against 1/2 and 1/2; a group that the cohort lacks is said to be missing, not 0."""
    real, synthetic = categories(g=[0, 0, 0, 1] * 10), categories(g=[0, 1] * 20)
    results = Results(representation(real, [synthetic], [grouping(real, "g")], TERMS))
    assert results.one("representation", group="g=g0").number == pytest.approx(np.log(0.5 / 0.75))
    assert results.one("representation", group="g=g1").number == pytest.approx(np.log(0.5 / 0.25))
    lost = Results(representation(real, [real.take(np.arange(3))], [grouping(real, "g")], TERMS))
    assert lost.one("representation", group="g=g1").status is Status.NOT_ESTIMABLE
    assert lost.one("representation_slope").status is Status.NOT_ESTIMABLE


def test_the_slope_tells_robin_hood_from_matthew() -> None:
    """Negative where small groups grow, positive where they shrink, 0 where shares stay."""
    real = np.array([1000.0, 200, 50])
    assert slope(real, np.array([900.0, 230, 120])) < -0.1
    assert slope(real, np.array([1200.0, 150, 10])) > 0.1
    assert slope(real * 1000, real * 1000) == pytest.approx(0, abs=1e-9)


def test_the_interval_of_a_log_ratio_covers_no_difference() -> None:
    """Over 300 pairs of samples of one population, 95 % intervals hold 0 in 88 % or more (less has p < 1e-6)."""
    rng, inside = np.random.default_rng(0), 0
    for _ in range(300):
        value, error = log_ratio(*(rng.multinomial(500, [0.8, 0.2]).astype(float) for _ in range(2)))
        inside += abs(value[1]) <= 1.96 * error[1]
    assert inside >= 264


def test_shares_of_the_synthetic_cohort_are_public() -> None:
    """They touch nothing else."""
    table = categories(g=[0, 0, 1, 0])
    found = synthetic_shares(table, [grouping(table, "g")])
    assert [(result.group, result.number, result.disclosure) for result in found] == [
        ("g=g0", 0.75, Disclosure.PUBLIC),
        ("g=g1", 0.25, Disclosure.PUBLIC),
    ]


def test_shares_against_released_counts_know_the_noise_and_are_public() -> None:
    """Over 300 noise draws the 95 % interval holds the true log ratio of shares in 89 % or more (p < 1e-6)."""
    rng = np.random.default_rng(0)
    groups = grouping(categories(race=[0, 1, 2]), "race")
    exact, mine = np.array([700.0, 250.0, 50.0]), np.array([720, 240, 40])
    truth = np.log(mine / mine.sum()) - np.log(exact / exact.sum())
    held = np.zeros(3)
    for _ in range(300):
        noisy = np.round(exact + rng.normal(0, 8, 3))
        table = ReleasedCounts(("race",), noisy, 8.0, mine, ("race0", "race1", "race2"))
        found = Results(released_shares([table], [groups], TERMS))
        assert [result.group for result in found] == ["race=race0", "race=race1", "race=race2"]
        assert all(result.disclosure is Disclosure.PUBLIC for result in found)
        ends = [result.interval for result in found]
        held += [end is not None and end.low <= value <= end.high for end, value in zip(ends, truth, strict=True)]
    assert (held / 300 >= 0.89).all()


def test_a_released_count_within_its_noise_says_nothing_of_a_share() -> None:
    """Nor does a table of other columns, or one whose cells have no names."""
    groups = grouping(categories(race=[0, 1, 2]), "race")
    counts = np.array([700, 250, 15])
    table = ReleasedCounts(("race",), counts, 10.0, counts, ("race0", "race1", "race2"))
    found = Results(released_shares([table], [groups], TERMS))
    assert found.one("representation", group="race=race2").status is Status.NOT_ESTIMABLE
    assert released_shares([ReleasedCounts(("race",), counts, 10.0, counts)], [groups], TERMS) == []
    assert released_shares([ReleasedCounts(("sex",), counts, 10.0, counts, table.labels)], [groups], TERMS) == []


def test_worst_group_and_gap_by_hand() -> None:
    """The least AUROC of the groups, and the greatest less the least; scikit-learn's AUROC."""
    one = judged(patients(), harm=1.0)
    found = Results(gap_results(one))
    truth, codes = one.exam.truth, one.exam.test["g"].values
    for arm in ("real", "synthetic"):
        risks = one.trained[arm].predictions[0].scores
        each = [metrics.roc_auc_score(truth[codes == code], risks[codes == code]) for code in (0, 1)]
        assert found.one("worst_group", arm=arm).number == pytest.approx(min(each))
        assert found.one("gap", arm=arm).number == pytest.approx(max(each) - min(each))
    assert found.one("worst_group", arm="synthetic").detail["worst"] == "g=b"


@pytest.mark.parametrize("target", ["age", "stage"])
def test_groups_of_a_number_and_of_several_classes_are_scored_by_hand(target: str) -> None:
    """R² and macro AUROC among the group's rows, as for all patients, by scikit-learn; a change below 0 is a loss."""
    rng = np.random.default_rng(4)
    table = tables({"x": ward(300)})["x"]
    exam = Exam(task_of(table, target), table, (), TERMS)
    truth = exam.truth
    good = truth + rng.normal(0, 1, 300) if target == "age" else np.where(rng.random(300) < 0.9, truth, 0)
    bad = truth + rng.normal(0, 9, 300) if target == "age" else np.where(rng.random(300) < 0.3, truth, 0)
    risks = [each if target == "age" else np.eye(3)[each] for each in (good, bad)]
    said = [Prediction(risk, each) for risk, each in zip(risks, (good, bad), strict=True)]
    trained = [Trained(arm, "gb", (each,), 1) for arm, each in zip(("real", "synthetic"), said, strict=True)]
    one = judge(grouping(table, "sex"), trained, exam, "gb")
    results = Results([*group_results(one), *change_results(one)])
    women = table["sex"].values == 0
    score = metrics.r2_score if target == "age" else partial(metrics.roc_auc_score, multi_class="ovr")
    by_hand = [score(truth[women], risk[women]) for risk in risks]
    metric = "group_r2" if target == "age" else "group_auroc"
    for arm, expected in zip(("real", "synthetic"), by_hand, strict=True):
        assert results.one(metric, arm=arm, group="sex=f").number == pytest.approx(expected)
    assert results.one("group_change", group="sex=f").number == pytest.approx(by_hand[1] - by_hand[0])
    assert by_hand[1] < by_hand[0]


def test_a_group_of_one_class_is_not_called_good_for_guessing_it() -> None:
    """Where 94 % have one class, a guesser of it is right in 94 % of each group: its macro AUROC is .5 all the same."""
    rng = np.random.default_rng(3)
    data = frame(900).assign(stage=rng.choice(["one", "two", "three"], 900, p=[0.94, 0.03, 0.03]))
    table = tables({"x": cohort(data)})["x"]
    exam = Exam(task_of(table, "stage"), table, (), TERMS)
    guesser = Prediction(np.tile([0.94, 0.03, 0.03], (900, 1)), np.zeros(900, dtype=np.int64))
    trained = [Trained(arm, "gb", (guesser,), 1) for arm in ("real", "synthetic")]
    results = Results([*group_results(judge(grouping(table, "sex"), trained, exam, "gb"))])
    for one in results.select("group_accuracy"):
        assert one.number > 0.9
    estimable = [result for result in results.select("group_auroc") if result.ok]
    assert estimable
    assert all(result.number == 0.5 for result in estimable)


def test_the_slope_is_that_of_least_squares() -> None:
    """Numpy's polyfit on the logarithms, 0.5 added to each count."""
    real, synthetic = np.array([500.0, 90.0, 12.0, 0.0]), np.array([480.0, 110.0, 5.0, 4.0])
    sides = real + 0.5, synthetic + 0.5
    ratio = np.log(sides[1] / sides[1].sum()) - np.log(sides[0] / sides[0].sum())
    assert slope(real, synthetic) == pytest.approx(np.polyfit(np.log(sides[0]), ratio, 1)[0])


def test_the_permutation_keeps_groups_and_outcomes_and_moves_whole_patients() -> None:
    """In every shuffle each group has as many patients of each outcome; rows of a patient stay together."""
    rng = np.random.default_rng(5)
    owner = np.repeat(np.arange(60), 2)
    codes, strata = rng.integers(0, 3, 60)[owner], rng.integers(0, 2, 60)[owner]
    for shuffled in _shuffles(codes, strata, owner, 20, 0):
        assert (shuffled[::2] == shuffled[1::2]).all()
        for outcome in (0, 1):
            counts = [np.bincount(one[strata == outcome], minlength=3).tolist() for one in (codes, shuffled)]
            assert counts[0] == counts[1]


def test_the_largest_gap_of_equal_groups_is_rarely_called_one() -> None:
    """Of 40 cohorts without any harm at most 12 have a permutation p below 0.05 (by chance more has p < 1e-6)."""
    found = [Results(change_results(judged(patients(200, seed), seed=seed))) for seed in range(40)]
    assert sum(one.one("largest_did").detail["p_permutation"] < 0.05 for one in found) <= 12
