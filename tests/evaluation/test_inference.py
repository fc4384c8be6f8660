import numpy as np
import pytest

from dpsynth.errors import InputError
from dpsynth.evaluation.arrays.table import Table, tables
from dpsynth.evaluation.metrics.inference import Regression, default_regression, inference, overlap
from dpsynth.evaluation.metrics.released import ReleasedCounts, count_intervals, released_results
from dpsynth.evaluation.protocol import Protocol
from dpsynth.evaluation.result import Disclosure, Interval, Status
from dpsynth.evaluation.results import Results

from .helpers import cohort, frame, schema, ward

TERMS = Protocol()


def both(real: int = 500, synthetic: int = 500, effect: float = 1.0) -> tuple[Table, Table]:
    """Return real patients and a cohort whose effect differs."""
    found = tables({"real": ward(real), "synthetic": ward(synthetic, seed=1, effect=effect)})
    return found["real"], found["synthetic"]


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [((0, 2), (0, 2), 1.0), ((0, 2), (1, 3), 0.5), ((0, 2), (3, 4), 0.0), ((0, 4), (1, 2), 0.625)],
)
def test_interval_overlap_by_hand(one: tuple[float, float], two: tuple[float, float], expected: float) -> None:
    """The mean of the shares of each interval that lies in both."""
    assert overlap(Interval(*one), Interval(*two)) == pytest.approx(expected)


def test_the_default_regression_is_a_public_rule() -> None:
    """The schema's target on its subgroups and the columns that are never missing."""
    assert default_regression(schema()) == Regression("died", ("sex", "race", "age", "stage"))
    assert default_regression(schema("{name: w, columns: {a: {type: numeric, min: 0, max: 1}}}")) is None


def test_two_samples_of_one_population_agree() -> None:
    """Signs agree, intervals overlap well, and the gap is about what chance gives."""
    results = Results(
        inference(
            *(both(2000, 2000)[k] for k in (0,)), [both(2000, 2000)[1]], Regression("died", ("age", "sex")), TERMS
        )
    )
    assert results.one("sign_agreement").number == 1
    assert results.one("interval_overlap").number > 0.4
    assert results.one("standardised_difference").number < 3


def test_a_reversed_effect_is_seen() -> None:
    """The coefficient of age changes its sign."""
    real, synthetic = both(1500, 1500, effect=-1.0)
    results = Results(inference(real, [synthetic], Regression("died", ("age",)), TERMS))
    assert results.one("sign_agreement").number == 0
    assert results.one("interval_overlap").number == 0


def test_a_category_that_the_cohort_lacks_is_not_estimable_there_and_is_elsewhere() -> None:
    """The other coefficients stand."""
    data = frame(500, seed=1)
    data.loc[data["stage"] == "three", "stage"] = "one"
    found = tables({"real": ward(500), "synthetic": cohort(data)})
    results = Results(inference(found["real"], [found["synthetic"]], Regression("died", ("stage", "age")), TERMS))
    lost = results.one("coefficient", arm="synthetic", subject="stage: three")
    assert lost.status is Status.NOT_ESTIMABLE
    assert results.one("coefficient", arm="real", subject="stage: three").ok
    assert results.one("coefficient", arm="synthetic", subject="stage: two").ok
    assert results.one("interval_overlap").n == 2


def test_a_number_is_regressed_linearly() -> None:
    """Age on sex: the coefficient is the difference of means."""
    real, synthetic = both()
    results = Results(inference(real, [synthetic], Regression("age", ("sex",)), TERMS))
    ages, sexes = real["age"].values, real["sex"].values
    expected = ages[sexes == 1].mean() - ages[sexes == 0].mean()
    assert results.one("coefficient", arm="real").number == pytest.approx(expected)


def test_a_constant_outcome_gives_reasons_and_no_numbers() -> None:
    """Where all synthetic patients died nothing can be compared, and each result says so."""
    data = frame(300, seed=1).assign(died=1)
    found = tables({"real": ward(300), "synthetic": cohort(data)})
    results = Results(inference(found["real"], [found["synthetic"]], Regression("died", ("age",)), TERMS))
    assert {result.status for result in results.select(arm="synthetic")} == {Status.NOT_ESTIMABLE}
    assert results.one("coefficient", arm="real").ok


