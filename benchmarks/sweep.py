"""Utility and fairness against epsilon on SUPPORT2: what `dpsynth evaluate --sweep` measures, kept over many runs.

Each fit adds its rows to ``<results>/sweep_support2.csv``; the Markdown table and the figure are written from all of
them after each fit, so that a run can be interrupted and taken up again: further fits are added.

Examples
--------
::

    python benchmarks/sweep.py --models prism independent --fits 2
    python benchmarks/sweep.py --models aim mst --epsilon 1
"""

import argparse
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

from dpsynth.datasets import load_support2
from dpsynth.evaluation import Run
from dpsynth.evaluation.report.svg import INK, REAL, canvas, to_svg
from dpsynth.evaluation.results import Results
from dpsynth.sweeping import sweep

RESULTS = Path(__file__).parent / "results"
MODELS = ("independent", "mst", "aim", "prism")
LOOKS = {"independent": ("#444444", "o"), "mst": ("#6b4c9a", "s"), "aim": ("#2e7d4f", "D"), "prism": ("#b5402a", "^")}
LEARNER = "gradient boosting"
COLUMNS = ["model", "epsilon", "fit", "code", "measure", "group", "value"]
SHOWN = {
    "auroc": "AUROC of gradient boosting",
    "worst_change": "Change of AUROC, worst group",
    "representation_slope": "Representation slope",
    "tvd_2way": "TVD, pairs",
}


def rows(run: Run, fit: int, code: str) -> Iterator[tuple[object, ...]]:
    """Yield the rows of one fit: a measure, overall or of a group, of the cohort or of an arm (``auroc:real``)."""
    found = Results(run.results)
    keys = (run.model, run.epsilon, fit, code)
    for one in found.select(["auroc", "group_auroc"], subject=LEARNER):
        if one.ok and one.arm in ("synthetic", "real", "floor"):
            group = one.group if one.metric == "group_auroc" else ""
            yield *keys, "auroc" if one.arm == "synthetic" else f"auroc:{one.arm}", group, one.number
    for one in found.select("group_change"):
        if one.ok:
            yield *keys, "change", one.group, one.number
    for measure, value in run.measures().items():
        if not measure.startswith("auroc"):
            yield *keys, measure, "", value


