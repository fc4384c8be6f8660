"""Which pairs the junction tree can hold, and how finely: memory and time are the budget here, no privacy."""

from collections.abc import Callable, Mapping, Sequence

from dpsynth.models.tabular.graphical import junction_tree
from dpsynth.models.tabular.marginals.interactions import Codes, Interaction, Pair, Resolution
from dpsynth.models.tabular.marginals.stage import Stage

PATIENCE = 3
"""Candidates in a row that may be too large for the junction tree, as a multiple of the number of columns."""


class Room:
    """What a junction tree of so many cells holds beside what it must.

    Parameters
    ----------
    stage
        Columns, and the tables that the model must hold.
    cells
        Size limit of the junction tree, in cells.
    """

    def __init__(self, stage: Stage, cells: int) -> None:
        self._stage = stage
        self._cells = cells
        self._cliques: list[tuple[str, ...]] = [tuple(columns) for columns in stage.must]
        self._states = stage.states
        self._refused = 0

    def take(self, interactions: Sequence[Interaction]) -> None:
        """Hold tables whatever they need."""
        self._states = self._states.telling(*(interaction.telling for interaction in interactions))
        self._cliques += [interaction.pair for interaction in interactions]
        self._refused = 0

    def holds(self, interaction: Interaction) -> bool:
        """Hold a table if there is room; always False once a long row of candidates was refused."""
        return self._try(interaction.pair, interaction.telling)

    def tells(self, interaction: Interaction) -> bool:
        """Tell the groups of a table apart, if there is room for the states that it takes; the table is not held."""
        states = self._states.telling(interaction.telling)
        grown = states.domain != self._states.domain
        if grown and junction_tree.cells(states.domain, self._cliques) > self._cells:
            return False
        self._states = states
        return True

    def fitting_triples(
        self,
        wanted: Mapping[tuple[str, ...], Mapping[str, Codes]],
        cells: float,
        small: Callable[[Mapping[str, int], tuple[str, ...], str | None], bool],
    ) -> list[tuple[str, ...]]:
        """Choose triples to refine, best first, that fit beside what is held; they are taken when they were asked.

        Parameters
        ----------
        wanted
            Of each triple the groups that are told apart, the best first.
        cells
            Size limit of the tree with them.
        small
            Whether a fit can take a triple up, by the number of states of each column.
        """
        chosen: list[tuple[str, ...]] = []
        states, refused = self._states, 0
        for triple, groups in wanted.items():
            more = states.telling(groups)
            if refused > PATIENCE * len(self._stage.columns):
                break
            if (
                small(more.domain, triple, self._stage.target)
                and junction_tree.cells(more.domain, [*self._cliques, *chosen, triple]) <= cells
            ):
                chosen.append(triple)
                states, refused = more, 0
            else:
                refused += 1
        return chosen

    def fitting(
        self, wanted: Mapping[Pair, Resolution], scan: Mapping[Pair, Interaction], count: int
    ) -> dict[Pair, tuple[int, int]]:
        """Choose pairs to refine, best first, and for each column the most groups for which there is room.

        Parameters
        ----------
        wanted
            How finely each pair should be refined, the best first.
        scan
            What was measured of them, which stays in the model.
        count
            How many are chosen beside the related ones, which always are.
        """
        chosen: dict[Pair, tuple[int, int]] = {}
        related = set(self._stage.related)
        for pair, resolution in wanted.items():
            if len(chosen) >= count + len(related):
                break
            scanned = [scan[pair].telling] if pair in scan else []
            for sizes in _coarser(resolution.sizes):
                if self._try(pair, *scanned, self._stage.groups(pair, sizes), again=sizes != resolution.sizes):
                    chosen[pair] = sizes
                    break
            else:
                chosen |= {pair: (2, 2)} if pair in related else {}
        return chosen

    def _try(self, pair: Pair, *groups: Mapping[str, Codes], again: bool = False) -> bool:
        if self._refused > PATIENCE * len(self._stage.columns):
            return False
        states = self._states.telling(*groups)
        if junction_tree.cells(states.domain, [*self._cliques, pair]) > self._cells:
            self._refused += not again
            return False
        self._states, self._refused = states, 0
        self._cliques.append(pair)
        return True


def _coarser(sizes: tuple[int, int]) -> list[tuple[int, int]]:
    """Return sizes, the larger halved again and again down to 4 groups."""
    tried = [sizes]
    while max(sizes) > 4:
        sizes = (
            sizes[0] if sizes[0] < sizes[1] else sizes[0] // 2,
            sizes[1] if sizes[1] <= sizes[0] else sizes[1] // 2,
        )
        tried.append(sizes)
    return tried
