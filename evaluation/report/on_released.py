"""The tables of the page on counts that the budget paid for."""

from dpsynth.evaluation.report.text import TextTable, number, shown
from dpsynth.evaluation.result import Result
from dpsynth.evaluation.results import Results

__all__ = ["released", "released_cells"]


def released(results: Results) -> TextTable | None:
    """Return how far the cohort is from each released table."""
    rows = []
    for result in results.select("released_tvd"):
        inside = [_cells(item) for item in results.select("within_noise", subject=result.subject)]
        alone, bound = (number(result.detail.get(key)) for key in ("noise_alone", "at_most"))
        gap = f"{result.number:.3f}" if result.ok else shown(result)
        rows.append((result.subject, gap, alone, bound, inside[0] if inside else "n/a"))
    caption = "The cohort against the counts that the budget paid for: post-processing, so it may be published"
    head = (
        "Table",
        "TVD to the released counts",
        "What noise alone makes",
        "TVD to the patients, at most",
        "Cells within noise",
    )
    return TextTable(caption, head, rows) if rows else None


def _cells(result: Result) -> str:
    """Return how many cells of a released table the cohort agrees with."""
    return f"{round(result.number * result.n)} of {result.n}" if result.ok and result.n else shown(result)


def released_cells(results: Results) -> TextTable | None:
    """Return the cells of all released tables with the intervals that their noise gives."""
    rows = []
    for result in results.select("released_tvd"):
        if not result.ok or not result.detail.get("labels"):
            continue
        detail = result.detail
        cells = zip(detail["labels"], detail["counts"], detail["low"], detail["high"], detail["synthetic"], strict=True)
        rows += [
            (f"{result.subject}: {label}", f"{_rows(count)} ({_rows(low)} to {_rows(high)})", _rows(mine))
            for label, count, low, high, mine in cells
        ]
    caption = "Released counts, with the interval of the exact count that their known noise gives"
    return TextTable(caption, ("Cell", "Released count", "Synthetic, scaled to the same total"), rows) if rows else None


def _rows(count: float) -> str:
    """Return a count in whole rows; noise makes some of them negative."""
    return f"{round(count):,}"
