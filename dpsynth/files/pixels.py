"""Arrays of pixels as a schema declares them: channels first, clipped to the public range, of the public size."""

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from dpsynth.errors import DataError
from dpsynth.schema.images import Images

__all__ = ["as_declared", "channel_axis", "check_depth", "possible_axes", "sides_of"]

Pixels = npt.NDArray[Any]
_AT_ONCE = 2**23
"""Values that are converted at once, so that what is between input and output stays small."""


def as_declared(arrays: Pixels, images: Images) -> Pixels:
    """Return images as the schema declares them.

    Values outside the range are clipped to it, and one that is not a number becomes the least value of the range; both
    are public rules, so nobody learns whether an image had such values.

    Parameters
    ----------
    arrays
        (images, sides), (images, sides, channels) or (images, channels, sides), of numbers.
    images
        What is declared.

    Returns
    -------
    array
        (images, channels, sides): uint8 where the range is 0 to 255, else float32.

    Raises
    ------
    DataError
        If the number of sides, the channels or, without ``resize``, the size is another one.
    """
    if arrays.dtype.kind not in "biuf":
        raise DataError("images: found pixels that are no real numbers; expected whole or decimal numbers.")
    arrays = _channels_first(arrays, images)
    if arrays.shape[2:] != images.size and not images.resize:
        raise DataError(
            f"images: an image has another size than the declared {sides_of(images.size)}. Correct size in the schema, "
            "or declare resize: true, which stretches or shrinks every image to it."
        )
    if arrays.dtype == np.uint8 and images.dtype == "uint8" and arrays.shape[2:] == images.size:
        return np.ascontiguousarray(arrays)
    pixels = np.empty((len(arrays), *images.shape), images.dtype)
    step = max(1, _AT_ONCE // max(1, math.prod(arrays.shape[1:])))
    for start in range(0, len(arrays), step):
        pixels[start : start + step] = _converted(arrays[start : start + step], images)
    return pixels


def sides_of(size: tuple[int, ...]) -> str:
    """Return a size in words: ``28 x 28``."""
    return " x ".join(map(str, size))


def check_depth(dtype: np.dtype[Any], images: Images | None) -> None:
    """Refuse 8-bit images under a range that ends at 1: all of their pixels would be clipped to one value.

    Raises
    ------
    DataError
        Naming the range to declare.
    """
    if images is not None and dtype == np.uint8 and images.range[1] <= 1:
        raise DataError(
            f"images: pixels are stored as whole numbers from 0 to 255, and the declared range ends at "
            f"{images.range[1]:g}, to which all would be clipped. Declare range: [0, 255]; store masks as booleans."
        )


def possible_axes(shape: tuple[int, ...], images: Images) -> dict[int | None, tuple[int, ...]]:
    """Return which axis of an image of this shape may hold its channels, each with the sides that it leaves.

    The last (-1) or the first (0) axis, where it has as many as there are channels, or None: there is no such axis. Of
    both that one alone is returned which leaves the declared size, if one does.
    """
    if len(shape) == len(images.size) and images.channels == 1:
        return {None: shape}
    if len(shape) != len(images.size) + 1:
        return {}
    ends = {-1: shape[:-1], 0: shape[1:]}
    axes: dict[int | None, tuple[int, ...]] = {a: sides for a, sides in ends.items() if shape[a] == images.channels}
    fitting = {axis: sides for axis, sides in axes.items() if sides == images.size}
    return fitting if len(fitting) == 1 else axes


def channel_axis(shape: tuple[int, ...], images: Images) -> int | None:
    """Return the one axis of `possible_axes`.

    Raises
    ------
    DataError
        If there is none, or there are two.
    """
    axes, channels = possible_axes(shape, images), images.channels
    if not axes:
        raise DataError(
            f"images: an image has another number of sides or channels than declared; expected {len(images.size)} "
            f"sides and {channels} channel{'s' if channels > 1 else ''}, first or last. Correct size and channels in "
            "the schema."
        )
    if len(axes) > 1:
        raise DataError(
            f"images: the first and the last axis of an image both have {channels}, and either may be its channels. "
            "Store images with the channels last and in the declared size."
        )
    return next(iter(axes))


def _channels_first(arrays: Pixels, images: Images) -> Pixels:
    axis = channel_axis(arrays.shape[1:], images)
    if axis is None:
        return arrays[:, None]
    return np.moveaxis(arrays, -1, 1) if axis == -1 else arrays


def _converted(arrays: Pixels, images: Images) -> Pixels:
    low, high = images.range
    with np.errstate(all="ignore"):  # a warning would tell that somebody has such a value
        wide = arrays.astype(np.float64)
    values = np.clip(np.nan_to_num(wide, nan=low, posinf=high, neginf=low), low, high)
    for axis, side in enumerate(images.size, start=2):
        if values.shape[axis] != side:
            values = np.moveaxis(np.moveaxis(values, axis, -1) @ _weights(values.shape[axis], side), -1, axis)
    if images.dtype == "uint8":
        values = np.rint(values)
    # weights add up to 1 but for rounding
    return np.asarray(np.clip(values, low, high).astype(images.dtype))


@lru_cache(maxsize=64)
def _weights(before: int, after: int) -> npt.NDArray[np.float64]:
    """Return (before, after) weights that bring a side from one length to another; each column adds up to 1.

    A shorter side takes the mean over the area that each new pixel covers; a longer one is interpolated linearly
    between the centres of the old pixels.
    """
    if before < 1:
        raise DataError("images: an image has a side without pixels; take it out of the data.")
    places = np.arange(before)[:, None]
    scale = before / after
    if after < before:
        edges = np.arange(after + 1) * scale
        covered = np.minimum(places + 1, edges[1:]) - np.maximum(places, edges[:-1])
        weights = np.maximum(covered, 0)
    else:
        centres = np.clip((np.arange(after) + 0.5) * scale - 0.5, 0, before - 1)
        weights = np.maximum(1 - np.abs(places - centres), 0)
    return np.asarray(weights / weights.sum(axis=0))
