"""The page of a sweep: each measure against epsilon, a line per model, with ceiling and floor."""

from typing import TYPE_CHECKING, Any

from dpsynth.evaluation.catalogue import MEASURES, SHORT
from dpsynth.evaluation.report.page import environment, style
from dpsynth.evaluation.report.parts import Figure
from dpsynth.evaluation.report.svg import INK, REAL, canvas, to_svg
from dpsynth.evaluation.report.text import TextTable, number

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["render"]

#: Arms that are drawn as lines: colour and dashes.
LINES = {"real": (REAL, (4, 3)), "floor": (INK, (4, 3)), "dp_classifier": (INK, (1, 2))}
MARKERS = "osD^vP"
COLOURS = ("#b5402a", "#6b4c9a", "#2e7d4f", "#8a6d00", "#0f7c8c", "#444444")


def render(table: "pd.DataFrame", runs: int, audience: str) -> str:
    """Return the page of a sweep's summary and its number of runs."""
    from markupsafe import Markup

    there = set(table.measure)
    figures = [_figure(table, measure, title) for measure, title in MEASURES.items() if measure in there]
    context = {"audience": audience, "figures": figures, "runs": runs, "safe": Markup, "css": style()}
    return str(environment().get_template("sweep.html.j2").render(context))


def _figure(table: "pd.DataFrame", measure: str, title: str) -> Figure:
    lines = {arm: table[table.measure == f"{measure}:{arm}"] for arm in LINES}
    mine = table[table.measure == measure]
    rows = _rows(mine, "") + [row for arm, part in lines.items() for row in _rows(part, f"{SHORT[arm]}, ")]
    grid = TextTable(title, ("Model and epsilon", "Mean over seeds", "Least to greatest (seeds)"), rows)
    caption = (
        "Points: mean over seeds. Bars: least to greatest. Dashed: real patients (or 0, no change), and the floor if "
        "there is one; dotted: a DP classifier trained on the real patients at the same epsilon, if there is one."
    )
    return Figure(measure, f"{title} against epsilon", caption, [("", _drawing(mine, lines, measure, title))], grid)


def _rows(part: "pd.DataFrame", what: str) -> list[tuple[str, str, str]]:
    records: list[dict[Any, Any]] = part.to_dict(orient="records")
    return [
        (
            f"{what}{row['model']}, epsilon {row['epsilon']:g}",
            number(row["mean"]),
            f"{number(row['min'])} to {number(row['max'])} ({row['count']})",
        )
        for row in records
    ]


def _drawing(mine: "pd.DataFrame", lines: dict[str, "pd.DataFrame"], measure: str, title: str) -> str:
    with canvas(5.2, 3.3) as figure:
        axes = figure.subplots()
        for place, (model, part) in enumerate(mine.groupby("model", sort=False)):
            points = part.sort_values("epsilon")
            least, mean, most, epsilon = (points[name].to_numpy() for name in ("min", "mean", "max", "epsilon"))
            look: dict[str, Any] = {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}
            reach = [mean - least, most - mean]
            axes.errorbar(epsilon, mean, yerr=reach, lw=1.2, ms=4.5, capsize=2, label=model, **look)
        for arm, part in lines.items():
            if len(part):
                by_epsilon = part.groupby("epsilon")["mean"].mean()
                colour, pattern = LINES[arm]
                axes.plot(by_epsilon.index, by_epsilon, color=colour, lw=0.9, ls=(0, pattern))
        if measure in ("worst_change", "representation_slope"):
            axes.axhline(0, color=REAL, lw=0.9, ls=(0, (4, 3)))
        axes.set_xscale("log")
        ticks = sorted(mine["epsilon"].unique())
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("epsilon")
        axes.set_ylabel(title)
        axes.legend()
        return to_svg(figure, measure, f"{title} against epsilon", "The table has the numbers.")
