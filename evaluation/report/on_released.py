"""The tables of the page on counts that the budget paid for."""

from dpsynth.evaluation.report.text import Grid, number, shown
from dpsynth.evaluation.results import Results

__all__ = ["released", "released_cells"]


def released(results: Results) -> Grid | None:
    """Return how far the cohort is from each released table."""
    rows = []
    for one in results.select("released_tvd"):
        inside = [shown(item) for item in results.select("within_noise", subject=one.subject)]
        alone, bound = (number(one.detail.get(key)) for key in ("noise_alone", "at_most"))
        rows.append((one.subject, shown(one), alone, bound, inside[0] if inside else "n/a"))
    caption = "The cohort against the counts that the budget paid for: post-processing, so it may be published"
    head = (
        "Table",
        "TVD to the released counts",
        "What noise alone makes",
        "TVD to the patients, at most",
        "Cells within noise",
    )
    return Grid(caption, head, rows) if rows else None


def released_cells(results: Results) -> Grid | None:
    """Return the cells of all released tables with the intervals that their noise gives."""
    rows = []
    for one in results.select("released_tvd"):
        if not one.ok or not one.detail.get("labels"):
            continue
        detail = one.detail
        cells = zip(detail["labels"], detail["counts"], detail["low"], detail["high"], detail["synthetic"], strict=True)
        rows += [
            (f"{one.subject}: {label}", f"{number(count)} ({number(low, 0)} to {number(high, 0)})", number(mine, 0))
            for label, count, low, high, mine in cells
        ]
    caption = "Released counts, with the interval of the exact count that their known noise gives"
    return Grid(caption, ("Cell", "Released count", "Synthetic, scaled to the same total"), rows) if rows else None
