"""Key discovery: what only one patient has stays in, with the probability that was paid for."""

import itertools

import numpy as np
import pytest
from scipy.stats import binom, norm

from dpsynth.coding.codec import Codec
from dpsynth.cohort import Cohort
from dpsynth.errors import BudgetExceeded, InputError
from dpsynth.privacy.answers import PrivateAnswers
from dpsynth.privacy.mechanisms import SystemNoise
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.tables.discovery import key_threshold
from dpsynth.privacy.training.patients import of_rows
from dpsynth.schema import Schema

from .helpers import FALSE_ALARM, Recorder, ward, ward_frame, ward_schema


def partitions(total: int, largest: int) -> list[list[int]]:
    """Return every way to write total as a sum of positive integers."""
    if total == 0:
        return [[]]
    return [[n, *rest] for n in range(min(total, largest), 0, -1) for rest in partitions(total - n, n)]


@pytest.mark.parametrize("cap", [1, 3, 8])
@pytest.mark.parametrize("sigma", [0.5, 5.0, 40.0])
@pytest.mark.parametrize("delta", [1e-12, 1e-6, 1e-3])
def test_a_patient_alone_with_some_keys_is_seen_with_at_most_delta(cap: int, sigma: float, delta: float) -> None:
    """However the rows of a patient are spread over keys of their own, some key is released with probability <= delta.

    A key with count c is released if round(c + noise) reaches the threshold, so if c + noise reaches it less 1/2.
    """
    threshold = key_threshold(cap, sigma, delta)
    worst = 0.0
    for rows in range(1, cap + 1):
        for counts in partitions(rows, rows):
            missed = np.prod(norm.cdf((threshold - 0.5 - np.array(counts)) / sigma))
            worst = max(worst, 1 - missed)
    assert worst <= delta
    assert key_threshold(cap, sigma, 2 * delta) <= threshold


def test_the_threshold_is_not_wasteful() -> None:
    """Two less than the threshold would break delta for a patient with one row."""
    threshold = key_threshold(1, 40.0, 1e-6)
    assert norm.sf((threshold - 2.5 - 1) / 40.0) > 1e-6


def test_a_lone_key_is_released_as_often_as_derived() -> None:
    """At delta 0.05 a key of one patient is released in at most 5 % of 4,000 draws, and in more than 4 %."""
    n, delta, sigma = 4000, 0.05, 20.0
    noisy = SystemNoise().gaussian(np.ones(n, dtype=np.int64), sigma)
    released = int((noisy >= key_threshold(1, sigma, delta)).sum())
    assert released <= binom.isf(FALSE_ALARM, n, delta)
    assert released >= binom.ppf(FALSE_ALARM, n, delta * 0.94)


@pytest.mark.parametrize("cap", [1, 3])
def test_common_keys_are_found_sorted_and_limited(cap: int) -> None:
    """The three largest of four values are found, in the order of their names, and the codec knows them."""
    session = Session.open(ward(8000, cap=cap, discover=True), Budget(3, 1e-6))
    assert session.to_discover == ["dx"]
    assert session.discover("dx", session.rho / 4) == ["flu", "gout", "mumps"]
    assert session.to_discover == []
    assert session.codec.columns["dx"].size >= 3


def test_the_noise_and_threshold_are_those_that_were_paid_for() -> None:
    """The recorded noise is cap / sqrt(2 rho); a lone key is not released; the event carries its delta."""
    frame = ward_frame(900, per_patient=3, discover=True)
    frame.loc[[0, 1, 2], "dx"] = "a key that only one patient has"
    cohort = Cohort.from_pandas(frame, ward_schema(cap=3, discover=True), public=True)
    recorder = Recorder()
    session = Session.open(cohort, Budget(3, 1e-6), answers=PrivateAnswers(cohort, 3, recorder))
    found = session.discover("dx", session.rho / 2)
    assert recorder.sigmas == [pytest.approx(3 / np.sqrt(session.rho))]
    assert "a key that only one patient has" not in found
    assert session.events[0].delta == pytest.approx(5e-7)
    assert session.events[0].sensitivity == 3


def test_a_value_that_is_missing_is_no_key() -> None:
    """Missing values are not counted, so a patient touches at most cap keys."""
    frame = ward_frame(300, discover=True)
    frame.loc[::2, "dx"] = None
    facts = ward_schema(discover=True).model_dump(mode="json", exclude_unset=True)
    facts["columns"]["dx"]["missing"] = True
    cohort = Cohort.from_pandas(frame, ward_schema(discover=True).parse(facts), public=True)
    recorder = Recorder()
    Session.open(cohort, Budget(3, 1e-6), answers=PrivateAnswers(cohort, 1, recorder)).discover("dx", 0.01)
    assert recorder.before[0].sum() == 150


