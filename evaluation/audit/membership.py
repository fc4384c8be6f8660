"""Membership and attribute inference against synthetic rows, group by group: whether the scarce are more exposed.

These attacks know the synthetic rows alone. They show what a realistic attacker gains, not a bound on epsilon, and what
they do not find is not shown to be safe. All numbers touch real patients: they are internal, unless these are public.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.errors import InputError
from dpsynth.evaluation.arrays.groups import grouping
from dpsynth.evaluation.arrays.table import Floats, Table
from dpsynth.evaluation.learners.tabular import fit_predict, one_thread, task_of
from dpsynth.evaluation.statistics.neighbours import embed

__all__ = ["Exposure", "attribute_inference", "density_ratio", "features", "groups_of", "membership", "shadow_scores"]

NEIGHBOURS = (1, 5, 20)
SMALLEST = 10
"""Members and others of a group that a rate needs."""
BLOCK = 500
LEVEL_95 = 1.959964


@dataclass(frozen=True)
class Exposure:
    """The success of an attack on one group of patients, with its interval.

    Parameters
    ----------
    attack, group : str
        Who attacked; ``all``, or a group such as ``sex=female``.
    members, others : int
        Patients that the model was fitted on, and patients like them that it was not.
    value : float or None
        AUROC of telling them apart (0.5 shows nothing); for attribute inference the hit rate on members minus that on
        others (0 shows nothing). None where the group is too small.
    low, high : float or None
        95 % interval over patients.
    detail : dict of str to float, optional
        Hit rates of attribute inference.
    """

    attack: str
    group: str
    members: int
    others: int
    value: float | None
    low: float | None = None
    high: float | None = None
    detail: dict[str, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the exposure as JSON-able values."""
        return asdict(self)


def features(reference: Table, synthetic: Table, patients: Table) -> Floats:
    """Return, for each patient, log distances to the 1st, 5th and 20th nearest synthetic and reference row.

    Parameters
    ----------
    reference : Table
        Real rows of nobody who is judged: what is ordinary in the population.
    synthetic : Table
        The rows that were released.
    patients : Table
        Whose membership is guessed.

    Returns
    -------
    ndarray, shape (patients, 6)
        Synthetic first.
    """
    points = embed(reference, patients)
    return np.hstack([_log_distances(points, embed(reference, other)) for other in (synthetic, reference)])


def density_ratio(scores: Floats) -> Floats:
    """Return the score of the density-ratio attack (after van Breugel et al. 2023) from `features`.

    By nearest neighbours the logarithm of the ratio of densities is, up to a factor and a constant, the difference of
    log distances: higher where a synthetic row lies closer than one of the population.

    Parameters
    ----------
    scores : ndarray, shape (patients, 6)

    Returns
    -------
    ndarray, shape (patients,)

    Examples
    --------
    >>> density_ratio(np.array([[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]])).tolist()
    [3.0]
    """
    return np.asarray(scores[:, len(NEIGHBOURS)] - scores[:, 0])


