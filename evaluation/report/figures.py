"""The figures of the page. Each takes results and returns an SVG element, or nothing where there is nothing to draw."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.evaluation.catalogue import SHORT
from dpsynth.evaluation.report.svg import INK, REAL, SYNTHETIC, canvas, to_svg
from dpsynth.evaluation.report.text import short
from dpsynth.evaluation.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "calibration",
    "coefficients",
    "forest",
    "heat_map",
    "overlay",
    "paired_forest",
    "power_curve",
    "scatter",
    "survival_curves",
]

ARM_COLOUR = {"real": REAL, "synthetic": SYNTHETIC}
WIDTH = 4.6


def overlay(result: Result, key: str) -> str:
    """Return the histograms of one column, real and synthetic."""
    sides = zip(*(result.detail[name] for name in ("labels", "real", "synthetic")), strict=True)
    labels, real, synthetic = (list(side) for side in zip(*(cell for cell in sides if cell[1] or cell[2]), strict=True))
    if len(labels) > 14:  # many categories: the most frequent, and the rest together
        order = np.argsort(-(np.array(real) + np.array(synthetic)), kind="stable")
        kept, rest = sorted(order[:13]), order[13:]
        real = [real[i] for i in kept] + [float(sum(real[i] for i in rest))]
        synthetic = [synthetic[i] for i in kept] + [float(sum(synthetic[i] for i in rest))]
        labels = [labels[i] for i in kept] + ["others"]
    places = np.arange(len(labels))
    with canvas(2.3, 0.55 + 0.19 * len(labels)) as figure:
        axes = figure.subplots()
        axes.barh(places - 0.2, real, 0.38, color=REAL)
        axes.barh(places + 0.2, synthetic, 0.38, color="none", edgecolor=SYNTHETIC, hatch="//////", linewidth=0.8)
        axes.set_yticks(places, [short(label, 14) for label in labels])
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.tick_params(length=2, labelsize=9)
        axes.locator_params(axis="x", nbins=4)
        title = f"{result.subject}: share of rows, real and synthetic"
        text = f"TVD {result.number:.3f}. Solid bars: real patients. Hatched bars: synthetic rows."
        return to_svg(figure, key, title, text)


def heat_map(result: Result, key: str) -> str:
    """Return the difference of Cramér's V, synthetic less real, for every pair of columns."""
    names = result.detail.get("columns", [])
    if len(names) < 2:
        return ""
    upper = np.triu_indices(len(names), 1)
    real, synthetic = (np.array(result.detail[side], dtype=float) for side in ("real", "synthetic"))
    difference = np.full((len(names), len(names)), np.nan)
    difference[upper] = synthetic - real
    difference.T[upper] = difference[upper]
    size = min(5.2, 2.6 + 0.06 * len(names))
    with canvas(size, size + 0.5) as figure:
        axes = figure.subplots()
        image = axes.imshow(difference, cmap="PuOr_r", vmin=-0.5, vmax=0.5, interpolation="none")
        step = max(1, len(names) // 34)
        places = np.arange(0, len(names), step)
        size_of_text = 8 if len(names) <= 24 else 6.5
        axes.set_xticks(places, [short(names[i], 14) for i in places], rotation=90, fontsize=size_of_text)
        axes.set_yticks(places, [short(names[i], 14) for i in places], fontsize=size_of_text)
        axes.tick_params(length=0)
        bar = figure.colorbar(image, ax=axes, orientation="horizontal", shrink=0.8, pad=0.02, aspect=30)
        bar.set_label("Cramér's V: synthetic less real")
        bar.outline.set_visible(False)
        text = "Brown: the cohort shows a stronger association than real patients. Purple: a weaker one."
        return to_svg(figure, key, "Difference in association for each pair of columns", text)


def _line(axes: "Axes", place: float, result: Result, colour: str, marker: str) -> None:
    if result.value is None:
        axes.text(0.01, place, "not estimable", transform=axes.get_yaxis_transform(), va="center", fontsize=8.5)
        return
    if result.interval is not None:
        axes.plot([result.interval.low, result.interval.high], [place, place], color=colour, lw=1.5)
    axes.plot([result.value], [place], marker, color=colour, ms=5.5)


def forest(results: Sequence[Result], key: str, *, title: str, label: str, lines: Sequence[Result] = ()) -> str:
    """Return a row per arm with its interval; `lines` are drawn through all rows (ceiling and floor)."""
    if not any(result.ok for result in results):
        return ""
    names = [SHORT[result.arm] for result in results]
    with canvas(WIDTH, 0.75 + 0.27 * len(results)) as figure:
        axes = figure.subplots()
        for line in lines:
            if line.value is not None:
                axes.axvline(line.value, color=ARM_COLOUR.get(line.arm, INK), lw=0.8, ls=(0, (4, 3)))
        for place, result in enumerate(results):
            _line(axes, place, result, ARM_COLOUR.get(result.arm, INK), "s" if result.arm == "real" else "o")
        axes.set_yticks(range(len(results)), names)
        axes.set_ylim(len(results) - 0.4, -0.6)
        axes.set_xlabel(label)
        axes.tick_params(axis="y", length=0)
        text = "; ".join(f"{SHORT[result.arm]} {result.value:.3f}" for result in results if result.value is not None)
        return to_svg(figure, key, title, text)


def paired_forest(results: Sequence[Result], key: str, *, title: str, label: str, margin: float | None = None) -> str:
    """Return a row per group with its change and interval; a line at 0, and one at the margin."""
    drawn = [result for result in results if result.ok]
    if not drawn:
        return ""
    with canvas(WIDTH, 0.75 + 0.25 * len(drawn)) as figure:
        axes = figure.subplots()
        axes.axvline(0, color=INK, lw=0.8)
        if margin is not None:
            axes.axvline(-margin, color=INK, lw=0.8, ls=(0, (4, 3)))
        for place, result in enumerate(drawn):
            _line(axes, place, result, SYNTHETIC, "o")
        names = [f"{short(result.group, 24)} (n {result.n:,})" for result in drawn]
        axes.set_yticks(range(len(drawn)), names)
        axes.set_ylim(len(drawn) - 0.4, -0.6)
        axes.set_xlabel(label)
        axes.tick_params(axis="y", length=0)
        text = "; ".join(f"{result.group} {result.value:+.3f}" for result in drawn)
        return to_svg(figure, key, title, text)


def coefficients(real: Sequence[Result], synthetic: Sequence[Result], key: str) -> str:
    """Return the coefficients of the pre-specified regression, real and synthetic, with their intervals."""
    pairs = [(result, two) for result, two in zip(real, synthetic, strict=True) if result.ok or two.ok]
    if not pairs:
        return ""
    with canvas(WIDTH, 0.95 + 0.3 * len(pairs)) as figure:
        axes = figure.subplots()
        axes.axvline(0, color=INK, lw=0.8)
        for place, pair in enumerate(pairs):
            for offset, result in zip((-0.14, 0.14), pair, strict=True):
                if result.ok:
                    _line(axes, place + offset, result, ARM_COLOUR[result.arm], "s" if result.arm == "real" else "o")
        axes.set_yticks(range(len(pairs)), [short(result.subject, 28) for result, _ in pairs])
        axes.set_ylim(len(pairs) - 0.4, -0.6)
        axes.set_xlabel("coefficient; square: real, circle: synthetic")
        axes.tick_params(axis="y", length=0)
        return to_svg(figure, key, "Coefficients from real patients and from the cohort", "The table has the numbers.")


def survival_curves(results: Sequence[Result], key: str, *, title: str) -> str:
    """Return the share without the event over time, a step curve with its band for the test patients and each arm."""
    if not results:
        return ""
    styles = {"real": (REAL, "-"), "synthetic": (SYNTHETIC, "-")}
    with canvas(WIDTH, 3.0) as figure:
        axes = figure.subplots()
        first = results[0].detail
        axes.step(first["time"], first["test"], where="post", color=INK, lw=1.4, label="test patients")
        axes.fill_between(
            first["time"], first["test_low"], first["test_high"], step="post", color=INK, alpha=0.15, lw=0
        )
        for result in results:
            colour, line = styles.get(result.arm, ("#7a7f85", "--"))
            told = result.detail
            axes.step(told["time"], told["arm"], line, where="post", color=colour, lw=1.3, label=SHORT[result.arm])
            if result.arm in styles:
                axes.fill_between(
                    told["time"], told["arm_low"], told["arm_high"], step="post", color=colour, alpha=0.15, lw=0
                )
        axes.set_xlim(0, first["horizon"])
        axes.set_ylim(0, 1.02)
        axes.set_xlabel(str(first["time_name"]))
        axes.set_ylabel("share without the event")
        axes.legend(loc="lower left")
        return to_svg(figure, key, title, "The table has the restricted means up to the last time that is drawn.")


def calibration(results: Sequence[Result], key: str, *, title: str) -> str:
    """Return observed against predicted risk in groups of equal size, a line per arm."""
    curves = [(result.arm, result.detail["curve"]) for result in results if result.detail.get("curve")]
    if not curves:
        return ""
    with canvas(3.4, 3.3) as figure:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=INK, lw=0.8, ls=(0, (4, 3)))
        for arm, curve in curves:
            style: dict[str, Any] = {"color": ARM_COLOUR.get(arm, INK), "lw": 1.2, "ms": 4.5}
            axes.plot(curve["predicted"], curve["observed"], "s-" if arm == "real" else "o-", **style)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_aspect("equal")
        axes.set_xlabel("predicted risk")
        axes.set_ylabel("observed share")
        return to_svg(figure, key, title, "Square: trained on real patients. Circle: trained on the cohort.")


