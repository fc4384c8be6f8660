"""Utility and fairness against epsilon on real cohorts: what `dpsynth evaluate --sweep` follows, kept over many runs.

Each fit adds its rows to ``<results>/sweep_<dataset>.csv``; the Markdown tables and the figure are written from all of
them after each fit. A run can be interrupted and taken up again, and several may run at once: fits that are in the file
are not made once more.

Examples
--------
::

    python benchmarks/sweep.py support2
    python benchmarks/sweep.py framingham --data framingham_long.csv --models prism independent --fits 3
"""

import argparse
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

import dpsynth
from dpsynth import Cohort, Schema
from dpsynth.datasets import load_support2
from dpsynth.evaluation import SweepRun, split
from dpsynth.evaluation.report.svg import INK, REAL, canvas, to_svg
from dpsynth.evaluation.result import Result
from dpsynth.evaluation.results import Results
from dpsynth.evaluation.sweep_metrics import follow
from dpsynth.jobs.sweep import TEST
from dpsynth.privacy.spending.budget import MAX_EPSILON

HERE = Path(__file__).parent
DELTA = 1e-6
EPSILONS = (0.3, 1.0, 3.0, 10.0)
CHANCE = "real, resampled"
LOOKS = {
    "independent": ("#444444", "o"),
    "mst": ("#6b4c9a", "s"),
    "aim": ("#2e7d4f", "D"),
    "prism": ("#b5402a", "^"),
    "tabular-diffusion": ("#1f77b4", "v"),
    "tvae": ("#17a2a2", "<"),
    "ctgan": ("#c98a00", ">"),
    "pate-gan": ("#b0539a", "x"),
}
ORDER = (CHANCE, *LOOKS)
LEARNERS = {"gradient boosting": "auroc", "logistic regression": "auroc LR"}
COLUMNS = ["model", "epsilon", "fit", "code", "measure", "group", "value", "low", "high", "n"]
KEYS = ["model", "epsilon", "fit"]
SHOWN = {
    "auroc": "AUROC of gradient boosting",
    "worst_change": "Change of AUROC, worst group",
    "representation_slope": "Representation slope",
    "tvd_2way": "TVD, pairs",
}
GROUPS: dict[str, list[str | list[str]] | None] = {
    "support2": None,  # those of the schema
    "framingham": ["SEX", "AGE", ["SEX", "AGE"]],
    "thyroid": ["sex", "age", ["sex", "age"]],
}


def cohort(dataset: str, data: Path | None) -> Cohort:
    """Return a dataset under its public schema."""
    if dataset == "support2":
        return load_support2()
    if data is None:
        raise SystemExit(f"{dataset}: name its file with --data")
    return Cohort.read(data, Schema.load(HERE / "schemas" / f"{dataset}.yaml"), public=True)


def resampled(real: Cohort, seed: int) -> Cohort:
    """Return as many patients, drawn with replacement: what chance alone does to everything that is measured."""
    patients = real.patients()
    order = np.argsort(patients, kind="stable")
    ends = np.searchsorted(patients[order], np.arange(int(patients.max()) + 2))
    chosen = np.random.default_rng(seed).integers(0, len(ends) - 1, len(ends) - 1)
    return real.take(np.concatenate([order[ends[one] : ends[one + 1]] for one in chosen]))


def drawn(train: Cohort, model: str, epsilon: float, fit: int) -> Cohort:
    """Return a cohort of about as many rows as there are training rows."""
    if model == CHANCE:
        return resampled(train, fit)
    return dpsynth.fit(train, model, epsilon=epsilon, delta=DELTA).sample(len(train))


def rows(run: SweepRun) -> Iterator[tuple[object, ...]]:
    """Yield measures of one fit, overall or of a group, of the cohort or of an arm (``auroc:real``)."""
    found = Results(run.results)
    for one in found.select(["auroc", "group_auroc"]):
        if one.ok and one.arm in ("synthetic", "real") and one.subject in LEARNERS:
            name = LEARNERS[one.subject]
            group = one.group if one.metric == "group_auroc" else ""
            yield _row(name if one.arm == "synthetic" else f"{name}:{one.arm}", group, one)
    for one in found.select(["group_change", "did", "representation", "representation_slope"], arm="synthetic"):
        if one.ok:
            yield _row(one.metric, one.group, one)
    for measure, value in run.measures().items():
        if not measure.startswith("auroc"):
            yield measure, "", value, np.nan, np.nan, np.nan


def _row(measure: str, group: str, one: Result) -> tuple[object, ...]:
    low, high = (np.nan, np.nan) if one.interval is None else (one.interval.low, one.interval.high)
    return measure, group, one.number, low, high, one.n


def commit() -> str:
    """Return the short commit of what fits and judges."""
    paths = [str(HERE.parent / name) for name in ("models", "dpsynth", "evaluation")]
    command = ["git", "-C", str(HERE), "log", "-1", "--format=%h", "--", *paths]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


