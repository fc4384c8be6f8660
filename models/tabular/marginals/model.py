"""The model that every marginal-based mechanism leaves behind: a graphical model over bins."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dpsynth.coding.codec import Codec
from dpsynth.errors import InputError
from dpsynth.models.base import Model, Released
from dpsynth.models.conditional_draws import Support
from dpsynth.models.tabular.graphical.junction_tree import JunctionTree
from dpsynth.models.tabular.graphical.model import GraphicalModel
from dpsynth.models.tabular.graphical.products import take
from dpsynth.models.tabular.marginals.binning import Bins
from dpsynth.models.tabular.marginals.coupling import Link, coupled, links
from dpsynth.models.tabular.marginals.nudging import FEWEST, Wanted, nudged

Masks = Mapping[str, NDArray[np.bool_]]

SCARCE = 1e-6
"""Conditions whose probability under the model is below this are refused: the rows would be made of rounding."""

CALIBRATED = 1e-6
"""By how much probabilities in a file may be off."""


class MarginalModel(Model):
    """A graphical model over bins, and the shares of the fine codes within each bin.

    Parameters
    ----------
    codec
        Columns as fine codes.
    statement
        The session's privacy statement.
    graph
        Distribution of the bins.
    bins
        Fine codes of each bin.
    rows
        Estimated or declared number of training rows.
    counts
        Noisy counts to publish beside the cohort, at most one table a column.
    wanted
        Tables of pairs that the junction tree does not hold, with which drawn records are made to agree.
    """

    kind = "marginals"

    def __init__(
        self,
        codec: Codec,
        statement: dict[str, Any],
        *,
        graph: GraphicalModel,
        bins: Bins,
        rows: int,
        counts: Sequence[Released] = (),
        wanted: Sequence[Wanted] = (),
    ) -> None:
        super().__init__(codec, statement)
        self._wanted = list(wanted)
        self.graph = graph
        self.bins = bins
        self._rows = rows
        self._counts = list(counts)

    @property
    def rows(self) -> int:
        """Number of training rows: as declared, else estimated from noisy counts."""
        return self._rows

    def released(self) -> list[Released]:
        """Return the noisy one-way counts that the model was built from."""
        return self._counts

    def sample_codes(self, n: int, masks: Masks, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        """Draw rows; conditions are exact: the graphical model is conditioned, nothing is rejected.

        Rows without a condition are nudged to the wanted tables, which are those of all patients.
        """
        graph = self._given(masks) if masks else self.graph
        drawn = graph.sample(n, rng)
        if self._wanted and not masks and n >= FEWEST:
            drawn = nudged(graph, drawn, self._wanted, rng)
        places = coupled(self._links, drawn, rng) if self._links else {}
        return {
            name: self.bins.refine(name, drawn[name], masks.get(name), rng, places.get(name))
            for name in self.codec.columns
        }

    @cached_property
    def _links(self) -> dict[str, Link]:
        return links(self.codec, self.graph, self.bins)

    def support(self, where: Mapping[str, Any]) -> Support | None:
        """Return how many training rows meet a condition, by the model, and the noise of the noisiest column's cell."""
        shares = self.codec.shares(where)
        chance = self.graph.given({name: self.bins.evidence(name, share) for name, share in shares.items()})[1]
        noise = max((table.sigma for table in self._counts if table.columns[0] in shares), default=0.0)
        return Support(chance * self._rows, noise)

    def _given(self, masks: Masks) -> GraphicalModel:
        graph, chance = self.graph.given({name: self.bins.evidence(name, mask) for name, mask in masks.items()})
        if chance < SCARCE:
            raise InputError(
                f"where: the condition on {', '.join(masks)} has probability {chance:.1g} under the model, which is "
                "too scarce to be drawn honestly; widen it or leave a column out."
            )
        return graph

    def to_parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return the junction tree as configuration; beliefs, maps and weights as arrays."""
        tree = self.graph.tree
        names = list(self.codec.columns)
        config = {
            "rows": self._rows,
            "cliques": [list(clique) for clique in tree.cliques],
            "parents": list(tree.parents),
            "counts": [{"column": table.columns[0], "sigma": table.sigma} for table in self._counts],
        }
        if self._wanted:
            config["wanted"] = [list(table.pair) for table in self._wanted]
        arrays: dict[str, NDArray[Any]] = {f"belief.{i}": belief for i, belief in enumerate(self.graph.beliefs)}
        arrays |= {f"bins.{i}": self.bins.maps[name] for i, name in enumerate(names)}
        arrays |= {f"weights.{i}": self.bins.weights[name] for i, name in enumerate(names)}
        arrays |= {f"counts.{i}": table.counts for i, table in enumerate(self._counts)}
        arrays |= {f"cells.{i}": table.maps[0] for i, table in enumerate(self._counts)}
        for i, table in enumerate(self._wanted):
            arrays |= {f"wanted.{i}": table.table, f"groups.{i}.0": table.groups[0], f"groups.{i}.1": table.groups[1]}
        return config, arrays

    @classmethod
    def from_parts(
        cls, codec: Codec, statement: dict[str, Any], config: dict[str, Any], arrays: dict[str, NDArray[Any]]
    ) -> Self:
        """Check the parts against the codec and each other, and build the model."""
        names = list(codec.columns)
        maps = {name: arrays[f"bins.{i}"].astype(np.int64) for i, name in enumerate(names)}
        weights = {name: arrays[f"weights.{i}"].astype(np.float64) for i, name in enumerate(names)}
        for name in names:
            _check_bins(maps[name], weights[name], codec.columns[name].size)
        bins = Bins(maps, weights)
        tree = _read_tree(bins.shape, config)
        beliefs = [arrays[f"belief.{i}"].astype(np.float64) for i in range(len(tree.cliques))]
        _check_beliefs(tree, beliefs)
        rows, counts = int(config["rows"]), read_counts(codec, config["counts"], arrays)
        if rows < 1:
            raise ValueError("the number of rows is not positive")
        wanted = _read_wanted(bins.shape, config.get("wanted", []), arrays)
        graph = GraphicalModel(tree, beliefs)
        return cls(codec, statement, graph=graph, bins=bins, rows=rows, counts=counts, wanted=wanted)


def _check_bins(codes: NDArray[np.int64], weights: NDArray[np.float64], size: int) -> None:
    if codes.shape != (size,) or weights.shape != (size,) or codes.min() < 0 or codes.max() >= size:
        raise ValueError("bins do not fit the codec")
    if not np.isfinite(weights).all() or weights.min() < 0:
        raise ValueError("weights are not probabilities")
    if not np.allclose(np.bincount(codes, weights), 1.0):
        raise ValueError("weights of a bin do not sum to 1")


def read_counts(codec: Codec, tables: list[dict[str, Any]], arrays: dict[str, NDArray[Any]]) -> list[Released]:
    """Return the noisy counts of a file; `KeyError`, `TypeError` or `ValueError` where they do not fit the codec."""
    released = []
    for i, table in enumerate(tables):
        name, sigma = str(table["column"]), float(table["sigma"])
        cells, counts = arrays[f"cells.{i}"].astype(np.int64), arrays[f"counts.{i}"].astype(np.float64)
        if cells.shape != (codec.columns[name].size,) or cells.min() < 0 or counts.shape != (int(cells.max()) + 1,):
            raise ValueError("counts do not fit the codec")
        if not np.isfinite(counts).all() or not (np.isfinite(sigma) and sigma > 0):
            raise ValueError("counts are not numbers with noise")
        released.append(Released((name,), (cells,), counts, sigma))
    return released


def _read_wanted(domain: dict[str, int], pairs: list[list[str]], arrays: dict[str, NDArray[Any]]) -> list[Wanted]:
    """Return the wanted tables of a file; none in files of versions that had no such tables."""
    found = []
    for i, (first, second) in enumerate(pairs):
        groups = (arrays[f"groups.{i}.0"].astype(np.int64), arrays[f"groups.{i}.1"].astype(np.int64))
        table = arrays[f"wanted.{i}"].astype(np.float64)
        fits = all(g.shape == (domain[c],) and g.min() >= 0 for c, g in zip((first, second), groups, strict=True))
        if first == second or not fits or table.shape != tuple(int(g.max()) + 1 for g in groups):
            raise ValueError("a wanted table does not fit its columns")
        if not np.isfinite(table).all() or table.min() < 0 or abs(table.sum() - 1) > CALIBRATED:
            raise ValueError("a wanted table does not hold probabilities")
        found.append(Wanted((first, second), groups, table))
    return found


def _read_tree(domain: dict[str, int], config: dict[str, Any]) -> JunctionTree:
    order = {name: i for i, name in enumerate(domain)}
    cliques = tuple(tuple(str(c) for c in clique) for clique in config["cliques"])
    parents = tuple(int(p) for p in config["parents"])
    if not cliques or {c for clique in cliques for c in clique} != set(domain):
        raise ValueError("the cliques do not cover the columns")
    if any(list(clique) != sorted(set(clique), key=order.__getitem__) for clique in cliques):
        raise ValueError("a clique is not in column order")
    if len(parents) != len(cliques) or parents[0] != -1 or any(not 0 <= p < i for i, p in enumerate(parents) if i):
        raise ValueError("parents do not come before their children")
    tree = JunctionTree(domain, cliques, parents)
    new = [c for clique, separator in zip(cliques, tree.separators, strict=True) for c in clique if c not in separator]
    if len(new) != len(set(new)):
        raise ValueError("the cliques of a column are not connected")
    return tree


def _check_beliefs(tree: JunctionTree, beliefs: Sequence[NDArray[np.float64]]) -> None:
    for clique, belief in zip(tree.cliques, beliefs, strict=True):
        if belief.shape != tuple(tree.domain[c] for c in clique):
            raise ValueError("a belief does not fit its clique")
        if not np.isfinite(belief).all() or belief.max() > CALIBRATED or abs(np.exp(belief).sum() - 1) > CALIBRATED:
            raise ValueError("a belief is not the logarithm of probabilities")
    for i, separator in enumerate(tree.separators):
        here, above = (take(np.exp(beliefs[j]), tree.cliques[j], separator) for j in (i, max(tree.parents[i], 0)))
        if not np.allclose(here, above, rtol=0, atol=CALIBRATED):
            raise ValueError("neighbouring beliefs do not agree")
