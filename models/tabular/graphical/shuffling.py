"""Rows in random order within their groups, fast enough for a million rows and a hundred columns."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def shuffled_by_group(groups: NDArray[np.integer[Any]], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the positions of all rows, sorted by group and in random order within each.

    Parameters
    ----------
    groups
        Group of each row, from 0 to `count` - 1.
    count
        Number of groups.
    rng
        Source of randomness.
    """
    order = rng.permutation(len(groups))
    small = groups.astype(np.min_scalar_type(max(count - 1, 0)))  # numpy sorts 16 bits by radix, several times faster
    return np.asarray(order[np.argsort(small[order], kind="stable")], dtype=np.int64)