def there(path: Path) -> pd.DataFrame:
    """Return the fits that are in a file."""
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS)
    return pd.read_csv(path, keep_default_na=False, na_values={name: [""] for name in COLUMNS[6:]}, dtype={"code": str})


def write(frame: pd.DataFrame, path: Path, dataset: str) -> None:
    """Write the CSV, the tables and the figure."""
    frame = frame.sort_values(KEYS, kind="stable", key=lambda one: one.map(ORDER.index) if one.name == "model" else one)
    frame.to_csv(path, index=False, float_format="%.5g")
    path.with_suffix(".md").write_text(page(frame, dataset), encoding="utf-8")
    path.with_suffix(".svg").write_text(figure(frame, dataset), encoding="utf-8")


def of(frame: pd.DataFrame, measure: str, group: str = "") -> pd.DataFrame:
    """Return the rows of a measure, one a fit."""
    return frame[(frame["measure"] == measure) & (frame["group"] == group)]


def interval(found: pd.DataFrame) -> str:
    """Return the mean over fits and a 95 % interval for one fit: over test patients and, from two fits on, fits."""
    values = found["value"]
    if not len(values):
        return ""
    within = float((((found["high"] - found["low"]) / (2 * 1.96)) ** 2).mean())
    between = float(values.var(ddof=1)) * (1 + 1 / len(values)) if len(values) > 1 else 0.0
    reach = 1.96 * np.sqrt(within + between)
    return f"{values.mean():.3f} [{values.mean() - reach:.3f}, {values.mean() + reach:.3f}]"


def span(found: pd.DataFrame, digits: int = 3) -> str:
    """Return mean and range over fits."""
    texts = [f"{one:.{digits}f}" for one in (found["value"].mean(), found["value"].min(), found["value"].max())]
    return "" if not len(found) else texts[0] if len(found) == 1 else f"{texts[0]} ({texts[1]} to {texts[2]})"


def table(head: list[str], lines: list[list[str]]) -> list[str]:
    """Return a Markdown table."""
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines)]


def overall(frame: pd.DataFrame) -> list[str]:
    """Return the table of one epsilon, a line a model."""
    head = ["", "fits", "AUROC, GB", "AUROC, LR", "worst group's change", "representation slope", "TVD, pairs"]
    first = frame.drop_duplicates(["measure", "group"])
    real = [interval(of(first, f"auroc{learner}:real")) for learner in ("", " LR")]
    lines = [["real patients", "", *real, "", "", span(of(first, "tvd_2way:real"), 4)]]
    for model, part in frame.groupby("model", sort=False):
        scores = [interval(of(part, f"auroc{learner}")) for learner in ("", " LR")]
        rest = [span(of(part, "worst_change")), span(of(part, "representation_slope")), span(of(part, "tvd_2way"), 4)]
        lines.append([str(model), str(part["fit"].nunique()), *scores, *rest])
    return table(head, lines)


def by_group(frame: pd.DataFrame) -> list[str]:
    """Return the table of one epsilon, a line a group: AUROC of the real-trained, and the change of each model."""
    real = frame[frame["measure"] == "auroc:real"]
    names = [name for name in real["group"].unique() if name]
    models = list(frame["model"].unique())
    lines = []
    for name in names:
        first = of(frame, "auroc:real", name).head(1)
        changes = [interval(of(frame[frame["model"] == model], "group_change", name)) for model in models]
        lines.append([name, f"{int(first['n'].iloc[0])}", interval(first), *changes])
    return table(["group", "patients", "AUROC, real-trained", *(f"change, {model}" for model in models)], lines)


def page(frame: pd.DataFrame, dataset: str) -> str:
    """Return the Markdown file."""
    chance, fitted = frame[frame["model"] == CHANCE], frame[frame["model"] != CHANCE]
    code = ", ".join(sorted(fitted["code"].unique()))
    lines = [
        f"# Sweep: {dataset}",
        "",
        f"By `benchmarks/sweep.py {dataset}`, commit {code}. Each fit at patient level with the whole budget",
        f"counted, δ = {DELTA:g}, noise of the operating system. Fitted on 70 % of the patients, tested on the others,",
        "one split.",
        "",
        "- AUROC of gradient boosting (GB) and logistic regression (LR) trained on as many synthetic rows as there are",
        "  real training rows. In brackets: 95 % interval of one fit, for test patients (stratified bootstrap) and for",
        "  the noise of fitting.",
        "- *Change*: of AUROC of gradient boosting against the real-trained, paired on the same patients; intervals as",
        "  before. Groups with fewer than 10 patients with or without the outcome are not estimable and left out.",
        "- *Worst group's change*: the least over all groups, mean (least to greatest) over fits. Chance alone makes",
        f"  it negative: see *{CHANCE}*, real training patients drawn with replacement in place of a synthetic",
        "  cohort.",
        "- *Representation slope*: of log(synthetic / real share) on log(size) of the groups, the largest in size over",
        "  the groupings with three groups or more; negative: small groups grow.",
        "- *TVD, pairs*: mean over all pairs of columns between the real test patients and the cohort; that of the",
        "  real training patients is chance.",
        f"- ε = {MAX_EPSILON:g} is next to no noise: what the model itself costs. One fit.",
        "",
        f"![the same as a figure](sweep_{dataset}.svg)",
    ]
    for epsilon in sorted(fitted["epsilon"].unique()):
        mine = pd.concat([chance, fitted[fitted["epsilon"] == epsilon]])
        lines += ["", f"## ε = {epsilon:g}", "", *overall(mine), "", *by_group(mine)]
    return "\n".join(lines) + "\n"


