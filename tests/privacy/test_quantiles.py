"""Quantiles from a noisy tree."""

import numpy as np
import pytest

from dpsynth.errors import InputError
from dpsynth.privacy.mechanisms import SystemNoise
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.tables.counting import contingency
from dpsynth.privacy.tables.quantiles import _consistent, boundaries, tree_queries

from .helpers import ward


@pytest.mark.parametrize("ordered", [2, 3, 5, 8, 37, 64])
@pytest.mark.parametrize("states", [0, 2])
def test_every_level_counts_every_ordered_row_once(ordered: int, states: int) -> None:
    """Each level is a partition: its cells without the last (other states) sum to the rows that have an order."""
    codes = {"x": np.random.default_rng(0).integers(0, ordered + states, 999).astype(np.uint8)}
    queries = tree_queries("x", ordered + states, ordered)
    levels = contingency(codes, 999, queries)
    inside = (codes["x"] < ordered).sum()
    assert len(levels) == int(np.ceil(np.log2(ordered))) + 1
    for level, query in zip(levels, queries, strict=True):
        assert level[: query.shape[0] - (states > 0)].sum() == inside


@pytest.mark.parametrize("ordered", [2, 5, 37, 64])
def test_without_noise_the_boundaries_are_the_nearest_to_the_quantiles(ordered: int) -> None:
    """Exact levels give the boundaries whose share of the rows is nearest to 1/4, 2/4, 3/4."""
    codes = np.random.default_rng(1).binomial(ordered - 1, 0.3, 2000).astype(np.uint8)
    levels = contingency({"x": codes}, 2000, tree_queries("x", ordered + 1, ordered))
    below = np.array([(codes < b).sum() for b in range(ordered + 1)]) / 2000
    nearest = {int(np.abs(below - q).argmin()) for q in (0.25, 0.5, 0.75)}
    assert boundaries(levels, ordered, 3).tolist() == sorted(nearest - {0, ordered})


def test_the_leaves_are_the_least_squares_solution() -> None:
    """The two passes over the tree agree with a direct least-squares fit to all levels."""
    rng = np.random.default_rng(2)
    tree = [rng.normal(10, 5, 8 >> level) for level in range(4)]
    rows = [np.kron(np.eye(8 >> level), np.ones(1 << level)) for level in range(4)]
    fitted = np.linalg.lstsq(np.concatenate(rows), np.concatenate(tree), rcond=None)[0]
    assert _consistent(tree) == pytest.approx(fitted)


def test_noisy_quantiles_are_close_at_common_budgets() -> None:
    """With 5,000 rows and a tenth of epsilon 1 the quartiles' shares are within 0.05 (false alarm far below 1e-6)."""
    cohort = ward(5000)
    session = Session.open(cohort, Budget(1, 1e-6), answers=None)
    edges = session.quantiles("age", 3, session.rho / 10)
    codes = session.codec.encode(cohort)["age"]
    ordered = codes[codes < session.codec.columns["age"].ordered]
    assert [float((ordered < e).mean()) for e in edges] == pytest.approx([0.25, 0.5, 0.75], abs=0.05)
    assert session.rho - session.rho_left == pytest.approx(session.rho / 10)


@pytest.mark.parametrize("ordered", [2, 37])
def test_nothing_but_noise_still_gives_boundaries_in_range(ordered: int) -> None:
    """An empty column under heavy noise gives increasing boundaries inside the grid, or none."""
    for _ in range(20):
        levels = [
            SystemNoise().gaussian(np.zeros(q.shape, dtype=np.int64), 50.0) for q in tree_queries("x", ordered, ordered)
        ]
        edges = boundaries(levels, ordered, 5)
        assert (np.diff(edges) > 0).all()
        assert all(0 < e < ordered for e in edges)


@pytest.mark.parametrize(("column", "k"), [("sex", 3), ("nobody", 3), ("age", 0)])
def test_a_column_without_order_is_refused(column: str, k: int) -> None:
    """Quantiles of a nominal or unknown column, or none of them, end with a message and cost nothing."""
    session = Session.open(ward(), Budget(1, 1e-6))
    with pytest.raises(InputError, match="quantiles"):
        session.quantiles(column, k, 0.001)
    assert session.rho_left == session.rho
