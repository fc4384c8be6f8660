"""The part of the page on regressions and on released counts."""

from dpsynth.evaluation.report import figures
from dpsynth.evaluation.report.parts import NOTHING, Figure, Section, kept
from dpsynth.evaluation.report.text import Grid, number, shown
from dpsynth.evaluation.results import Results

__all__ = ["inference"]


def inference(results: Results) -> Section:
    """Return the part on regressions and on released counts."""
    mine = results.select(section="inference")
    real, synthetic = (list(mine.select("coefficient", arm=arm)) for arm in ("real", "synthetic"))
    drawn, words = [], []
    agreement = list(mine.select(("sign_agreement", "interval_overlap", "standardised_difference")))
    if real:
        words.append(
            f"The regression was named before looking: {agreement[0].detail.get('regression', '')}. "
            "Intervals from the cohort take its rows for patients. They leave out the noise that privacy costs, so a "
            "test in the cohort finds effects that are not there too often: do not use them."
        )
        rows = [(one.subject, shown(one), shown(two)) for one, two in zip(real, synthetic, strict=True)]
        table = Grid("Coefficients", ("Coefficient", "Real patients", "Synthetic (interval too narrow)"), rows)
        drawing = figures.coefficients(real, synthetic, "coefficients")
        caption = "Square: real patients. Circle: the cohort. Numbers enter per standard deviation of real patients."
        drawn.append(Figure("coefficients", "The same regression in both", caption, [("", drawing)], table))
    tables = []
    if agreement:
        rows = [(one.title, shown(one), number(one.n)) for one in agreement]
        tables.append(Grid("Agreement of the regressions", ("Metric", "Value", "n"), rows))
    tables += kept([_released(mine)])
    if not words and not tables:
        words = [NOTHING]
    return Section("inference", "Do conclusions agree?", words, drawn, tables, _released_cells(mine))


def _released(results: Results) -> Grid | None:
    rows = []
    for one in results.select("released_tvd"):
        inside = [shown(item) for item in results.select("within_noise", subject=one.subject)]
        alone = number(one.detail.get("noise_alone")) if one.ok else "n/a"
        rows.append((one.subject, shown(one), alone, inside[0] if inside else "n/a"))
    caption = "The cohort against the counts that the budget paid for: post-processing, so it may be published"
    head = ("Table", "TVD to the released counts", "What the noise alone makes", "Cells within the noise")
    return Grid(caption, head, rows) if rows else None


def _released_cells(results: Results) -> list[Grid]:
    grids = []
    for one in results.select("released_tvd"):
        if not one.ok or not one.detail.get("labels"):
            continue
        detail = one.detail
        cells = zip(detail["labels"], detail["counts"], detail["low"], detail["high"], detail["synthetic"], strict=True)
        rows = [
            (label, f"{number(count)} ({number(low, 0)} to {number(high, 0)})", number(mine, 0))
            for label, count, low, high, mine in cells
        ]
        caption = f"Released counts of {one.subject}, with the interval of the exact count that their known noise gives"
        grids.append(Grid(caption, ("Cell", "Released count", "Synthetic, scaled to the same total"), rows))
    return grids