def _place(epsilon: float) -> float:
    """Return where an epsilon stands on the axis: the one without noise near the others."""
    return min(epsilon, 30.0)


def _draw(axes: Any, frame: pd.DataFrame, measure: str) -> None:
    """Draw one measure: a line a model, its fits as bars, and what real patients give."""
    for model, part in frame[frame["model"] != CHANCE].groupby("model", sort=False):
        found = part[(part["measure"] == measure) & (part["group"] == "")]
        colour, marker = LOOKS[str(model)]
        for noisy, label in ((True, str(model)), (False, None)):
            values = found[(found["epsilon"] < MAX_EPSILON) == noisy].groupby("epsilon")["value"]
            middle = values.mean()
            reach = np.array([middle - values.min(), values.max() - middle])
            places = [_place(one) for one in middle.index]
            axes.errorbar(places, middle, yerr=reach, color=colour, marker=marker, capsize=2, label=label)
    real = of(frame[frame["model"] == CHANCE], measure)["value"]
    if measure in ("auroc", "tvd_2way"):
        real = of(frame, f"{measure}:real")["value"]
    axes.axhline(float(real.mean()) if len(real) else 0.0, color=REAL if len(real) else INK, lw=0.9, ls="--")


def figure(frame: pd.DataFrame, dataset: str) -> str:
    """Return the figure as SVG."""
    with canvas(9, 6.4) as drawing:
        panels = drawing.subplots(2, 2)
        fitted = sorted(frame.loc[frame["model"] != CHANCE, "epsilon"].unique())
        for axes, (measure, title) in zip(panels.flat, SHOWN.items(), strict=True):
            _draw(axes, frame, measure)
            axes.set_xscale("log")
            axes.set_xticks([_place(one) for one in fitted], [f"{one:g}" for one in fitted])
            axes.set_xticks([], minor=True)
            axes.set_xlabel("epsilon")
            axes.set_ylabel(title)
        if fitted:
            panels[0, 0].legend()
        words = "Bars: fits. Dashed: real patients (AUROC, TVD), or real patients resampled (change, slope)."
        svg = to_svg(drawing, "sweep", f"{dataset} against epsilon", words)
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return svg.replace("<svg", f"<svg {spaces}", 1)


def plan(models: list[str], epsilons: list[float], fits: int) -> list[tuple[int, str, float]]:
    """Return the fits in their order: one repetition of everything before the next, what has no noise once at last."""
    noisy = [(model, epsilon) for model in models for epsilon in epsilons if epsilon < MAX_EPSILON]
    rounds = [(fit, *cell) for fit in range(fits) for cell in [(CHANCE, 0.0), *noisy]]
    return rounds + [(0, model, epsilon) for model in models for epsilon in epsilons if epsilon >= MAX_EPSILON]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=list(GROUPS))
    parser.add_argument("--data", type=Path, help="the dataset's CSV; support2 ships with dpsynth")
    parser.add_argument("--models", nargs="+", default=list(LOOKS), choices=list(LOOKS))
    parser.add_argument("--epsilon", nargs="+", type=float, default=[*EPSILONS, MAX_EPSILON])
    parser.add_argument("--fits", type=int, default=5, help="fits of each cell, those in the file included")
    parser.add_argument("--code", default=commit(), help="state of the code, for the table; default: the commit")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    return parser.parse_args()


def main() -> None:
    """Make the fits that are not there, one repetition of everything before the next."""
    asked = arguments()
    path = asked.results / f"sweep_{asked.dataset}.csv"
    train, test = split(cohort(asked.dataset, asked.data), TEST, key="benchmark")
    for fit, model, epsilon in plan(asked.models, asked.epsilon, asked.fits):
        frame = there(path)
        if ((frame["model"] == model) & (frame["epsilon"] == epsilon) & (frame["fit"] == fit)).any():
            continue
        results = follow(test, train, drawn(train, model, epsilon, fit), subgroups=GROUPS[asked.dataset])
        run = SweepRun(model, epsilon, fit, results)
        new = pd.DataFrame([(model, epsilon, fit, asked.code, *row) for row in rows(run)], columns=COLUMNS)
        with FileLock(Path(tempfile.gettempdir()) / f"{path.name}.lock"):
            frame = there(path)
            write(pd.concat([frame, new]) if len(frame) else new, path, asked.dataset)
        print(fit, model, epsilon, {name: round(value, 4) for name, value in run.measures().items()}, flush=True)


if __name__ == "__main__":
    main()