def test_counting_before_discovery_says_what_to_do() -> None:
    """Other columns can be counted before; the pending one is refused by name."""
    from dpsynth.coding.query import Query

    session = Session.open(ward(discover=True), Budget(1, 1e-6))
    session.count([Query(("sex",), (np.arange(2),))], [session.rho / 10])
    with pytest.raises(InputError, match="'dx' is still to be discovered"):
        session.count([Query(("dx",), (np.arange(2),))], [session.rho / 10])


def test_delta_is_shared_and_cannot_be_overspent() -> None:
    """More delta than the reserved half is refused before anything is read; so is a second discovery."""
    session = Session.open(ward(3000, discover=True), Budget(1, 1e-6))
    with pytest.raises(BudgetExceeded, match="delta"):
        session.discover("dx", session.rho / 4, delta=6e-7)
    assert session.rho_left == session.rho
    session.discover("dx", session.rho / 4)
    for column in ("dx", "sex"):
        with pytest.raises(InputError, match="discover"):
            session.discover(column, session.rho / 4)


def test_ties_do_not_follow_the_rows() -> None:
    """Among equal noisy counts the order of rows decides nothing: shuffled rows give the same values."""
    frame = ward_frame(400, discover=True)
    frame["dx"] = list(itertools.islice(itertools.cycle(["b", "d", "a", "c"]), 400))
    found = []
    for seed in (1, 2):
        shuffled = frame.sample(frac=1, random_state=seed)
        cohort = Cohort.from_pandas(shuffled, ward_schema(discover=True), public=True)
        session = Session.open(cohort, Budget(3, 1e-6), answers=PrivateAnswers(cohort, 1, Recorder()))
        found.append(session.discover("dx", session.rho / 2))
    assert found == [["a", "b", "c"]] * 2


def test_the_noisy_count_decides_and_not_the_exact_one() -> None:
    """With noise that takes a million from every count, no value is released, however frequent it is."""

    class Taking(Recorder):
        def gaussian(self, values: np.ndarray, sigma: float) -> np.ndarray:
            return super().gaussian(values, sigma) - 10**6  # type: ignore[no-any-return]

    cohort = ward(400, discover=True)
    session = Session.open(cohort, Budget(3, 1e-6), answers=PrivateAnswers(cohort, 1, Taking()))
    assert session.discover("dx", session.rho / 2) == []


def discovered_first() -> tuple[Cohort, PrivateAnswers, Session]:
    """Return a session after discovery of a column that stands before the others."""
    facts = ward_schema(discover=True).model_dump(mode="json", exclude_unset=True)
    facts["columns"] = {"dx": facts["columns"].pop("dx"), **facts["columns"]}
    cohort = Cohort.from_pandas(ward_frame(400, discover=True), Schema.parse(facts), public=True)
    answers = PrivateAnswers(cohort, 1, Recorder())
    session = Session.open(cohort, Budget(3, 1e-6), answers=answers)
    session.discover("dx", session.rho / 2)
    return cohort, answers, session


def test_a_batch_has_its_columns_in_the_order_of_the_codec() -> None:
    """A column that was discovered stands in a training's batch where the codec has it, not behind the others."""
    cohort, answers, session = discovered_first()
    codes = of_rows(next(iter(answers._parts))).batch(np.arange(400))["codes"][:, 0].numpy()
    expected = session.codec.encode(cohort, list(session.codec.columns))
    assert next(iter(session.codec.columns)) == "dx"
    for place, name in enumerate(session.codec.columns):
        assert np.array_equal(codes[:, place], expected[name]), name


def test_found_values_do_not_leave_in_the_order_of_the_rows() -> None:
    """What a checkpoint would keep of a discovery is the same, to its order, when the rows are shuffled."""
    frame = ward_frame(400, discover=True)
    found = []
    for seed in range(4):
        cohort = Cohort.from_pandas(frame.sample(frac=1, random_state=seed), ward_schema(discover=True), public=True)
        answers = PrivateAnswers(cohort, 1, Recorder())
        answers.use(Codec(cohort.schema))
        found.append(answers.keys("dx", 1.0, 1))
    assert found == [found[0]] * 4
    assert [value for value, _ in found[0]] == ["flu", "gout", "mumps", "yaws"]