def scatter(results: Sequence[Result], key: str) -> str:
    """Return each group's ratio of shares against its real size, both on a logarithmic scale."""
    drawn = [result for result in results if result.ok and result.interval is not None]
    if not drawn:
        return ""
    with canvas(WIDTH, 3.0) as figure:
        axes = figure.subplots()
        axes.axhline(1, color=INK, lw=0.8)
        for result in drawn:
            size = result.detail["real_rows"]
            assert result.interval is not None  # noqa: S101  (chosen above; for the type checker)
            axes.plot([size, size], np.exp([result.interval.low, result.interval.high]), color=SYNTHETIC, lw=1.2)
            axes.plot([size], [np.exp(result.number)], "o", color=SYNTHETIC, ms=4.5)
        axes.set_xscale("log")
        axes.set_yscale("log")
        sizes = [result.detail["real_rows"] for result in drawn]
        axes.set_xlim(min(sizes) / 1.5, max(sizes) * 1.5)
        axes.xaxis.set_major_formatter(lambda value, _place: f"{value:,.0f}")
        low = min(np.exp(result.interval.low) for result in drawn if result.interval is not None)
        high = max(np.exp(result.interval.high) for result in drawn if result.interval is not None)
        ticks = [tick for tick in (0.1, 0.2, 0.5, 0.8, 1, 1.25, 2, 5, 10) if 0.8 * low <= tick <= 1.25 * high]
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_yticks([], minor=True)
        axes.set_xlabel("real rows in the group")
        axes.set_ylabel("synthetic share / real share")
        _name_extremes(axes, drawn)
        return to_svg(figure, key, "Representation of groups", "Above 1: the group is larger in the cohort.")


