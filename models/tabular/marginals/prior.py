"""A public prior: what a public cohort, or the schema, says beforehand, used where noise is larger than its fault.

*Columns.* The shares x of a column with k states and the prior's p become ``p + (1 - (k - 3) v / |y - p|^2)+ (x - p)``,
y the shares as they were counted with noise of variance v. Shares sum to 1, so k - 1 are free; of y itself this has, by
James and Stein, a smaller expected squared error whatever the truth is, for k of 4 and more. But x is y made
non-negative, which alone takes up to three quarters of the noise away where most states are empty. So a prior whose
distance, ``|y - p|^2 - k v``, is above `NEAR` of the noise ``k v`` is not used.

*Pairs.* A batch of measured pairs is told twice: how far they are from independence and how far from the prior's
interactions, each pooled by empirical Bayes. An energy S leaves the error ``f v S / (S + f v)`` after shrinking. The
prior counts where its sum over the batch is below `BETTER` of the other one, and then each pair is shrunk to it.

*Pairs that nobody asked*, because noise would hide them, are the prior's where it counts: with the distance that it
had from the measured ones as their variance.

The file is read in the clear, as public knowledge, and costs nothing: whoever is in it is not protected.

Sources: James and Stein (1961), Estimation with quadratic loss; Fuentes et al. (2024), JAM-PGM, for public data beside
private measurements.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.coding.codec import Codec
from dpsynth.cohort.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.models.tabular.graphical.estimation import centring
from dpsynth.models.tabular.marginals.interactions import Interaction, Pair, energies
from dpsynth.models.tabular.marginals.one_way import OneWay
from dpsynth.models.tabular.marginals.stage import Stage

__all__ = ["SCHEMA", "Prior", "declared", "read_prior"]

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
Measured = list[tuple[Interaction, float]]

SCHEMA = "schema"
"""The prior that needs no file: values spread evenly on their scales, columns independent."""
NEAR = 0.25
"""Distance of a prior's column, as a share of the noise of the counted one, up to which it is used."""
GROUPS = 8
"""Groups, about, of a column in a pair that only the prior tells."""
BETTER = 0.8
"""The prior's expected error is below this share of independence's where its interactions are used."""


@dataclass(frozen=True)
class Prior:
    """What is known beforehand.

    Attributes
    ----------
    shares
        For each column the probability of each fine code.
    codes
        For each column the fine codes of the public rows; empty where there are none.
    """

    shares: Mapping[str, Array]
    codes: Mapping[str, Codes]

    @property
    def rows(self) -> int:
        """Number of public rows."""
        return len(next(iter(self.codes.values()))) if self.codes else 0

    def columns(self, counts: OneWay) -> OneWay:
        """Return the counts with each column's shares shrunk to the prior's."""
        shares = {}
        for name, own in counts.proportions.items():
            known = np.bincount(counts.bins.maps[name], self.shares[name], minlength=len(own))
            look = counts.looks[name]
            states = np.zeros(len(look.counts), dtype=np.int64)
            states[look.codes] = counts.bins.maps[name]
            counted = np.bincount(states, look.counts, minlength=len(own)) / counts.rows
            kept = kept_of(counted - known, counts.variance[name])
            shares[name] = known + kept * (own - known)
        return replace(counts, proportions=shares)

    def excess(self, stage: Stage, pair: Pair, groups: tuple[Codes, Codes]) -> Array:
        """Return the prior's interaction of a pair, less that of independence."""
        maps = stage.counts.bins.maps
        first, second = (g[maps[c][self.codes[c]]] for c, g in zip(pair, groups, strict=True))
        shape = tuple(int(g.max()) + 1 for g in groups)
        table = np.bincount(first * shape[1] + second, minlength=shape[0] * shape[1]).reshape(shape) / self.rows
        table = table - np.outer(table.sum(axis=1), table.sum(axis=0))
        return np.asarray(centring(shape[0]) @ table @ centring(shape[1]))

    def pairs(self, stage: Stage, batch: Mapping[Pair, Interaction]) -> tuple[Measured, float]:
        """Return the pairs shrunk to the prior, and its mean energy of a free cell; nothing where it is no help."""
        if not self.codes or not batch:
            return [], np.inf
        known = {pair: self.excess(stage, pair, interaction.groups) for pair, interaction in batch.items()}
        beside = {pair: replace(batch[pair], excess=batch[pair].excess - known[pair]) for pair in batch}
        plain, own = energies(batch), energies(beside)
        if _left(beside, own) > BETTER * _left(batch, plain):
            return [], np.inf
        shrunk = []
        for pair, interaction in beside.items():
            noise = interaction.freedom * interaction.variance
            gone = noise / (own[pair] + noise) * interaction.excess
            nearer = replace(batch[pair], values=batch[pair].values - gone, excess=batch[pair].excess - gone)
            shrunk.append((nearer, 1.0))
        free = sum(interaction.freedom for interaction in batch.values())
        return shrunk, sum(own.values()) / free

    def unasked(self, stage: Stage, asked: Sequence[Pair], distance: float) -> Measured:
        """Return the prior's interactions of pairs that were not asked, the strongest first."""
        if not self.codes or not np.isfinite(distance):
            return []
        found = []
        variance, known = max(distance, 1 / self.rows**2), set(asked)
        for pair in combinations(stage.domain, 2):
            if pair in known or min(stage.domain[c] for c in pair) < 2:
                continue
            first, second = (stage.columns[c] for c in pair)
            groups = first.groups(GROUPS), second.groups(GROUPS)
            excess = self.excess(stage, pair, groups)
            shares = [np.bincount(g, c.proportions) for g, c in zip(groups, (first, second), strict=True)]
            alone: Array = np.outer(*shares).astype(np.float64)
            values = excess + centring(alone.shape[0]) @ alone @ centring(alone.shape[1])
            measured = Interaction(pair, groups, values, excess, variance, 1.0, alone)
            if measured.energy > 0:
                found.append((measured.strength(measured.energy), measured))
        ranked = sorted(found, key=lambda entry: (-entry[0], entry[1].pair))
        return [(measured, measured.energy) for _, measured in ranked]


