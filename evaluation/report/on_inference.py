"""The part of the page on regressions."""

from dpsynth.evaluation.report import figures
from dpsynth.evaluation.report.parts import Figure, Section, nothing
from dpsynth.evaluation.report.text import TextTable, number, shown
from dpsynth.evaluation.results import Results

__all__ = ["inference"]


def inference(results: Results, *, withheld: bool = True) -> Section:
    """Return the part on regressions."""
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
        rows = [(result.subject, shown(result), shown(two)) for result, two in zip(real, synthetic, strict=True)]
        table = TextTable("Coefficients", ("Coefficient", "Real patients", "Synthetic (interval too narrow)"), rows)
        drawing = figures.coefficients(real, synthetic, "coefficients")
        caption = "Square: real patients. Circle: the cohort. Numbers enter per standard deviation of real patients."
        drawn.append(Figure("coefficients", "The same regression in both", caption, [("", drawing)], table))
    tables = []
    if agreement:
        rows = [(result.title, shown(result), number(result.n)) for result in agreement]
        tables.append(TextTable("Agreement of the regressions", ("Metric", "Value", "n"), rows))
    if not words and not tables:
        words = [nothing("no regression was named, and the schema's outcome gives none", withheld=withheld)]
    return Section("inference", "Do conclusions agree?", words, drawn, tables)
