"""Two-world games: many independent fits with and without a canary, and what an attack makes of each.

A `Game` is whatever fits once in a world and returns what an attack saw; models come in through it, from outside.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpsynth.errors import InputError

__all__ = ["Game", "Seen", "Separator", "play", "separator"]

Floats = NDArray[np.float64]
BATCH = 10
"""Runs that a process makes in each world before it reports."""


class Game(Protocol):
    """One fit in one world. With several processes it is pickled, so it is an instance of a class of a module."""

    def __call__(self, inside: bool) -> Mapping[str, ArrayLike]:
        """Fit with or without the canary; return a number or a vector of numbers for each attack."""
        ...


@dataclass
class Seen:
    """The scores that the attacks gave to each run of each world.

    Attributes
    ----------
    out, inside
        For each attack one entry a run of the world without and with the canary, in the order they were made.
    """

    out: dict[str, list[Floats]] = field(default_factory=dict)
    inside: dict[str, list[Floats]] = field(default_factory=dict)

    def add(self, scores: Mapping[str, ArrayLike], *, inside: bool) -> None:
        """Keep what one run showed."""
        world = self.inside if inside else self.out
        for name, value in scores.items():
            world.setdefault(name, []).append(np.asarray(value, dtype=np.float64))

    @property
    def runs(self) -> int:
        """Runs of the world that has fewer."""
        return min((len(values) for world in (self.out, self.inside) for values in world.values()), default=0)

    def scores(self, attack: str) -> tuple[Floats, Floats]:
        """Return what an attack saw, shape (runs,) or (runs, features), equally many of each world."""
        return np.array(self.out[attack][: self.runs]), np.array(self.inside[attack][: self.runs])


def play(game: Game, runs: int, *, workers: int = 1, progress: Callable[[float], None] | None = None) -> Iterator[Seen]:
    """Play a game in both worlds by turns; yield what was seen so far, after every batch.

    Stopping early is safe as long as nobody looked at the scores to decide it.

    Parameters
    ----------
    game : Game
        What to play.
    runs : int
        Fits in each world.
    workers : int
        Processes; with 1 the game is played here.
    progress : callable, optional
        Called with the share of the runs that are done.

    Yields
    ------
    Seen
        The same object each time, with what all runs so far showed.

    Raises
    ------
    InputError
        If `runs` or `workers` is below 1.
    """
    if runs < 1 or workers < 1:
        raise InputError(f"audit: found {runs} runs and {workers} workers, expected 1 or more.")
    seen, say = Seen(), progress or (lambda _share: None)
    sizes = [min(BATCH, runs - start) for start in range(0, runs, BATCH)]
    for batch in _batches(game, sizes, workers):
        for inside, scores in batch:
            seen.add(scores, inside=inside)
        say(seen.runs / runs)
        yield seen


def _batches(game: Game, sizes: Sequence[int], workers: int) -> Iterator[list[tuple[bool, Mapping[str, ArrayLike]]]]:
    if workers == 1:
        yield from (_batch(game, size) for size in sizes)
        return
    from multiprocessing import get_context

    # A fresh interpreter each: a fork would share the state of random generators of threads.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_leave_interrupts_to_the_parent)
    try:
        yield from pool.map(_batch, [game] * len(sizes), sizes)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _batch(game: Game, size: int) -> list[tuple[bool, Mapping[str, ArrayLike]]]:
    return [(inside, game(inside)) for _ in range(size) for inside in (False, True)]


def _leave_interrupts_to_the_parent() -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


@dataclass(frozen=True)
class Separator:
    """A linear test that was learned on some runs, and the scores of the others.

    Parameters
    ----------
    out, inside
        Scores of the runs that nothing was learned on; above 0 says inside.
    """

    out: Floats
    inside: Floats


def separator(out: Floats, inside: Floats) -> Separator:
    """Learn Fisher's linear discriminant on the first half of each world's runs, and score the second half.

    The threshold 0 lies midway between the worlds' means of the first half, so it is fixed before the second half is
    looked at.

    Parameters
    ----------
    out, inside
        Shape (runs, features); at least 4 runs.
    """
    (first, rest), (with_first, with_rest) = ((w[: len(w) // 2], w[len(w) // 2 :]) for w in (out, inside))
    middle = (first.mean(axis=0) + with_first.mean(axis=0)) / 2
    within = np.vstack([first - first.mean(axis=0), with_first - with_first.mean(axis=0)])
    spread = np.maximum(within.std(axis=0), 1e-9)
    covariance = np.cov(within / spread, rowvar=False, ddof=0).reshape(len(middle), -1)
    ridge = covariance + (1e-3 + len(middle) / len(within)) * np.eye(len(middle))
    weights = np.linalg.solve(ridge, (with_first.mean(axis=0) - first.mean(axis=0)) / spread)
    return Separator((rest - middle) / spread @ weights, (with_rest - middle) / spread @ weights)
