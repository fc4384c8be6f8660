"""What synthetic patients of a scarce group do to a classifier: SUPPORT2, black patients, some of them taken away.

Of the group's training patients 10 %, 25 % or 100 % are kept; the model is fitted to what is left, and adds as many as
were taken away (at 100 %: as many as there are). Every arm is tested on the same real patients, 30 % of the cohort.
``results/augmentation.csv`` has every number, ``results/augmentation.md`` the table.

Examples
--------
::

    python benchmarks/augmentation.py --epsilon 3 --seeds 0 1 2
"""

import argparse
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import dpsynth
from dpsynth import Cohort
from dpsynth.cohort.rows import rows_where
from dpsynth.datasets import load_support2
from dpsynth.evaluation.metrics.augmentation import ARMS
from dpsynth.evaluation.protocol import split
from dpsynth.jobs.augment import augment
from dpsynth.jobs.rehearse import rehearse

HERE = Path(__file__).parent
GROUP = {"race": "black"}
LABEL = "race == 'black'"
DELTA = 1e-6
KEYS = ["epsilon", "share", "seed", "learner", "arm", "part", "metric"]


@cache
def code() -> str:
    """Return the short commit of the code that is run, asked at the start."""
    command = ["git", "-C", str(HERE), "log", "-1", "--format=%h", "--", "../models", "../dpsynth", "../evaluation"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


def reduced(train: Cohort, share: float, seed: int) -> tuple[Cohort, int]:
    """Keep a share of the group's training patients; return what is left and how many of the group are gone."""
    inside = np.flatnonzero(rows_where(train, GROUP))
    order = np.random.default_rng(seed).permutation(inside)
    gone = order[round(share * len(inside)) :]
    return train.take(np.setdiff1d(np.arange(len(train)), gone)), len(gone)


def run(train: Cohort, test: Cohort, epsilon: float, share: float, seed: int) -> list[dict[str, Any]]:
    """Fit, rehearse, add, train and test once."""
    some, gone = reduced(train, share, seed)
    own = int(rows_where(some, GROUP).sum())
    model = dpsynth.fit(some, "prism", epsilon=epsilon, delta=DELTA)
    choice = rehearse(model, GROUP, "hospdead", seed=seed)
    found = augment(some, GROUP, label=LABEL, model=model, test=test, amount=gone or own, seed=seed)
    keys = {"epsilon": epsilon, "share": share, "seed": seed, "code": code()}
    keys |= {"real": own, "added": found.added, "recommended": choice.amount}
    return [
        {**keys, "learner": one.subject, "arm": one.arm, "part": one.group, "metric": one.metric}
        | {"value": one.value, "low": one.interval.low, "high": one.interval.high, "n": one.n}
        for one in found.results
        if one.ok and one.interval is not None
    ]


def cell(rows: pd.DataFrame, *, sign: str = "") -> str:
    """Return the mean and the means of the interval's ends."""
    if rows.empty:
        return ""
    mean, low, high = (float(rows[name].mean()) for name in ("value", "low", "high"))
    return f"{mean:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def page(frame: pd.DataFrame) -> str:
    """Return the Markdown page."""
    lines = [
        "# Augmentation: SUPPORT2, black patients",
        "",
        f"Written by `benchmarks/augmentation.py`. δ = {DELTA:g}; PRISM fitted to the training patients that are left;",
        "noise of the operating system. AUROC for death in hospital on real test patients (30 %, one split), of the",
        "group and of the others, and its paired change from the real training patients alone. Means over repetitions",
        "(the patients that are kept, and the noise) of the value and of the ends of the 95 % intervals, which cover",
        "test patients and three draws. *Added*: as many as were taken away (at 100 %: as many as there are), the same",
        "number in every arm.",
        "*Recommended* by the rehearsal among synthetic patients, one number a repetition.",
        "",
        "A classifier trained on real patients too is not covered by ε.",
    ]
    for (epsilon, share), some in frame.groupby(["epsilon", "share"]):
        once = some.drop_duplicates("seed")
        lines += [
            "",
            f"## ε = {epsilon:g}, {share:.0%} of the group's real patients",
            "",
            f"Real training patients of the group: {once['real'].iloc[0]}; added: {once['added'].iloc[0]}.",
            f"Repetitions: {len(once)}; recommended: {', '.join(str(n) for n in once['recommended'])}.",
        ]
        for learner, mine in some.groupby("learner", sort=False):
            lines += [
                "",
                f"### {learner}",
                "",
                "| trained on | group | change | others | change |",
                "|---|---|---|---|---|",
            ]
            for arm in ARMS:
                cells = []
                for part in (LABEL, "others"):
                    one = mine[(mine["arm"] == arm) & (mine["part"] == part)]
                    cells.append(cell(one[one["metric"] == "group_auroc"]))
                    cells.append(cell(one[one["metric"] == "group_change"], sign="+"))
                lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def kept(path: Path, new: list[dict[str, Any]]) -> pd.DataFrame:
    """Add rows to a CSV, in place of earlier ones with the same keys, and return all of it."""
    frame = pd.DataFrame(new)
    if path.exists():
        frame = pd.concat([pd.read_csv(path, dtype={"code": "str"}), frame])
    frame = frame.drop_duplicates(KEYS, keep="last").sort_values(["epsilon", "share", "seed"], kind="stable")
    frame.to_csv(path, index=False, float_format="%.6g")
    return frame


def main() -> None:
    """Run what was asked for; the files are brought up to date after every run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epsilon", nargs="+", type=float, default=[3.0])
    parser.add_argument("--shares", nargs="+", type=float, default=[0.1, 0.25, 1.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="numbers of the repetitions")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    asked = parser.parse_args()
    code()
    train, test = split(load_support2(), 0.3, key="benchmark")
    path = asked.results / "augmentation.csv"
    new: list[dict[str, Any]] = []
    for seed in asked.seeds:
        for epsilon in asked.epsilon:
            for share in asked.shares:
                new += run(train, test, epsilon, share, seed)
                path.with_suffix(".md").write_text(page(kept(path, new)), encoding="utf-8")
                print(seed, epsilon, share, flush=True)


if __name__ == "__main__":
    main()
