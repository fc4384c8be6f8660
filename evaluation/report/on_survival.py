"""The part of the page on outcomes in time."""

from dpsynth.evaluation.catalogue import SHORT
from dpsynth.evaluation.report import figures
from dpsynth.evaluation.report.parts import Figure, Section, nothing
from dpsynth.evaluation.report.text import TextTable, number, shown
from dpsynth.evaluation.result import Result
from dpsynth.evaluation.results import Results

__all__ = ["survival"]

_WORDS = (
    "Time until the event: how long patients stay without it, and whether models that learn from the cohort rank and "
    "foresee the test patients' events as well as models that learn from real ones. The time itself predicts nothing."
)
_TIME = ("rmst", "rmst_difference", "curve_distance", "logrank_p")
_MODELS = ("c_harrell", "c_uno", "brier_integrated", "c_change")


def survival(results: Results, *, withheld: bool = True) -> Section:
    """Return the part on outcomes in time."""
    mine = results.select(section="survival")
    if not any(result.ok for result in mine):
        reasons = list(dict.fromkeys(result.reason for result in mine if result.reason))
        words = nothing(*(reasons[:1] or ["no event was seen"]), withheld=withheld)
        return Section("survival", "Does follow-up agree?", [words])
    labels = dict.fromkeys(result.subject for result in mine.select("rmst"))
    drawn = [_curves(place, label, mine) for place, label in enumerate(labels)]
    tables = [
        _table("Time without the event", mine, _TIME, key="Event"),
        _table("Models of the time", mine, _MODELS, key="Model"),
    ]
    more = [
        _groups(mine),
        _table("Observed less predicted share with the event", mine, ("survival_calibration",), key="Model and time"),
        _hazards(mine),
    ]
    return Section(
        "survival", "Does follow-up agree?", [_WORDS], drawn, tables, [table for table in more if table.rows]
    )


def _curves(place: int, label: str, results: Results) -> Figure:
    arms = [result for result in results.select("rmst") if result.subject == label and result.ok]
    title = f"Share of patients without the event{f' ({label})' if label else ''}"
    rows = [(SHORT.get(result.arm, result.arm), shown(result), number(result.n)) for result in arms]
    table = TextTable("Restricted mean", ("Arm", "Mean time without the event", "n"), rows)
    key = f"survival-{place}"
    caption = (
        "Black: test patients. Bands: intervals, of each cohort by itself; the horizon is where one in ten is left."
    )
    drawing = figures.survival_curves(arms, key, title=title)
    return Figure(key, title, caption, [("", drawing)], table)


def _table(title: str, results: Results, metrics: tuple[str, ...], *, key: str) -> TextTable:
    """Return a table with a row for each number, in the order of metrics."""
    rows = [
        (result.title, result.subject, SHORT.get(result.arm, result.arm), shown(result), number(result.n))
        for metric in metrics
        for result in results.select(metric)
    ]
    return TextTable(title, ("Metric", key, "Arm", "Value", "n"), rows)


def _groups(results: Results) -> TextTable:
    metrics = ("group_rmst_difference", "group_c", "group_c_change")
    rows = [
        (result.group, result.title, result.subject, SHORT.get(result.arm, result.arm), shown(result), number(result.n))
        for metric in metrics
        for result in results.select(metric)
    ]
    return TextTable("Follow-up in groups", ("Group", "Metric", "Model", "Arm", "Value", "n"), rows)


def _hazards(results: Results) -> TextTable:
    sides: dict[str, dict[str, Result]] = {}
    for result in results.select("cox_coefficient"):
        sides.setdefault(result.subject, {})[result.arm] = result
    rows = [
        (name, shown(pair["real"]), shown(pair["synthetic"]))
        for name, pair in sides.items()
        if {"real", "synthetic"} <= set(pair)
    ]
    agreed = results.select(("cox_sign_agreement", "cox_interval_overlap"))
    agreement = [(result.title, "", shown(result)) for result in agreed]
    headings = ("Log hazard ratio", "Real patients", "Synthetic (interval too narrow)")
    return TextTable("Cox regression, real and synthetic", headings, [*rows, *agreement])
