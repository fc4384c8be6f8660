"""Where rows lie among each other: precision, recall, density and coverage.

Kynkäänniemi et al. 2019 (precision, recall) and Naeem et al. 2020, eq. 3-6 (density, coverage), with k = 5 neighbours.
"""

from dataclasses import dataclass

import numpy as np

from dpsynth.evaluation.arrays.table import Floats, Table

__all__ = ["K", "Prdc", "embed", "prdc"]

K = 5


@dataclass(frozen=True)
class Prdc:
    """Precision, recall, density and coverage of each row by itself; the metric is the mean over rows.

    Parameters
    ----------
    precision, density : ndarray, shape (synthetic rows,)
    recall, coverage : ndarray, shape (real rows,)
    """

    precision: Floats
    recall: Floats
    density: Floats
    coverage: Floats


def embed(reference: Table, table: Table) -> Floats:
    """Return rows as points, shape (rows, features).

    A number becomes its rank among the reference's values (0 to 1), so that no laboratory value with a long tail
    rules the distances; a category becomes indicators of length 1/sqrt(2), so that two categories are 1 apart.
    Missing is a state 1 away from the middle of the numbers, and a category of its own.
    """
    blocks = []
    for name, variable in table.variables.items():
        if variable.categories is None:
            ranked = np.sort(reference[name].values[~reference[name].missing])
            rank = np.searchsorted(ranked, variable.values, "left") + np.searchsorted(ranked, variable.values, "right")
            scaled = rank / (2 * max(len(ranked), 1))
            blocks += [np.where(variable.missing, 0.5, scaled), variable.missing.astype(np.float64)]
        else:
            codes = np.arange(-1, len(variable.categories))
            blocks.append((variable.values[:, None] == codes) / np.sqrt(2))
    return np.column_stack(blocks).astype(np.float64)


def _distances(left: Floats, right: Floats) -> Floats:
    """Return squared Euclidean distances, shape (left rows, right rows)."""
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None] - 2 * left @ right.T
    positive: Floats = np.maximum(squares, 0)
    return positive


def _radii(points: Floats, k: int) -> Floats:
    """Return the squared distance of each point to its k-th neighbour among the others."""
    among = _distances(points, points)
    np.fill_diagonal(among, -1.0)  # itself comes first, also where rounding or twins give 0
    radii: Floats = np.partition(among, k, axis=1)[:, k]
    return radii


def prdc(real: Floats, synthetic: Floats, k: int = K) -> Prdc:
    """Return precision, recall, density and coverage row by row.

    Parameters
    ----------
    real, synthetic : ndarray, shape (rows, features)
        More than `k` rows each; about 5,000 rows need 200 MB a table of distances.
    k : int
        Neighbours that make a row's neighbourhood.
    """
    between = _distances(real, synthetic)
    # rounding of squared distances must not put a row outside of its own twin's neighbourhood
    real_radii, synthetic_radii = _radii(real, k) + 1e-9, _radii(synthetic, k) + 1e-9
    inside = between <= real_radii[:, None]
    return Prdc(
        precision=np.asarray(inside.any(axis=0), dtype=np.float64),
        recall=np.asarray((between <= synthetic_radii[None]).any(axis=1), dtype=np.float64),
        density=inside.sum(axis=0) / k,
        coverage=np.asarray(inside.any(axis=1), dtype=np.float64),
    )