def shadow_scores(
    draw: Callable[[Table], Table],
    population: Table,
    reference: Table,
    released_scores: Floats,
    *,
    shadows: int = 4,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> Floats:
    """Return the scores of the shadow-model attack: what shadows show of membership is learned and applied.

    Parameters
    ----------
    draw : callable
        Fits the audited model on some patients and returns synthetic rows.
    population : Table
        Patients of the attacker's own; half of them, by turns, are in each shadow.
    reference : Table
        As for `features`.
    released_scores : ndarray, shape (patients, 6)
        `features` of the patients that are judged.
    shadows : int
        How many models to fit.
    seed : int
        Which patients are in which shadow.
    progress : callable, optional
        Called with the share of the shadows that are done.

    Returns
    -------
    ndarray of float, shape (patients,)
        Higher says member.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    rng, rows, labels = np.random.default_rng(seed), [], []
    count = int(population.patients.max()) + 1
    for shadow in range(shadows):
        chosen = rng.permutation(count) < count // 2
        inside = chosen[population.patients]
        rows.append(features(reference, draw(population.take(np.flatnonzero(inside))), population))
        labels.append(inside)
        if progress is not None:
            progress((shadow + 1) / shadows)
    examples, truth = np.vstack(rows), np.concatenate(labels)
    scale = StandardScaler().fit(examples)
    with one_thread():
        model = LogisticRegression(max_iter=1000).fit(scale.transform(examples), truth)
        scores: Floats = model.decision_function(scale.transform(released_scores))
    return scores


def membership(attack: str, scores: Floats, is_member: NDArray[np.bool_], groups: "Groups") -> list[Exposure]:
    """Return how well scores tell members from others, over all patients and in each group.

    Parameters
    ----------
    attack : str
        A name.
    scores, is_member : ndarray
        Shape (patients,); higher says member.
    groups : sequence of (str, ndarray of int)
        Of `groups_of`, for the same patients.

    Returns
    -------
    list of Exposure
        One for each group.
    """
    return [_auroc(attack, label, scores[rows], is_member[rows]) for label, rows in groups]


Groups = Sequence[tuple[str, NDArray[Any]]]
"""Names of groups and the rows of each."""


def groups_of(patients: Table, columns: Iterable[str | Sequence[str]]) -> Groups:
    """Return all patients, and the groups that columns make of them."""
    groups: list[tuple[str, NDArray[Any]]] = [("all", np.arange(len(patients)))]
    for column in columns:
        rule = grouping(patients, column)
        codes = rule.codes(patients)
        groups += [(label, np.flatnonzero(codes == code)) for code, label in enumerate(rule.labels)]
    return [(label, rows) for label, rows in groups if len(rows)]


def attribute_inference(
    column: str,
    synthetic: Table,
    members: Table,
    others: Table,
    columns: Iterable[str | Sequence[str]] = (),
    *,
    seed: int = 0,
) -> list[Exposure]:
    """Guess a column of patients from all their other columns, with what the synthetic rows teach.

    What an attacker learns of people in general is learned with or without a patient, so the hit rate on members is set
    beside that on others, who were not in the data. Only the difference is the patient's own.

    Parameters
    ----------
    column
        A column with categories.
    synthetic, members, others
        The released rows; patients that the model was fitted on; patients like them that it was not.
    columns
        Columns that make groups.
    seed
        Of the learner.

    Raises
    ------
    InputError
        If the column has no categories.
    """
    task = task_of(synthetic, column)
    if task.kind == "numeric":
        raise InputError(f"attribute {column!r}: is a number; name a column with categories.")
    guess = fit_predict(synthetic, task, "gradient boosting", seed)
    hits = []
    for patients in (members, others):
        labelled = task.known(patients)
        hits.append((guess(labelled).guesses == np.asarray(task.truth(labelled)).astype(np.int64), labelled))
    mine, theirs = (dict(groups_of(table, columns)) for _, table in hits)
    return [
        _gap(column, label, hits[0][0][rows], hits[1][0][theirs.get(label, np.array([], dtype=int))])
        for label, rows in mine.items()
    ]


def _log_distances(points: Floats, others: Floats) -> Floats:
    """Return (points, 3) logs of the distance to the 1st, 5th and 20th of the other points; finite for equal ones."""
    far = max(NEIGHBOURS)
    if len(others) <= far:
        raise InputError(f"membership: found {len(others)} rows to compare with, expected more than {far}.")
    squares = (others**2).sum(axis=1)
    logarithms = []
    for start in range(0, len(points), BLOCK):
        block = points[start : start + BLOCK]
        distances = np.maximum((block**2).sum(axis=1)[:, None] + squares[None] - 2 * block @ others.T, 0)
        nearest = np.partition(distances, [k - 1 for k in NEIGHBOURS], axis=1)
        logarithms.append(nearest[:, [k - 1 for k in NEIGHBOURS]])
    return np.asarray(np.log(np.sqrt(np.vstack(logarithms)) + 1e-3))


def _auroc(attack: str, group: str, scores: Floats, is_member: NDArray[np.bool_]) -> Exposure:
    """Return the AUROC with the interval of DeLong et al. 1988."""
    mine, others = np.sort(scores[is_member]), np.sort(scores[~is_member])
    m, n = len(mine), len(others)
    if min(m, n) < SMALLEST:
        return Exposure(attack, group, m, n, None)
    above = _shares_below(others, mine)
    below = 1 - _shares_below(mine, others)
    value = float(above.mean())
    error = LEVEL_95 * math.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n)
    return Exposure(attack, group, m, n, value, max(0.0, value - error), min(1.0, value + error))


def _shares_below(ordered: Floats, points: Floats) -> Floats:
    """Return for each point the share of ordered values below it, ties counted half."""
    left, right = (np.searchsorted(ordered, points, side) for side in ("left", "right"))
    return np.asarray((left + right) / (2 * len(ordered)))


def _gap(column: str, group: str, mine: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> Exposure:
    """Return the difference of two hit rates with the interval of Newcombe 1998, method 10."""
    m, n = len(mine), len(theirs)
    name = f"attribute {column}"
    if min(m, n) < SMALLEST:
        return Exposure(name, group, m, n, None)
    (p, low, high), (q, other_low, other_high) = (_wilson(hits) for hits in (mine, theirs))
    down = math.hypot(p - low, other_high - q)
    up = math.hypot(high - p, q - other_low)
    return Exposure(name, group, m, n, p - q, p - q - down, p - q + up, {"members": p, "others": q})


def _wilson(hits: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Return a rate and its Wilson interval."""
    n, p, z = len(hits), float(hits.mean()), LEVEL_95
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return p, middle - half, middle + half