def kept_of(difference: Array, variance: float) -> float:
    """Return how much of a column's noisy difference from the prior is kept; all where the prior is not near."""
    states, total = len(difference), float((difference**2).sum())
    if states < 4 or total > (1 + NEAR) * states * variance:
        return 1.0
    return max(0.0, 1 - (states - 3) * variance / max(total, 1e-300))


def _left(batch: Mapping[Pair, Interaction], posterior: Mapping[Pair, float]) -> float:
    """Return the expected squared error of a batch after shrinking with these energies."""
    noise = {pair: interaction.freedom * interaction.variance for pair, interaction in batch.items()}
    return sum(noise[pair] * posterior[pair] / (noise[pair] + posterior[pair]) for pair in batch)


def read_prior(prior: str | Path | Cohort, codec: Codec) -> Prior:
    """Read a public prior: a file or cohort of the same columns, or ``"schema"``.

    Privacy contract: reads public knowledge only, and needs no session.

    Raises
    ------
    InputError
        If there is no such file, it has no rows, or, naming the column, it does not fit the schema.
    """
    if isinstance(prior, str) and prior == SCHEMA:
        return Prior({name: _even(codec, name) for name in codec.columns}, {})
    if isinstance(prior, Cohort):
        cohort = prior
    elif Path(prior).exists():
        cohort = Cohort.read(prior, codec.schema, public=True)
    else:
        raise InputError(
            f"prior: there is no file {str(prior)!r}; expected a public table of the schema's columns, or 'schema' for "
            "what the schema alone says."
        )
    codes = {name: np.asarray(values, dtype=np.int64) for name, values in codec.encode(cohort).items()}
    if not len(next(iter(codes.values()))):
        raise InputError("prior: the public table has no rows; leave the prior out.")
    shares = {name: np.bincount(codes[name], minlength=codec.columns[name].size) + _even(codec, name) for name in codes}
    return Prior({name: table / table.sum() for name, table in shares.items()}, codes)


def _even(codec: Codec, name: str) -> Array:
    """Return the shares of a column's codes when values are spread evenly on their scale."""
    code = codec.columns[name]
    alone = code.size - code.ordered
    shares = np.full(code.size, 1.0)
    if code.ordered:
        shares[: code.ordered] = codec.widths(name) / codec.widths(name).sum() * max(code.ordered, 4 * alone)
    return np.asarray(shares / shares.sum())


def declared(statement: Mapping[str, Any], prior: Prior) -> dict[str, Any]:
    """Return a privacy statement that says which public prior was used, and whom it does not protect."""
    if not prior.rows:
        words = "The public prior: the schema alone, taken as public knowledge; it cost nothing."
    else:
        words = (
            f"The public prior: a file of {prior.rows:,} rows that was named as public was read as it is, at no cost. "
            "Whoever is in it is not protected by this guarantee."
        )
    kind = {"kind": "public cohort", "rows": prior.rows} if prior.rows else {"kind": "schema"}
    return {**statement, "public_prior": kind, "not_protected": [*statement["not_protected"], words]}
