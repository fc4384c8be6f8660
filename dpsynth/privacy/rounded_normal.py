"""Exact sampling of a normal number rounded to a whole one, from a uniform number with bits drawn as needed.

Let U be uniform on (0, 1/2] and ``|N| = -Phi^-1(U)``. Then ``round(sigma |N|) = n`` where

    ``Phi(-(n + 1/2) / sigma) <= U < Phi(-(n - 1/2) / sigma)``

(for n = 0 without the upper end). After w bits U is known to lie in ``[head, head + 1) 2^-w``. If both ends of that
interval are in the same cell, n is decided, whatever the further bits would be; if not, more bits are drawn. So the
result has the law of a rounded normal, for every whole number however far out: no number of bits is fixed beforehand.
The cells' ends are found to `GUARD` more bits than U has, and what is closer to an end than that stays undecided.
"""

import math
import os
from typing import Any

MORE = 128
GUARD = 64


def rounded(head: int, width: int, sigma: float) -> int:
    """Return ``round(sigma |N|)`` for a U that begins with these bits; draws more where they do not decide it.

    Parameters
    ----------
    head, width
        U is in ``[head, head + 1) 2^-width``, within (0, 1/2].
    sigma
        Standard deviation, at least 1.
    """
    while True:
        head, width = (head << MORE) | int.from_bytes(os.urandom(MORE // 8), "little"), width + MORE
        if head.bit_length() > MORE // 2:  # else U is hardly known, relative to itself
            whole = _cell(head, width, sigma)
            if whole is not None:
                return whole


def _cell(head: int, width: int, sigma: float) -> int | None:
    """Return the one cell in which the whole interval lies, or None."""
    import mpmath
    from scipy.special import ndtri_exp

    with mpmath.workprec(head.bit_length() + GUARD + 32):  # 32: what the last operations may lose
        low, high = (mpmath.ldexp(end, -width) for end in (head, head + 1))
        whole = max(0, round(-sigma * float(ndtri_exp(float(mpmath.log(low))))))
        while low < _below(whole, sigma):
            whole += 1
        while whole and low >= _below(whole - 1, sigma):
            whole -= 1
        closeness = mpmath.ldexp(1, -head.bit_length() - GUARD)
        above = _below(whole - 1, sigma) if whole else math.inf
        decided = low >= _below(whole, sigma) * (1 + closeness) and high <= above * (1 - closeness)
    return whole if decided else None


def _below(whole: int, sigma: float) -> Any:
    """Return the chance of a normal number below ``-(whole + 1/2) / sigma``, in mpmath's present precision."""
    import mpmath

    return mpmath.ncdf(-(mpmath.mpf(whole) + 0.5) / mpmath.mpf(sigma))
