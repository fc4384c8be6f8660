"""Junction trees: they hold what they were built for and nothing that inference could not use."""

from itertools import combinations
from math import prod

import pytest
from graphical_cases import structures, trees
from hypothesis import given

from dpsynth.models.tabular.graphical.junction_tree import JunctionTree, build, cells

Structure = tuple[dict[str, int], list[tuple[str, ...]]]


@given(structures())
def test_every_wanted_clique_is_inside_one_of_the_tree(structure: Structure) -> None:
    """What is to be measured together stands together, and every column stands somewhere."""
    domain, wanted = structure
    tree = build(domain, wanted)
    for columns in [*wanted, *((c,) for c in domain)]:
        home = tree.home(columns)
        assert home is not None
        assert set(columns) <= set(tree.cliques[home])


@given(trees())
def test_the_cliques_of_a_column_are_connected(tree: JunctionTree) -> None:
    """Running intersection: of all cliques that hold a column exactly one has a parent that does not."""
    for column in tree.domain:
        tops = [
            i
            for i, clique in enumerate(tree.cliques)
            if column in clique and (tree.parents[i] < 0 or column not in tree.cliques[tree.parents[i]])
        ]
        assert len(tops) == 1


@given(trees())
def test_no_clique_is_inside_another(tree: JunctionTree) -> None:
    """Cliques are maximal: no table is kept twice."""
    for a, b in combinations(map(set, tree.cliques), 2):
        assert not a <= b
        assert not b <= a


@given(trees())
def test_parents_come_before_children_and_columns_in_domain_order(tree: JunctionTree) -> None:
    """There is one root, first; messages can go up by going backwards; tables have their axes in domain order."""
    assert tree.parents[0] == -1
    assert all(0 <= parent < i for i, parent in enumerate(tree.parents) if i)
    order = list(tree.domain)
    assert all(list(clique) == sorted(clique, key=order.index) for clique in tree.cliques)


@given(trees())
def test_separators_are_what_a_clique_shares_with_its_parent(tree: JunctionTree) -> None:
    """In clique order; empty for the root and between unconnected parts."""
    for i, separator in enumerate(tree.separators):
        parent = set(tree.cliques[tree.parents[i]]) if i else set()
        assert separator == tuple(c for c in tree.cliques[i] if c in parent)


@given(structures())
def test_cells_are_counted_without_joining(structure: Structure) -> None:
    """`cells` says what `build` will need; a mechanism asks it thousands of times."""
    domain, wanted = structure
    tree = build(domain, wanted)
    assert cells(domain, wanted) == tree.cells == sum(prod(domain[c] for c in clique) for clique in tree.cliques)


@given(trees())
def test_home_is_the_smallest_clique_that_holds_the_columns(tree: JunctionTree) -> None:
    """The work on a measurement is done in the smallest table; None where no clique holds the columns."""
    for columns in (c for size in (1, 2, 3) for c in combinations(tree.domain, size)):
        sizes = [prod(tree.domain[c] for c in clique) for clique in tree.cliques if set(columns) <= set(clique)]
        home = tree.home(columns)
        assert (home is None) == (not sizes)
        assert home is None or prod(tree.domain[c] for c in tree.cliques[home]) == min(sizes)


def test_a_chain_stays_a_chain() -> None:
    """A tree of pairs is not made wider: 50 columns in a chain have 49 cliques of two."""
    domain = {f"c{i}": 3 for i in range(50)}
    tree = build(domain, [(f"c{i}", f"c{i + 1}") for i in range(49)])
    assert tree.cells == 49 * 9
    assert {len(clique) for clique in tree.cliques} == {2}


def test_a_cycle_is_triangulated() -> None:
    """A cycle of five columns of size 2 needs three cliques of three, and no more."""
    domain = dict.fromkeys("abcde", 2)
    tree = build(domain, [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("a", "e")])
    assert sorted(len(clique) for clique in tree.cliques) == [3, 3, 3]


def test_large_columns_are_kept_out_of_large_cliques() -> None:
    """The elimination order looks at cells: in a cycle the chord avoids the column with 1,000 states."""
    domain = {"a": 1000, "b": 2, "c": 2, "d": 2}
    assert cells(domain, [("a", "b"), ("b", "c"), ("c", "d"), ("a", "d")]) == 1000 * 4 + 8


@pytest.mark.parametrize("size", [1, 10_000])
def test_a_single_column_is_a_tree(size: int) -> None:
    """One column without any clique, constant or with 10,000 states, is one clique."""
    tree = build({"only": size}, [])
    assert (tree.cliques, tree.parents, tree.separators, tree.cells) == ((("only",),), (-1,), ((),), size)


def test_unconnected_columns_are_joined_by_empty_separators() -> None:
    """Columns that nothing connects are a forest, written as one tree."""
    tree = build(dict.fromkeys("abc", 2), [])
    assert sorted(tree.cliques) == [("a",), ("b",), ("c",)]
    assert tree.separators == ((), (), ())
