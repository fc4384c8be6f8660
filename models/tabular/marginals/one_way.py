"""One-way counts: the first answers that every marginal-based mechanism needs, and the bins that they suggest."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from dpsynth.coding.codec import Codec
from dpsynth.coding.query import Query
from dpsynth.models.base import Released
from dpsynth.models.tabular.marginals.binning import Bins, group, hedged, simplex, smooth, totals
from dpsynth.models.tabular.marginals.groups import group_columns, present
from dpsynth.privacy.session import Session
from dpsynth.schema.schema import Schema

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

SHAPE_SHARE = 0.3
"""Share of the one-way budget that finds where to cut columns with many ordered cells."""
DISCOVERY_SHARE = 0.05
"""Share of the whole budget for the values of columns that are declared `discover: true`."""
FEW_CUTS = 4
"""A constraint that changes at more codes than this (an order between two columns) cannot be followed by bins."""
CURVATURE = 0.78
"""Total variation that k bins of equal mass blur of a density f, times k: ``(1/8) \\int |(log f)'|``, here of a normal
density out to 2.5 standard deviations."""
FEWEST_BINS = 6
MANY = 24
"""Columns with more ordered cells than this are cut into bins before they are counted."""


@dataclass(frozen=True)
class OneWay:
    """Noisy one-way counts of every column: its bins, their proportions and the variance of these.

    Attributes
    ----------
    bins
        Bins of each column.
    proportions
        For each column the probability of each bin: non-negative, sums to 1.
    variance
        For each column the variance of a bin's probability before it was made non-negative.
    rows
        Estimated number of rows (as declared where it is public).
    looks
        The noisy counts behind it.
    cuts
        Fine codes at which a column should be cut for the target's sake, the best first.
    """

    bins: Bins
    proportions: Mapping[str, Array]
    variance: Mapping[str, float]
    rows: float
    looks: Mapping[str, "Look"]
    cuts: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def released(self) -> list[Released]:
        """Noisy counts of each column, with the largest standard deviation of its bins."""
        return [
            Released((name,), (look.codes,), look.counts, float(np.sqrt(look.variance.max())))
            for name, look in self.looks.items()
        ]

    def merged(self, codec: Codec, size: int) -> "OneWay":
        """Merge bins until a column has about `size` of equal mass; special values and missing keep their own.

        What is known of the merged bins stays in how the fine codes share them.
        """
        return self.coarsened(self.states(codec, size))

    def states(self, codec: Codec, size: int) -> dict[str, Codes]:
        """Return for each column the state of each bin, when bins are merged to about `size` states of equal mass."""
        states, cuts = {}, _constraint_cuts(codec)
        for name, fine in self.bins.maps.items():
            code, mass = codec.columns[name], self.proportions[name]
            alone = code.size - code.ordered if code.ordered else 0
            starts = [int(fine[cut]) for cut in cuts[name] if cut < code.ordered]
            told = [int(fine[cut]) for cut in self.cuts.get(name, ())]
            room = size + alone - len(told)
            states[name] = group(mass, len(mass) - alone if code.ordered else 0, room, [*starts, *told])
        return states

    def coarsened(self, states: Mapping[str, Codes]) -> "OneWay":
        """Merge bins to states; what is known of the bins stays in how the fine codes share a state."""
        maps, within, proportions, variance = {}, {}, {}, {}
        for name, codes in states.items():
            fine, mass = self.bins.maps[name], self.proportions[name]
            maps[name] = codes[fine]
            within[name] = _within(maps[name], self.bins.weights[name] * mass[fine])
            proportions[name] = totals(codes, mass)
            variance[name] = self.variance[name] * len(codes) / len(proportions[name])
        return OneWay(Bins(maps, within), proportions, variance, self.rows, self.looks, self.cuts)


def discover(session: Session) -> None:
    """Find the values of all columns that are declared so, with a fixed share of the budget."""
    columns = list(session.to_discover)
    for column in columns:
        session.discover(column, DISCOVERY_SHARE * session.rho / len(columns))


def column_shares(schema: Schema, columns: Sequence[str]) -> dict[str, float]:
    """Share of the one-way budget of each column: equal, but at least the floor for those of the fairness policy."""
    named = [name for name in group_columns(schema) if name in columns]
    floor = schema.fairness.floor if schema.fairness is not None else 0.0
    if not named or len(named) == len(columns) or len(named) >= floor * len(columns):
        return dict.fromkeys(columns, 1 / len(columns))
    others = (1 - floor) / (len(columns) - len(named))
    return {name: floor / len(named) if name in named else others for name in columns}


def many_cells(codec: Codec) -> list[str]:
    """Columns that are cut into bins before they are counted."""
    return [name for name, code in codec.columns.items() if code.ordered > MANY]


def bins_for(noise: float) -> int:
    """Return how many bins are best for a column whose cells are counted with this noise, as a proportion.

    k bins have a total variation error of ``k noise sqrt(2/pi) / 2`` from noise, and blur ``CURVATURE / k``; the sum is
    least for ``k^2 = 2 CURVATURE sqrt(pi/2) / noise``.

    Examples
    --------
    >>> bins_for(0.01), bins_for(0.001)
    (14, 44)
    """
    return max(round(float(np.sqrt(2 * CURVATURE * np.sqrt(np.pi / 2) / noise))), FEWEST_BINS)


def measure(session: Session, rho: float, *, bins: int | None, cutter: "Cutter | None" = None) -> OneWay:
    """Cut columns with many cells into bins, then count every column.

    Formal guarantee: costs exactly `rho`, all of it in `Session.count`, and what the `cutter` asks beside.

    Parameters
    ----------
    session
        An open session without columns left to discover.
    rho
        What all of it may cost.
    bins
        How many bins a column with many ordered cells is cut into, about; its special values and its missing state
        come on top. None: as many as the noise is best for (`bins_for`), by the number of rows that is known by then.
    cutter
        Says, when the shapes of these columns are known, where else they should be cut.
    """
    codes = session.codec.columns
    fine = many_cells(session.codec)
    shape_rho = SHAPE_SHARE * rho * len(fine) / len(codes)
    shapes = _shapes(session, fine, shape_rho)
    cuts, told = _constraint_cuts(session.codec), cutter(shapes) if cutter and shapes else {}
    shares = column_shares(session.schema, list(codes))
    wanted = {n: bins or _bins(session, shapes, (rho - shape_rho) * shares[n]) for n in shapes}
    maps = {
        name: group(
            shapes[name].smooth,
            code.ordered,
            wanted[name] + code.size - code.ordered,
            [*cuts[name], *told.get(name, ())],
        )
        if name in shapes
        else np.arange(code.size)
        for name, code in codes.items()
    }
    looks = _count(session, maps, rho - shape_rho)
    for name, shape in shapes.items():
        looks[name] = _average(looks[name], shape.coarsened(maps[name]))
    within = {
        name: _within(maps[name], shapes[name].smooth if name in shapes else looks[name].counts) for name in codes
    }
    return replace(_one_way(session, Bins(maps, within), looks), cuts=told)


def _bins(session: Session, shapes: Mapping[str, "Shape"], rho: float) -> int:
    """Bins that are best for a column whose cells are counted for `rho`; the shapes tell how many rows there are."""
    rows = float(session.rows or max(np.mean([shape.raw.sum() for shape in shapes.values()]), 1.0))
    return bins_for(float(session.sensitivity / np.sqrt(2 * rho) / rows))


def measure_again(session: Session, counts: OneWay, rho: float) -> OneWay:
    """Count the bins of every column once more, and average with what is known. Costs exactly `rho`."""
    looks = _count(session, counts.bins.maps, rho)
    averaged = {name: _average(look, counts.looks[name]) for name, look in looks.items()}
    return replace(_one_way(session, counts.bins, averaged), cuts=counts.cuts)


@dataclass(frozen=True)
class Look:
    """Noisy counts of a column's bins, the variance of each, and the bin of each fine code."""

    counts: Array
    variance: Array
    codes: Codes