def _name_extremes(axes: "Axes", drawn: Sequence[Result], count: int = 3) -> None:
    """Name the groups that are furthest from 1 in the corners at the right, where the largest groups are near 1."""
    extremes = sorted(drawn, key=lambda result: -abs(result.number))[:count]
    for above in (True, False):
        named = sorted(
            (result for result in extremes if (result.number > 0) is above), key=lambda result: -abs(result.number)
        )
        for place, result in enumerate(named):
            height = 0.98 - 0.075 * place if above else 0.02 + 0.075 * place
            line: dict[str, Any] = {"arrowstyle": "-", "lw": 0.4, "color": INK}
            where: dict[str, Any] = {"xytext": (1.0, height), "textcoords": "axes fraction", "arrowprops": line}
            point = (result.detail["real_rows"], float(np.exp(result.number)))
            axes.annotate(short(result.group, 26), point, **where, ha="right", va="center", fontsize=8.5)


def power_curve(rows: Sequence[tuple[float, float]], key: str) -> str:
    """Return the best possible membership test: members found against others wrongly accused."""
    if not rows:
        return ""
    points = [(0.0, 0.0), *rows, (1.0, 1.0)]
    with canvas(3.4, 3.0) as figure:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=INK, lw=0.8, ls=(0, (4, 3)))
        axes.plot([point[0] for point in points], [point[1] for point in points], "o-", color=SYNTHETIC, lw=1.2, ms=3.5)
        axes.set_xlabel("others wrongly taken for patients")
        axes.set_ylabel("patients recognised, at most")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        text = "Dashed: guessing without the release. The table has the numbers."
        return to_svg(figure, key, "What the best possible attack can reach", text)
