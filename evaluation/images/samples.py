"""A few synthetic images of each class and group, to be looked at. Never beside a real image."""

import base64
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.evaluation.arrays.groups import Grouping, grouping
from dpsynth.evaluation.arrays.table import Ints, Table
from dpsynth.evaluation.images.pictures import Pictures
from dpsynth.evaluation.learners.lesson import unit
from dpsynth.evaluation.protocol import Protocol
from dpsynth.evaluation.result import Disclosure, Result, estimate

__all__ = ["png", "sample_results"]

Pixels = NDArray[np.uint8]

SIDE = 64
"""Larger images are shown smaller."""
ACROSS = 10
"""Images in a row."""
ROWS = 40


def png(pixels: Pixels) -> bytes:
    """Return a PNG file of 8-bit pixels, shape (height, width) for grey or (height, width, 3) for colour.

    Examples
    --------
    >>> png(np.zeros((2, 3), np.uint8))[1:4]
    b'PNG'
    """
    from PIL import Image

    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return file.getvalue()


def sample_results(
    synthetic: Pictures | None, target: str | None, groupings: Sequence[Grouping], terms: Protocol
) -> list[Result]:
    """Return grids of synthetic images drawn at random: a row per class, and for each grouping a row per group.

    They touch the synthetic cohort only, so that they may be published; one that is neither synthetic nor public gives
    none.
    """
    if synthetic is None or not synthetic.table.public:
        return []
    classes = _classes(synthetic.table, target)
    rows = [division for division in (classes, *groupings) if division is not None and len(division.labels) > 1]
    rows = rows or [Grouping("all", (), ("all images",), {})]
    return [_grid(synthetic, division, classes if division is not classes else None, terms) for division in rows]


def _classes(table: Table, target: str | None) -> Grouping | None:
    return grouping(table, target) if target is not None and target in table.variables else None


def _grid(synthetic: Pictures, rows: Grouping, columns: Grouping | None, terms: Protocol) -> Result:
    """Return one grid: images of the row's group, one after the other of each class where there are `columns`."""
    rng = np.random.default_rng(terms.seed)
    codes = rows.codes(synthetic.table)
    of_column = columns.codes(synthetic.table) if columns is not None else np.zeros(len(codes), dtype=np.int64)
    strips = []
    shown = 0
    for code in np.unique(codes)[:ROWS]:
        chosen = _chosen(np.flatnonzero(codes == code), of_column, rng)
        shown += len(chosen)
        strip = _strip(synthetic, chosen)
        image = base64.b64encode(png(strip)).decode("ascii")
        strips.append({"label": rows.labels[code], "png": image, "width": strip.shape[1], "height": strip.shape[0]})
        strips[-1]["n"] = int((codes == code).sum())
    detail: dict[str, Any] = {"grouping": rows.name, "rows": strips, "columns": columns.name if columns else ""}
    detail |= {"left_out": max(0, len(np.unique(codes)) - ROWS), "size": list(synthetic.store.shape[2:])}
    return estimate(
        "image_samples", shown, n=len(synthetic), subject=rows.name, disclosure=Disclosure.PUBLIC, detail=detail
    )


def _chosen(places: Ints, columns: Ints, rng: np.random.Generator) -> Ints:
    """Return up to ten images of a group, taking turns between the classes, in the order of the classes."""
    mixed = rng.permutation(places)
    turn = np.zeros(len(mixed), dtype=np.int64)
    for code in np.unique(columns[mixed]):
        own = np.flatnonzero(columns[mixed] == code)
        turn[own] = np.arange(len(own))
    first = mixed[np.argsort(turn, kind="stable")][:ACROSS]
    ordered: Ints = first[np.argsort(columns[first], kind="stable")]
    return ordered


def _strip(synthetic: Pictures, chosen: Ints) -> Pixels:
    """Return images side by side with a white line between them; of a volume its middle slice, grey or in colour."""
    pixels = synthetic.pixels[chosen]
    if pixels.ndim == 5:
        pixels = pixels[:, :, pixels.shape[2] // 2]
    pixels = pixels[:, :3] if pixels.shape[1] >= 3 else pixels[:, :1]
    shown = np.rint(255 * np.clip(unit(pixels, synthetic.span, SIDE * SIDE), 0, 1)).astype(np.uint8)
    images = [np.moveaxis(np.pad(image, ((0, 0), (0, 0), (0, 1)), constant_values=255), 0, -1) for image in shown]
    strip = np.concatenate(images, axis=1)[:, :-1]
    return strip if strip.shape[2] == 3 else strip[:, :, 0]
