"""Between fine codes and what a network reads and writes: normal scores and one-hot states.

A column with many ordered cells is one number, the normal score ``Phi^-1(F(code))`` of its *paid* distribution F, so
that every such column has the same scale and its margin is right whatever a network learns; its special values and its
missing state are one-hot states beside it. Every other column is one-hot. Of private data only the paid counts enter.

A network's outputs have one more step to a row: its scores are *calibrated* to the paid margins (see `Calibration`),
which is post-processing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from dpsynth.coding.codec import Codec
from dpsynth.models.tabular.marginals.binning import Bins, totals
from dpsynth.models.tabular.marginals.one_way import OneWay

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

FEW_ORDERED = 6
"""A column with at most so many ordered cells is one-hot."""
STATES = 24
"""One-hot columns with more states than this are merged to about as many of equal mass."""
KNOTS = 201
"""Points at which a score's distribution is kept."""
FURTHEST = 3.0
"""Normal scores are cut here, so that the tails of a noisy distribution do not rule a loss."""
CALIBRATION_STEPS = 40
SMALLEST = 1e-4
"""Shares below this are not calibrated: they are noise."""


@dataclass(frozen=True)
class Implied:
    """A column whose code follows from that of another under the schema's constraints.

    Attributes
    ----------
    source
        The other column; it is not implied itself.
    codes
        For each fine code of the other column the one that is left.
    """

    source: str
    codes: Codes


def implied(codec: Codec, written: Sequence[str]) -> dict[str, Implied]:
    """Return the columns that no network needs to write, by the schema's constraints; none that is `written`.

    Examples
    --------
    >>> from dpsynth.schema.schema import Schema
    >>> schema = Schema.parse('''
    ... name: ward
    ... columns: {group: {type: categorical, values: [a, b]}, class: {type: categorical, values: [x, y]}}
    ... constraints:
    ...   - {when: {group: a}, require: {class: x}}
    ...   - {when: {group: b}, require: {class: y}}
    ... ''')
    >>> {name: found.codes.tolist() for name, found in implied(Codec(schema), ()).items()}
    {'class': [0, 1]}
    """
    tables: dict[tuple[str, ...], NDArray[np.bool_]] = {}
    for columns, table in codec.forbidden():
        if len(columns) == 2:
            tables[columns] = tables[columns] | table if columns in tables else table
            tables[columns[::-1]] = tables[columns].T
    followers: dict[str, Implied] = {}
    for (source, name), table in tables.items():
        free = name not in written and name not in followers and source not in followers
        if (
            free
            and ((~table).sum(axis=1) == 1).all()
            and name not in {follower.source for follower in followers.values()}
        ):
            followers[name] = Implied(source, (~table).argmax(axis=1))
    return followers


@dataclass(frozen=True)
class ColumnPart:
    """Where one column stands among a network's outputs.

    Attributes
    ----------
    name
        The column.
    score
        Place of its normal score; None for a one-hot column.
    states
        Places of its states; empty for a number that is always there.
    """

    name: str
    score: int | None
    states: slice

    @property
    def count(self) -> int:
        """Number of states."""
        return int(self.states.stop - self.states.start)


