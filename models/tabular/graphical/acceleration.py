"""Extrapolation of a slowly converging sequence of parameters.

Source: Walker and Ni (2011), Anderson acceleration for fixed-point iterations.
"""

from collections import deque

import numpy as np

from dpsynth.models.tabular.graphical.propagation import Array


class Anderson:
    """Anderson acceleration: combine the last sweeps so that their changes cancel as well as they can.

    Parameters
    ----------
    memory
        How many sweeps are combined.
    """

    def __init__(self, memory: int = 6):
        self._starts: deque[Array] = deque(maxlen=memory + 1)
        self._ends: deque[Array] = deque(maxlen=memory + 1)

    def propose(self, start: Array, end: Array, weights: Array) -> Array | None:
        """Take note of a sweep and return where the sequence seems to lead, None until there are two sweeps.

        Parameters
        ----------
        start, end
            Parameters before and after the sweep.
        weights
            What a change of each parameter weighs.
        """
        self._starts.append(start)
        self._ends.append(end)
        if len(self._ends) < 2:
            return None
        changes = np.stack(self._ends) - np.stack(self._starts)
        bends = np.diff(changes, axis=0) * weights
        shares = np.linalg.lstsq(bends.T, changes[-1] * weights, rcond=1e-8)[0]
        return np.asarray(end - shares @ np.diff(np.stack(self._ends), axis=0))

    def forget(self) -> None:
        """Start anew: the last proposal was no good."""
        self._starts.clear()
        self._ends.clear()
