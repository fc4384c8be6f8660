"""What the joint model tells apart: exactly what was asked."""

import numpy as np
import pytest
from mechanism_cases import cohort_of, fitted

from dpsynth.models.tabular.marginals.states import States, joined


@pytest.mark.parametrize("seed", range(20))
def test_bins_are_apart_where_one_of_two_groupings_tells_them_apart(seed: int) -> None:
    """And together where neither does; the states are numbered without gaps."""
    rng = np.random.default_rng(seed)
    size, most = rng.integers(1, 30), rng.integers(1, 6)
    one, two = (np.unique(rng.integers(0, most, size), return_inverse=True)[1] for _ in range(2))
    states = joined(one, two)
    together = (one[:, None] == one) & (two[:, None] == two)
    np.testing.assert_array_equal(states[:, None] == states, together)
    assert set(states) == set(range(states.max() + 1))


def test_columns_that_nobody_asked_about_have_one_state() -> None:
    """Groups of one table are told apart, those of another are added."""
    states = States({"a": np.zeros(6, np.int64), "b": np.zeros(2, np.int64)})
    more = states.telling({"a": np.array([0, 0, 0, 1, 1, 1])}, {"a": np.array([0, 0, 1, 1, 2, 2])})
    assert states.domain == {"a": 1, "b": 1}
    assert more.domain == {"a": 4, "b": 1}


def test_a_strong_association_gets_more_states_than_a_faint_one() -> None:
    """60,000 rows at epsilon 10: two numbers that follow each other closely, and one that goes with nothing."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, 60, 60_000)
    frame = {"a": first, "b": (first + rng.integers(0, 3, 60_000)) % 62, "c": rng.integers(0, 60, 60_000)}
    columns = {name: {"type": "numeric", "min": 0, "max": 61} for name in frame}
    _, model = fitted("prism", cohort_of(columns, frame), 10.0)
    sizes = model.bins.shape
    assert min(sizes["a"], sizes["b"]) > 16 >= sizes["c"]
    drawn = model.sample(20_000, seed=1).to_pandas()
    assert np.corrcoef(drawn["a"], drawn["b"])[0, 1] > 0.9
