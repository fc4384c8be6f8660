"""Counting: exact, whichever way is faster."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpsynth.coding.query import Query
from dpsynth.errors import InputError
from dpsynth.privacy.tables import counting
from dpsynth.privacy.tables.counting import contingency


def by_hand(codes: dict[str, np.ndarray], rows: int, query: Query) -> np.ndarray:
    """Count with a plain loop over rows."""
    table = np.zeros(query.shape, dtype=np.int64)
    for row in range(rows):
        table[tuple(m[codes[c][row]] for c, m in zip(query.columns, query.maps, strict=True))] += 1
    return table


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_every_marginal_equals_a_plain_loop(data: st.DataObject) -> None:
    """Marginals of 0 to 3 columns, with coarse and fine maps, over 0 to 50 rows."""
    rows = data.draw(st.integers(0, 50))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    sizes = {"a": 2, "b": 5, "c": 7}
    codes = {c: rng.integers(0, size, rows).astype(np.uint8) for c, size in sizes.items()}
    queries = []
    for columns in data.draw(st.lists(st.lists(st.sampled_from("abc"), max_size=3, unique=True), max_size=6)):
        maps = tuple(rng.integers(0, data.draw(st.integers(1, sizes[c])), sizes[c]) for c in columns)
        queries.append(Query(tuple(columns), maps))
    tables = contingency(codes, rows, queries)
    for query, table in zip(queries, tables, strict=True):
        assert table.dtype == np.int64
        assert (table == by_hand(codes, rows, query)).all()


@pytest.mark.parametrize("rows", [0, 1, counting.CHUNK // 4, 3 * counting.CHUNK + 17])
def test_the_matrix_product_and_bincount_agree(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All pairs of eight columns are the same from both, also when rows end amid a chunk."""
    rng = np.random.default_rng(0)
    codes = {f"c{i}": rng.integers(0, 6, rows).astype(np.uint8) for i in range(8)}
    queries = [Query(p, (np.arange(6) // 2, np.arange(6) // 2)) for p in itertools.permutations(codes, 2)]
    monkeypatch.setattr(counting, "GRAM_RATIO", 10**9)
    product = contingency(codes, rows, queries)
    monkeypatch.setattr(counting, "GRAM_RATIO", 0)
    monkeypatch.setattr(counting, "_gram", None)
    counted = contingency(codes, rows, queries)
    assert all((p == c).all() for p, c in zip(product, counted, strict=True))
    assert all(p.sum() == rows for p in product)


def test_a_table_larger_than_a_chunk_is_exact() -> None:
    """A marginal with more cells than rows in a chunk takes the other path and counts every row."""
    rows = counting.CHUNK + 5
    codes = {c: np.arange(rows, dtype=np.uint16) % 200 for c in "ab"}
    query = Query(("a", "b"), (np.arange(200), np.arange(200)))
    table = contingency(codes, rows, [query])[0]
    assert table.sum() == rows == np.trace(table)


def test_answers_do_not_share_memory() -> None:
    """Changing one answer to a repeated query leaves the other."""
    query = Query(("a",), (np.arange(2),))
    one, two = contingency({"a": np.array([0, 1, 1], dtype=np.uint8)}, 3, [query, query])
    one[0] = 99
    assert two.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("columns", "maps"),
    [
        (("a",), ()),
        (("a", "a"), (np.arange(2), np.arange(2))),
        (("a",), (np.array([-1, 0]),)),
        (("a",), (np.array([], dtype=np.int64),)),
        (("a",), (np.array([[0, 1]]),)),
        (("a",), (np.array([0.0, 1.0]),)),
        (("a", "b"), (np.arange(2**14), np.arange(2**14))),
    ],
)
def test_a_query_that_is_none_is_refused(columns: tuple[str, ...], maps: tuple[np.ndarray, ...]) -> None:
    """Maps that do not fit columns, negative or fractional codes, and huge tables end with a message."""
    with pytest.raises(InputError, match="query"):
        Query(columns, maps)
