"""Where the columns that tell the target should be cut: where the target changes, not where the patients are halved.

Bins of equal mass hide clinical tails: of thyroid patients four bins that are cut by the diagnosis tell more of it than
eight of equal mass. So each column of many ordered cells is asked once with the target, over its finest cells, without
margins (`Session.interactions`; they are known from the columns' shapes), and cut greedily.

*A cut.* Let a run of cells hold m patients, and E_y of them more with outcome y than its share of all patients would
be. Two neighbouring runs differ in the rate of y by ``d_y = E_y / m - E'_y / m'`` with variance ``v_y``: noise
``c (r sigma)^2 (1 - 1/k) / m^2`` of c cells for each side, and sampling, ``q_y (1 - q_y) / m``. A cut must pass a
chi-square test of ``sum d_y^2`` at ``FALSE`` in all, divided by the number of cuts that are compared, and explain
``WORTH`` of the target's variance: ``m m' / (m + m') sum (d_y^2 - v_y)``. The best goes first, `MOST` at most.

*When it is asked.* A tail of a tenth of the patients in an eighth of the cells that differs by the rate d is clear at
three standard deviations of noise where ``d^2 > 9 c s^2 r^2 / (2 rho (n / 10)^2)``. The price is what lets ``FAINT``
through, at most `SHARE` of the budget, and nothing is asked where that would hide ``STRONG``. Targets of several
classes and numbers (in `CLASSES` groups of equal mass) are cut for in the same way.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dpsynth.coding.codec import Codec
from dpsynth.coding.query import Query
from dpsynth.models.plan import PlanItem
from dpsynth.models.tabular.graphical.estimation import centring
from dpsynth.models.tabular.marginals.binning import group
from dpsynth.models.tabular.marginals.one_way import Shape, many_cells
from dpsynth.privacy.session import Session

__all__ = ["cuts_of", "cutter", "planned", "price"]

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

SHARE = 0.06
"""Share of the budget at most; from a sketch on thyroid, where .06 was enough at epsilon 3."""
STRONG = 0.5
"""Difference of rates in a tail that must be clear: what a laboratory value beyond its normal range does."""
FAINT = 0.1
"""Difference of rates in a tail that is looked for where noise is small."""
TAIL, CELLS = 0.1, 0.125
"""The tail that prices are made for: its share of the patients and of the cells."""
DEVIATIONS = 3.0
FALSE = 0.05
"""Chance that noise alone makes any cut."""
WORTH = 0.0005
"""Share of the target's variance that a cut must explain."""
LEAST = 20
"""Patients on either side of a cut at least: fewer tell no rate."""
MOST = 4
"""Cuts of a column at most: of eight states half stay where the patients are."""
CLASSES = 4
"""Groups in which a target of many ordered cells is told."""
FEW = 24
"""States of a target of which every one is told; a target of more unordered values is not cut for."""


def price(columns: int, classes: int, rows: float, sensitivity: float, rho: float) -> float:
    """Return what the tables of so many columns with the target should cost; 0 where they are not worth asking.

    Parameters
    ----------
    columns, classes
        Number of columns to cut, and of the target's groups.
    rows
        Estimated number of patients' rows.
    sensitivity
        Rows a patient may have.
    rho
        What the whole fit may cost.
    """
    if not columns or classes < 2:
        return 0.0
    cells = 64 * CELLS
    unit = DEVIATIONS**2 * cells * sensitivity**2 * (1 - 1 / classes) / (2 * (TAIL * rows) ** 2)
    paid = min(SHARE * rho, columns * unit / FAINT**2)
    return paid if paid >= columns * unit / STRONG**2 else 0.0


def cutter(session: Session, rho: float) -> Callable[[Mapping[str, Shape]], dict[str, list[int]]]:
    """Return a function from the columns' shapes to their cuts, which asks the columns with the target.

    Formal guarantee: one `Session.count` of the target and one `Session.interactions`, which cost at most `SHARE` of
    `rho`. A patient with at most ``cap`` rows moves the count by at most ``cap`` and each table by at most ``cap
    sqrt((1 - 1/cells)(1 - 1/classes))`` (L2), which the session takes for its noise.
    """

    def cut(shapes: Mapping[str, Shape]) -> dict[str, list[int]]:
        codes = target_groups(session.codec, session.schema.target, shapes)
        if codes is None:
            return {}
        rows = session.rows or max(float(np.mean([shape.raw.sum() for shape in shapes.values()])), 1.0)
        names = [name for name in shapes if name != session.schema.target]
        cost = price(len(names), int(codes.max()) + 1, rows, session.sensitivity, rho)
        if cost <= 0:
            return {}
        scaled = {name: shapes[name].smooth * rows / shapes[name].smooth.sum() for name in names}
        return _asked(session, scaled, codes, cost)

    return cut