class Layout:
    """The columns that a network writes, in the codec's order, and the conditions that it reads.

    Parameters
    ----------
    codec
        Columns as codes.
    shares
        For each column the (paid, non-negative) probability of each fine code.
    maps
        For each column the state of each fine code; used for one-hot columns and conditions.
    conditions
        Columns that are given to a network instead of written by it.
    """

    def __init__(
        self, codec: Codec, shares: Mapping[str, Array], maps: Mapping[str, Codes], conditions: Sequence[str]
    ) -> None:
        self.codec = codec
        self.shares = {name: np.asarray(shares[name], dtype=np.float64) for name in codec.columns}
        self.conditions = tuple(conditions)
        weights = {name: _within(maps[name], self.shares[name]) for name in codec.columns}
        self.bins = Bins({name: np.asarray(maps[name], dtype=np.int64) for name in codec.columns}, weights)
        self.implied = implied(codec, self.conditions)
        parts, at = [], 0
        for name in codec.columns:
            if name not in self.conditions and name not in self.implied:
                parts.append(self._part(name, at))
                at = parts[-1].states.stop
        self.parts = tuple(parts)
        self.width = at
        self.condition_sizes = tuple(self.bins.shape[name] for name in self.conditions)

    @classmethod
    def of(cls, codec: Codec, counts: OneWay, conditions: Sequence[str], most: int) -> "Layout":
        """Return the layout of what was paid for; conditions have at most about `most` states."""
        shares = {
            name: counts.proportions[name][counts.bins.maps[name]] * counts.bins.weights[name] for name in codec.columns
        }
        wide, narrow = counts.merged(codec, STATES).bins.maps, counts.merged(codec, most).bins.maps
        maps = {name: narrow[name] if name in conditions else wide[name] for name in codec.columns}
        return cls(codec, shares, maps, conditions)

    @property
    def scores(self) -> list[int]:
        """Places of the normal scores."""
        return [part.score for part in self.parts if part.score is not None]

    @property
    def condition_width(self) -> int:
        """Numbers that a network reads about the conditions."""
        return sum(self.condition_sizes)

    def _part(self, name: str, at: int) -> ColumnPart:
        code = self.codec.columns[name]
        if code.ordered <= FEW_ORDERED:
            return ColumnPart(name, None, slice(at, at + self.bins.shape[name]))
        special = code.size - code.ordered
        return ColumnPart(name, at, slice(at + 1, at + 1 + (special + 1 if special else 0)))

    def state_shares(self, part: ColumnPart) -> Array:
        """Return the paid probability of each state of a column."""
        return totals(self._states(part), self.shares[part.name], part.count)

    def _states(self, part: ColumnPart) -> Codes:
        """Return the state of each fine code."""
        if part.score is None:
            return np.asarray(self.bins.maps[part.name])
        code = self.codec.columns[part.name]
        return np.maximum(np.arange(code.size) - code.ordered + 1, 0)

    def features(self, part: ColumnPart) -> NDArray[np.float32]:
        """Return (size of the column, width) what a network reads for each fine code of a column."""
        states = self._states(part)
        whole: NDArray[np.float32] = (states[:, None] == np.arange(part.count)).astype(np.float32)
        if part.score is None:
            return whole
        from scipy.special import ndtri

        ordered = self.codec.columns[part.name].ordered
        mass = self._cells(part.name)
        middle = np.cumsum(mass) - mass / 2
        score = np.zeros(len(states), dtype=np.float32)
        score[:ordered] = np.clip(ndtri(np.clip(middle, 1e-6, 1 - 1e-6)), -FURTHEST, FURTHEST)
        return np.asarray(np.concatenate([score[:, None], whole], axis=1), dtype=np.float32)

    def _cells(self, name: str) -> Array:
        """Return the probability of each ordered code among the ordered ones."""
        ordered = self.codec.columns[name].ordered
        mass = np.maximum(self.shares[name][:ordered], 0) + 1e-12
        return np.asarray(mass / mass.sum())

    def tables(self) -> list[tuple[int, Tensor]]:
        """Return for each part its column's place in the codec and `features` as a tensor."""
        place = {name: i for i, name in enumerate(self.codec.columns)}
        return [(place[part.name], torch.from_numpy(self.features(part))) for part in self.parts]

    def condition_tables(self) -> list[tuple[int, Tensor]]:
        """Return for each condition its column's place in the codec and the one-hot state of each fine code."""
        place = {name: i for i, name in enumerate(self.codec.columns)}
        return [(place[name], torch.eye(self.bins.shape[name])[self.bins.maps[name]]) for name in self.conditions]

    def one_hot(self, states: Mapping[str, Codes], rows: int) -> Tensor:
        """Return (rows, condition_width) what a network reads about the states of conditions."""
        parts = [torch.eye(self.bins.shape[name])[states[name]] for name in self.conditions]
        return torch.cat(parts, dim=1) if parts else torch.zeros(rows, 0)

    def encoded(self, codes: Mapping[str, NDArray[Any]]) -> Tensor:
        """Return (rows, width) features of fine codes that are public."""
        return torch.cat([torch.from_numpy(self.features(p))[codes[p.name].astype(np.int64)] for p in self.parts], 1)

    def normalised(self, outputs: Tensor, *, noise: Tensor, temperature: float) -> Tensor:
        """Return a network's outputs as features of rows: states drawn by the Gumbel trick, scores where they are due.

        States are whole, as a patient's are, with the gradient of soft ones (straight through).

        Source: Jang, Gu and Poole (2017), Categorical reparameterization with Gumbel-softmax, sections 2.1 and 2.2.
        """
        parts: list[Tensor] = []
        for part in self.parts:
            states = outputs[..., part.states]
            soft = torch.softmax((states + noise[..., part.states]) / temperature, dim=-1)
            whole = one_hot(soft.argmax(-1), part.count) + soft - soft.detach() if part.count else soft
            if part.score is not None:
                score = outputs[..., part.score, None].clamp(-FURTHEST, FURTHEST)
                parts.append(score * whole[..., :1] if part.count else score)
            parts.append(whole)
        return torch.cat(parts, dim=-1)

    def decoded(self, outputs: Array, calibration: "Calibration", rng: np.random.Generator) -> dict[str, Codes]:
        """Return the fine codes of rows of scores: the greatest calibrated state, the code of each number."""
        decoded = {}
        for part in self.parts:
            states = (outputs[:, part.states] + calibration.offsets[part.states]).argmax(1) if part.count else None
            if part.score is None:
                assert states is not None  # noqa: S101  (a one-hot column has states)
                decoded[part.name] = self.bins.refine(part.name, states, None, rng)
                continue
            ordered = self.codec.columns[part.name].ordered
            share = calibration.ranks(part.score, outputs[:, part.score])
            codes = np.searchsorted(np.cumsum(self._cells(part.name)), share, side="right").clip(0, ordered - 1)
            decoded[part.name] = codes if states is None else np.where(states == 0, codes, ordered - 1 + states)
        return decoded