@dataclass(frozen=True)
class Shape:
    """A histogram over fine codes: smoothed, as it was measured, and the variance of its noise."""

    smooth: Array
    raw: Array
    variance: float

    def coarsened(self, codes: Codes) -> Look:
        """Return the look at coarser bins that the raw cells add up to."""
        return Look(totals(codes, self.raw), totals(codes, np.full(len(codes), self.variance)), codes)


Cutter = Callable[[Mapping[str, Shape]], Mapping[str, Sequence[int]]]
"""From the shapes of columns with many cells to where they should be cut."""


def _count(session: Session, maps: Mapping[str, Codes], rho: float) -> dict[str, Look]:
    queries = [Query((name,), (codes,)) for name, codes in maps.items()]
    shares = column_shares(session.schema, list(maps))
    answers = session.count(queries, [rho * shares[name] for name in maps])
    return {
        (name := a.columns[0]): Look(a.counts.astype(float), np.full(a.counts.shape, a.sigma**2), maps[name])
        for a in answers
    }


def _average(first: Look, second: Look) -> Look:
    """Average two looks at the same bins by their precision."""
    precision = 1 / first.variance + 1 / second.variance
    counts = (first.counts / first.variance + second.counts / second.variance) / precision
    return Look(counts, 1 / precision, first.codes)