def commit() -> str:
    """Return the commit that is checked out, with a plus where files differ from it."""
    command = ["git", "-C", str(RESULTS), "describe", "--always", "--dirty=+"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def kept(path: Path, run: Run, code: str) -> pd.DataFrame:
    """Add a fit to the CSV and return all of it."""
    there = (
        pd.read_csv(path, keep_default_na=False, dtype={"code": "str"})
        if path.exists()
        else pd.DataFrame(columns=COLUMNS)
    )
    mine = there[(there["model"] == run.model) & (there["epsilon"] == run.epsilon)]
    new = pd.DataFrame(rows(run, 1 + int(mine["fit"].max()) if len(mine) else 0, code), columns=COLUMNS)
    frame = pd.concat([there, new]) if len(there) else new
    order = frame["model"].map(MODELS.index)
    frame = frame.assign(order=order).sort_values(["order", "epsilon", "fit"], kind="stable").drop(columns="order")
    frame.to_csv(path, index=False, float_format="%.5g")
    return frame


def cell(values: "pd.Series[float]", digits: int = 3) -> str:
    """Return mean and range."""
    texts = [f"{value:.{digits}f}" for value in (values.mean(), values.min(), values.max())]
    return "" if not len(values) else texts[0] if len(values) == 1 else f"{texts[0]} ({texts[1]} to {texts[2]})"


def of(frame: pd.DataFrame, measure: str, group: str = "") -> "pd.Series[float]":
    """Return the values of a measure."""
    return frame.loc[(frame["measure"] == measure) & (frame["group"] == group), "value"]


def line(name: str, frame: pd.DataFrame, groups: list[str], arm: str = "") -> str:
    """Return one line of a table."""
    auroc = [cell(of(frame, f"auroc{arm}", group)) for group in ("", *groups)]
    own = ["", ""] if arm else [cell(of(frame, measure)) for measure in ("worst_change", "representation_slope")]
    fits = "" if arm else str(frame["fit"].nunique())
    return "| " + " | ".join([name, fits, *auroc, *own, cell(of(frame, f"tvd_2way{arm}"), 4)]) + " |"


def page(frame: pd.DataFrame) -> str:
    """Return the Markdown file."""
    there = list(frame.loc[frame["measure"] == "auroc", "group"].unique())
    groups = [group for group in there if group and "&" not in group and "," not in group]
    states = [
        f"{model}: {', '.join(sorted(part['code'].astype(str).unique()))}"
        for model, part in frame.groupby("model", sort=False)
    ]
    head = ["model", "fits", "AUROC", *groups, "worst group's change", "representation slope", "TVD, pairs"]
    lines = [
        "# Sweep: SUPPORT2",
        "",
        "Written by `benchmarks/sweep.py`. Mean (least to greatest) over fits; each fit at patient level with the",
        "whole budget counted, δ = 1e-6, noise of the operating system. Training: 70 % of the patients; tests on the",
        "others, one split. AUROC: gradient boosting trained on as many synthetic rows, overall and in groups of real",
        "test patients; groups with fewer than 10 deaths or survivors are left out. *Worst group's change*: the least",
        "change of AUROC against the real-trained model over the groups of sex, race and sex & race, so that chance",
        "alone makes it negative. *Representation slope*: of log(synthetic / real share) on log(size), the largest in",
        "size over race and sex & race; negative: small groups grow. *TVD, pairs*: mean over all pairs of columns",
        "between the real test patients and the cohort; that of the real training patients is chance.",
        "",
        f"Commits at which the fits were made: {'; '.join(states)}.",
        "",
        "![the same as a figure](sweep_support2.svg)",
    ]
    for epsilon in sorted(frame["epsilon"].unique()):
        mine = frame[frame["epsilon"] == epsilon]
        lines += ["", f"## ε = {epsilon:g}", "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        lines.append(line("real patients", mine.drop_duplicates(["measure", "group"]), groups, ":real"))
        lines += [line(str(model), part, groups) for model, part in mine.groupby("model", sort=False)]
    return "\n".join(lines) + "\n"


def figure(frame: pd.DataFrame) -> str:
    """Return the figure as SVG."""
    with canvas(9, 6.4) as drawing:
        panels = drawing.subplots(2, 2)
        for axes, (measure, title) in zip(panels.flat, SHOWN.items(), strict=True):
            for model, part in frame.groupby("model", sort=False):
                found = part[(part["measure"] == measure) & (part["group"] == "")].groupby("epsilon")["value"]
                middle = found.mean()
                reach = np.array([middle - found.min(), found.max() - middle])
                colour, marker = LOOKS[str(model)]
                axes.errorbar(middle.index, middle, yerr=reach, color=colour, marker=marker, capsize=2, label=model)
            real = of(frame, f"{measure}:real")
            level = float(real.mean()) if len(real) else 0.0
            axes.axhline(level, color=REAL if len(real) else INK, lw=0.9, ls="--")
            axes.set_xscale("log")
            ticks = sorted(frame["epsilon"].unique())
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.set_xticks([], minor=True)
            axes.set_xlabel("epsilon")
            axes.set_ylabel(title)
        panels[0, 0].legend()
        svg = to_svg(drawing, "sweep", "SUPPORT2 against epsilon", "Dashed: real patients, or no change.")
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return svg.replace("<svg", f"<svg {spaces}", 1)


def main() -> None:
    """Run what was asked for; the files are brought up to date after every fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--epsilon", nargs="+", type=float, default=[0.3, 1.0, 3.0, 10.0])
    parser.add_argument("--fits", type=int, default=5, help="further fits of each model and epsilon")
    parser.add_argument("--code", default="", help="state of the code, for the table; default: the commit")
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    path = asked.results / "sweep_support2.csv"
    for run in sweep(load_support2(), asked.epsilon, models=asked.models, seeds=asked.fits):
        with FileLock(path.with_suffix(".lock")):  # two may run at once
            frame = kept(path, run, asked.code or commit())
            path.with_suffix(".md").write_text(page(frame), encoding="utf-8")
            path.with_suffix(".svg").write_text(figure(frame), encoding="utf-8")
        print(run.model, run.epsilon, {name: round(value, 4) for name, value in run.measures().items()}, flush=True)


if __name__ == "__main__":
    main()