def target_groups(codec: Codec, target: str | None, shapes: Mapping[str, Shape]) -> Codes | None:
    """Return the class of each fine code of the target; None where there is none or it has too many."""
    if target is None:
        return None
    code = codec.columns[target]
    if target in shapes:
        return group(shapes[target].smooth, code.ordered, CLASSES + code.size - code.ordered)
    return np.arange(code.size) if 1 < code.size <= FEW else None


def _asked(session: Session, mass: Mapping[str, Array], codes: Codes, rho: float) -> dict[str, list[int]]:
    """Ask columns, of whose cells the rows are known, with the classes of the target; return where to cut them."""
    target, each = str(session.schema.target), rho / (len(mass) + 1)
    (told,) = session.count([Query((target,), (codes,))], [each])
    classes = np.maximum(told.counts, 0) / max(float(np.maximum(told.counts, 0).sum()), 1.0)
    queries = [Query((name, target), (np.arange(len(cells)), codes)) for name, cells in mass.items()]
    answers = session.interactions(queries, [each] * len(mass))
    ordered = {name: session.codec.columns[name].ordered for name in mass}
    compared = sum(ordered.values()) - len(ordered)
    cuts = {}
    for (name, cells), answer in zip(mass.items(), answers, strict=True):
        a, b = (centring(size) for size in answer.values.shape)
        excess = (a @ (answer.values - np.outer(cells, classes)) @ b)[: ordered[name]]
        cuts[name] = cuts_of(cells[: ordered[name]], excess, answer.sigma, compared)
    return cuts


def cuts_of(mass: Array, excess: Array, sigma: float, compared: int) -> list[int]:
    """Return where to cut a column, the best cut first; cut c begins a run of cells at cell c.

    Parameters
    ----------
    mass : float array, shape (cells,)
        Rows in each ordered cell.
    excess : float array, shape (cells, classes)
        Measured interaction with the target less that of independence, in rows.
    sigma : float
        Standard deviation of the noise of a cell of it.
    compared : int
        How many cuts are compared in all.
    """
    from scipy.stats import chi2

    classes = excess.shape[1]
    test = float(chi2.isf(FALSE / max(compared, 1), classes - 1)) / (classes - 1)
    edges = [0, len(mass)]
    cuts: list[int] = []
    while len(cuts) < MOST:
        runs = list(pairwise(edges))
        options = [_best(mass[low:high], excess[low:high], sigma, test) for low, high in runs]
        gain, cut = max((gain, low + cut) for (gain, cut), (low, _) in zip(options, runs, strict=True))
        if gain < WORTH * mass.sum() * (1 - 1 / classes):
            break
        cuts.append(cut)
        edges = sorted([*edges, cut])
    return cuts


def _best(mass: Array, excess: Array, sigma: float, test: float) -> tuple[float, int]:
    """Return the gain of the best cut of a run of cells, and the cut; a gain of 0 where none passes."""
    size, classes = excess.shape
    if size < 2:
        return 0.0, 0
    cells = np.arange(1, size)
    left, over = np.cumsum(mass)[:-1], np.cumsum(excess, axis=0)[:-1]
    right, under = mass.sum() - left, excess.sum(axis=0) - over
    left, right = np.maximum(left, 1e-9), np.maximum(right, 1e-9)
    squares = ((over / left[:, None] - under / right[:, None]) ** 2).sum(axis=1)
    free = classes - 1
    noise = free * sigma**2 * (cells / left**2 + (size - cells) / right**2)
    variance = noise + (1 - 1 / classes) * (1 / left + 1 / right)
    passes = (squares > test * variance) & (left >= LEAST) & (right >= LEAST)
    gains = np.where(passes, left * right / (left + right) * (squares - variance), 0.0)
    best = int(np.argmax(gains))
    return float(gains[best]), best + 1


def planned(
    codec: Codec, target: str | None, rows: float, sensitivity: float, rho: float
) -> tuple[list[PlanItem], float]:
    """Return the line of a plan about these tables, if they are worth asking, and what they cost."""
    names = [name for name in many_cells(codec) if name != target]
    if target is None or not names:
        return [], 0.0
    code = codec.columns[target]
    classes = CLASSES + code.size - code.ordered if target in many_cells(codec) else code.size
    cost = price(len(names), classes if classes <= FEW else 0, rows, sensitivity, rho)
    if not cost:
        return [], 0.0
    cells = classes + sum((codec.columns[name].size - 1) * (classes - 1) for name in names)
    sigma = sensitivity * float(np.sqrt((len(names) + 1) * (1 - 1 / classes) / (2 * cost)))
    note = "columns are cut where the target changes; one of the tables is the target alone"
    return [PlanItem("columns with the target, cell by cell", len(names) + 1, cells, sigma, note)], cost
