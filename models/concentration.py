"""Columns whose cells are too coarse for where their patients are: a warning from a model alone, so it is public."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from dpsynth.coding.codec import Codec
from dpsynth.columns.kinds import Numeric

__all__ = ["MOST", "concentrated"]

MOST = 0.5
"""Share of a column's measured values in one cell above which the column is named."""
ROWS = 4_000
"""Rows that are drawn to see it: a share of .5 has then a standard error below .01."""


class Drawing(Protocol):
    """A model of which rows can be drawn as codes."""

    codec: Codec

    def sample_codes(
        self, n: int, masks: Mapping[str, np.typing.NDArray[np.bool_]], rng: np.random.Generator
    ) -> dict[str, np.typing.NDArray[Any]]:
        """Draw rows as fine codes."""


def concentrated(model: Drawing) -> tuple[str, ...]:
    """Return a warning for each number of which one finest cell holds more than half.

    Parameters
    ----------
    model
        A fitted model.

    Notes
    -----
    Privacy contract: rows are drawn from the model, which holds noisy answers alone. So this is post-processing, it
    spends nothing and may be published.
    """
    codec = model.codec
    numbers = [name for name in codec.columns if isinstance(codec.flat.columns[name], Numeric)]
    if not numbers:
        return ()
    codes = model.sample_codes(ROWS, {}, np.random.default_rng(0))
    warnings = []
    for name in numbers:
        code, column = codec.columns[name], codec.flat.columns[name]
        counts = np.bincount(codes[name].astype(np.int64), minlength=code.size)[: code.ordered]
        low, high = codec.bounds(name)
        cell = int(counts.argmax())
        if counts[cell] > MOST * counts.sum() and high[cell] > low[cell]:
            assert isinstance(column, Numeric)  # noqa: S101  (chosen so)
            warnings.append(_warning(name, column, code.labels[cell], float(counts[cell] / counts.sum())))
    return tuple(warnings)


def _warning(name: str, column: Numeric, cell: str, share: float) -> str:
    scale = "" if column.scale == "log" else "scale: log (and special: [0] where 0 is a value), "
    return (
        f"column {name!r}: by the model about {share:.0%} of its measured values lie in one cell, {cell}; within it "
        f"synthetic values are spread evenly. Where that matters, declare {scale}cuts inside it, or special for a "
        "value that many patients have, or narrower bounds, from public knowledge. It needs a new fit."
    )