def _one_way(session: Session, bins: Bins, looks: dict[str, Look]) -> OneWay:
    rows = float(session.rows) if session.rows is not None else _rows(looks)
    groups = group_columns(session.schema)
    proportions = {
        name: present(look.counts / rows, np.sqrt(look.variance) / rows)
        if name in groups
        else simplex(look.counts / rows)
        for name, look in looks.items()
    }
    return OneWay(
        bins, proportions, {name: float(look.variance.mean()) / rows**2 for name, look in looks.items()}, rows, looks
    )


def _constraint_cuts(codec: Codec) -> dict[str, list[int]]:
    """Codes at which a forbidden combination begins or ends, where these are few: bins must not straddle them."""
    cuts: dict[str, list[int]] = {name: [] for name in codec.columns}
    for columns, table in codec.forbidden():
        for axis, name in enumerate(columns):
            slices = np.moveaxis(table, axis, 0).reshape(table.shape[axis], -1)
            changes = np.flatnonzero((slices[1:] != slices[:-1]).any(axis=1)) + 1
            if len(changes) <= FEW_CUTS:
                cuts[name] += changes.tolist()
    return cuts


def _shapes(session: Session, columns: list[str], rho: float) -> dict[str, Shape]:
    """Histograms over fine codes, smoothed where codes are ordered."""
    codes = session.codec.columns
    queries = [Query((name,), (np.arange(codes[name].size),)) for name in columns]
    answers = session.count(queries, [rho / max(len(columns), 1)] * len(columns))
    shapes = {}
    for name, answer in zip(columns, answers, strict=True):
        raw, ordered, widths = answer.counts.astype(float), codes[name].ordered, session.codec.widths(name)
        clean = np.concatenate([smooth(raw[:ordered], answer.sigma, widths), raw[ordered:]])
        mass = simplex(clean, max(float(raw.sum()), 1.0))
        mass[:ordered] = hedged(mass[:ordered], answer.sigma, widths)
        shapes[name] = Shape(mass, raw, answer.sigma**2)
    return shapes


def _rows(looks: Mapping[str, Look]) -> float:
    """Every column's counts add up to the number of rows: average the sums by their precision."""
    precision = np.array([1 / look.variance.sum() for look in looks.values()])
    sums = np.array([look.counts.sum() for look in looks.values()])
    return max(float(precision @ sums / precision.sum()), 1.0)


def _within(codes: Codes, mass: Array) -> Array:
    """Probability of each fine code within its bin; even where the bin has no mass."""
    mass = np.maximum(mass, 0) + 1e-9
    return np.asarray(mass / totals(codes, mass)[codes])
