"""The release's own report: the privacy statement, and the synthetic cohort beside the counts that were paid for."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dpsynth.coding.codec import Codec
from dpsynth.coding.query import Query
from dpsynth.cohort.cohort import Cohort
from dpsynth.privacy.tables.counting import contingency
from dpsynth.publishing.bundle import Page

if TYPE_CHECKING:
    from dpsynth.evaluation.metrics.released import ReleasedCounts

__all__ = ["public_page"]

READABLE = 12
"""Tables with more cells are summed up, not listed."""


class Releasable(Protocol):
    """What a page needs of a model: its codec and the noisy counts that it keeps."""

    codec: Codec

    def released(self) -> Sequence[Any]:
        """Return the noisy counts that the model was built from."""


def public_page(model: Releasable, synthetic: Cohort) -> Page:
    """Return a function that writes the page of a release, and beside it the same numbers as JSON.

    Privacy contract: touches the model, the synthetic cohort and the schema, which are public; the renderer refuses
    every number that is not.

    Parameters
    ----------
    model : Model
        The fitted model, whose noisy counts stand beside those of the rows.
    synthetic : Cohort
        The released rows.

    Returns
    -------
    callable
        Takes the path of the page and the privacy statement.
    """
    from dpsynth.evaluation import describe

    released = _released(model, synthetic)

    def write(path: Path, statement: Mapping[str, Any]) -> None:
        report = describe(synthetic, released=released, statement=statement)
        report.write_html(path, public=True)
        report.write_json(path.with_suffix(".json"), public=True)

    return write


def _released(model: Releasable, synthetic: Cohort) -> "list[ReleasedCounts]":
    """Count the synthetic cohort in the cells of the model's noisy counts."""
    from dpsynth.evaluation.metrics.released import ReleasedCounts

    tables, codec = model.released(), model.codec
    queries = [Query(table.columns, table.maps) for table in tables]
    counts = contingency(codec.encode(synthetic), len(synthetic), queries) if queries else []
    return [
        ReleasedCounts(table.columns, table.counts, table.sigma, own, _cell_names(codec, query))
        for table, query, own in zip(tables, queries, counts, strict=True)
    ]


def _cell_names(codec: Codec, query: Query) -> tuple[str, ...]:
    """Return a name for each cell of a small table, in C order; nothing for a table too large to read."""
    if query.size > READABLE:
        return ()
    names = []
    for column, cells in zip(query.columns, query.maps, strict=True):
        labels = codec.columns[column].labels
        fine = [[labels[code] for code in np.flatnonzero(cells == cell)] for cell in range(int(cells.max()) + 1)]
        names.append([" ... ".join(dict.fromkeys((*inside[:1], *inside[-1:]))) for inside in fine])
    return tuple(", ".join(parts) for parts in itertools.product(*names))