@dataclass(frozen=True)
class Calibration:
    """Offsets and quantiles that bring a network's scores to the paid margins: post-processing of public outputs.

    Attributes
    ----------
    offsets
        (width,) what is added to the score of each state.
    knots
        (width, KNOTS) quantiles of each score; rows of states are not used.
    """

    offsets: Array
    knots: Array

    @classmethod
    def none(cls, width: int) -> "Calibration":
        """Take scores for standard normal, and states as they come."""
        from scipy.special import ndtri

        grid = (np.arange(KNOTS) + 0.5) / KNOTS
        return cls(np.zeros(width), np.tile(ndtri(grid), (width, 1)))

    @classmethod
    def of(cls, layout: Layout, outputs: Array) -> "Calibration":
        """Find what makes many rows of outputs meet the paid margins."""
        calibration = cls.none(layout.width)
        for part in layout.parts:
            scores = outputs[:, part.states]
            if part.count:
                calibration.offsets[part.states] = _offsets(scores, layout.state_shares(part))
            if part.score is not None:
                there = (scores + calibration.offsets[part.states]).argmax(1) == 0 if part.count else slice(None)
                values = outputs[there, part.score]
                if len(values) > KNOTS:
                    calibration.knots[part.score] = np.quantile(values, (np.arange(KNOTS) + 0.5) / KNOTS)
        return calibration

    def ranks(self, place: int, values: Array) -> Array:
        """Return for each value of a score the share of values below it, in (0, 1)."""
        grid = (np.arange(KNOTS) + 0.5) / KNOTS
        knots = self.knots[place] + 1e-9 * np.arange(KNOTS)  # equal quantiles must not be one point
        return np.asarray(np.interp(values, knots, grid))


def _offsets(scores: Array, shares: Array) -> Array:
    """Return offsets with which the greatest score falls on each state as often as its share says, as far as it can."""
    wanted = np.maximum(shares / max(float(shares.sum()), 1e-300), SMALLEST)
    offsets = np.zeros(scores.shape[1])
    best, least = offsets, np.inf
    for _ in range(CALIBRATION_STEPS):
        now = np.bincount((scores + offsets).argmax(1), minlength=len(wanted)) / len(scores)
        miss = float(np.abs(now - wanted).sum())
        if miss < least:
            best, least = offsets, miss
        offsets = offsets + np.clip(np.log(wanted) - np.log(np.maximum(now, SMALLEST)), -1, 1)
    return np.asarray(best - best.max())


def _within(codes: Codes, mass: Array) -> Array:
    """Return the probability of each fine code within its state; even where the state has no mass."""
    mass = np.maximum(mass, 0) + 1e-12
    return np.asarray(mass / totals(codes, mass)[codes])