@pytest.mark.parametrize("regression", [Regression("died", ("shoe",)), Regression("race", ("age",))])
def test_a_regression_that_cannot_be_is_refused(regression: Regression) -> None:
    """An unknown column, or an outcome of three classes."""
    real, synthetic = both()
    with pytest.raises(InputError, match="regression"):
        inference(real, [synthetic], regression, TERMS)


def test_noise_aware_intervals_cover_the_exact_count() -> None:
    """Of 20,000 noisy counts 95 % have the exact one in their interval, within 5 standard errors."""
    rng = np.random.default_rng(0)
    exact = rng.integers(200, 400, 20_000)
    noisy = exact + np.rint(rng.normal(0, 25, 20_000)).astype(int)
    low, high = count_intervals(noisy, 25.0)
    share = np.mean((low <= exact) & (exact <= high))
    assert abs(share - 0.95) < 5 * np.sqrt(0.95 * 0.05 / 20_000)


def test_population_intervals_cover_the_expected_count_and_plain_ones_do_not() -> None:
    """With sampling as large as the noise, leaving it out loses coverage (0.83 in place of 0.95)."""
    rng = np.random.default_rng(1)
    noisy = rng.poisson(400, 20_000) + np.rint(rng.normal(0, 20, 20_000)).astype(int)
    inside = []
    for population in (True, False):
        low, high = count_intervals(noisy, 20.0, population=population)
        inside.append(float(np.mean((low <= 400) & (high >= 400))))
    assert inside[0] == pytest.approx(0.95, abs=0.01)
    assert inside[1] < 0.87


def test_count_intervals_are_never_below_zero() -> None:
    """A noisy count of -30 has the interval [0, 0] at sigma 5."""
    low, high = count_intervals(np.array([-30, 3]), 5.0)
    assert low.tolist() == [0, 0]
    assert high[0] == 0
    assert high[1] > 3


def test_released_counts_are_public_and_bound_the_distance_to_the_patients() -> None:
    """In 300 releases the bound is below the true TVD in at most 6 % (it may fail in 2 %; more has p < 1e-4)."""
    rng, fails = np.random.default_rng(2), 0
    shares = np.array([0.5, 0.2, 0.2, 0.05, 0.05])
    for _ in range(300):
        exact = rng.multinomial(2000, shares)
        synthetic = rng.multinomial(2000, [0.45, 0.25, 0.2, 0.05, 0.05])
        noisy = exact + np.rint(rng.normal(0, 15, 5)).astype(int)
        results = Results(released_results([ReleasedCounts(("x",), noisy, 15.0, synthetic)], TERMS))
        found = results.one("released_tvd")
        assert {result.disclosure for result in results} == {Disclosure.PUBLIC}
        fails += found.detail["at_most"] < 0.5 * np.abs(exact / 2000 - synthetic / 2000).sum()
    assert fails <= 18


def test_released_counts_without_any_patient_are_not_estimable() -> None:
    """Noise that adds up to nothing or less has no shares."""
    results = released_results([ReleasedCounts(("x",), np.array([-3, 1]), 5.0, np.array([1, 2]))], TERMS)
    assert {result.status for result in results} == {Status.NOT_ESTIMABLE}


def test_released_counts_are_compared_by_hand() -> None:
    """Counts 60, 40 and cohort 30, 70: TVD 0.3; 30 apart is within 1.96 times sigma 20, not within that of 5."""
    for sigma, inside in ((20.0, 1.0), (5.0, 0.0)):
        table = ReleasedCounts(("x",), np.array([60, 40]), sigma, np.array([30, 70]))
        found = Results(released_results([table], Protocol()))
        assert found.one("released_tvd").number == pytest.approx(0.3)
        assert found.one("within_noise").number == inside
