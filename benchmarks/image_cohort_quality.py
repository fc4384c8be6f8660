"""The demonstration cohort with images, released whole: whether images belong to their rows, in every group.

A model learns the table and the images of `image_cohort` under one budget; as many patients as it learned from are
drawn. A network that was trained to tell the condition from real images is shown the synthetic ones (*table and image
agree*), and one that was trained on synthetic images is shown real test images (*learned from it*); beside both stands
what the first does on real test images, each in every group of patients. The ledger is added up for either part.

Each fit adds its rows to ``results/image_cohort.csv``; ``results/image_cohort.md`` is the table.

Examples
--------
::

    python benchmarks/image_cohort_quality.py --data fashion_mnist_12k.npz --epsilon 8 --fits 3
"""

import argparse
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from image_cohort import invented, schema_for
from sweep import commit

import dpsynth
from dpsynth import Cohort
from dpsynth.drafting.draft import draft_schema
from dpsynth.evaluation import Evaluation
from dpsynth.evaluation.learners.image import CNN
from dpsynth.privacy.spending.accounting import rho_for
from dpsynth.privacy.spending.budget import Budget

HERE = Path(__file__).parent
DELTA = 1e-6
KEYS = ["model", "epsilon", "fit", "measure", "group"]
#: What a measure is among the results: metrics (of groups, and of one condition), arm, and what they are about.
MEASURES = {
    "real images": (("image_consistency",), "real", "condition"),
    "table and image agree": (("image_consistency",), "trained_real_tested_synthetic", "condition"),
    "learned from it": (("image_accuracy", "class_recall"), "synthetic", CNN),
    "loss": (("image_accuracy_change", "class_recall_change"), "synthetic", CNN),
}
#: Questions about images; all others are about the table.
OF_IMAGES = ("rows by number of images", "image ")


def demonstration(path: Path) -> dict[str, Cohort]:
    """Return the invented patients of both parts of a labelled image set."""
    drafted = draft_schema(path)
    schema = schema_for(drafted)
    parts = {part: Cohort.read(path, drafted, part=part, public=True) for part in ("train", "test")}
    return {
        part: invented(one.images, one.to_pandas()["label"].to_numpy().astype(int), schema, 0)
        for part, one in parts.items()
    }


def ledger(statement: dict[str, Any]) -> dict[str, float]:
    """Return the price (rho) of the table's questions, of those about images, and what the budget could pay."""
    price = {"table": 0.0, "images": 0.0}
    for event in statement["events"]:
        part = "images" if event["what"].startswith(OF_IMAGES) else "table"
        price[part] += event["count"] * event["rho"]
    budget = Budget(statement["epsilon"], statement["delta"])
    whole = rho_for(budget, "gaussian", reserved_delta=statement["delta_for_discovery"])
    spent = price["table"] + price["images"]
    if not 0.999 * whole < spent <= whole:
        raise SystemExit(f"the parts of the ledger add up to {spent}, not to {whole}")
    return {"rho, table": price["table"], "rho, images": price["images"], "rho, budget": whole}


def numbers(found: Evaluation, **keys: Any) -> list[dict[str, Any]]:
    """Return every measure in every group as a row."""
    rows = []
    for measure, (metrics, arm, subject) in MEASURES.items():
        for one in found.results.select(metrics, arm=arm, subject=subject):
            ends = one.interval
            rows.append(
                {**keys, "measure": measure, "group": one.group, "value": one.value if one.ok else np.nan, "n": one.n}
                | {
                    "low": ends.low if ends else np.nan,
                    "high": ends.high if ends else np.nan,
                    "status": str(one.status),
                }
            )
    return rows


def page(frame: pd.DataFrame, patients: dict[str, int]) -> str:
    """Return the Markdown page."""
    code = ", ".join(sorted(frame["code"].unique()))
    words = (
        f"By `benchmarks/image_cohort_quality.py`, commit {code}. Invented patients with FashionMNIST's images, which "
        f"show nothing medical: {patients['train']:,} to learn from, {patients['test']:,} to test on; one patient is "
        f"protected with all images; δ = {DELTA:g}; noise of the operating system. *Table and image agree*: a network "
        "that was trained on real images finds the row's condition in the synthetic image; *real images*: the same "
        "network, images of other real patients. *Learned from it*: a network that was trained on synthetic images, "
        "on real test images; *loss*: against the network that was trained on real ones, paired. Shares of images; "
        "those of *all* in the first two columns are means over conditions. One fit: 95 % interval over patients; "
        "several: mean (least to greatest)."
    )
    lines = ["# A cohort with images: the demonstration cohort", "", *textwrap.wrap(words, 110)]
    for (model, epsilon), rows in frame.groupby(["model", "epsilon"], sort=False):
        fits = rows["fit"].nunique()
        lines += ["", f"## {model}, ε = {epsilon:g}, {fits} {'fit' if fits == 1 else 'fits'}", ""]
        shown = rows[rows["measure"].isin(MEASURES)]
        sizes = shown[shown["measure"] == "learned from it"].drop_duplicates("group").set_index("group")["n"]
        lines += ["| group | test patients | " + " | ".join(MEASURES) + " |", "|---" * (len(MEASURES) + 2) + "|"]
        for group in shown["group"].drop_duplicates():
            cells = [cell(shown[(shown["group"] == group) & (shown["measure"] == one)]) for one in MEASURES]
            size = f"{sizes[group]:,.0f}" if group in sizes.index else ""
            lines.append(f"| {group} | {size} | " + " | ".join(cells) + " |")
        price = rows[rows["fit"] == rows["fit"].max()].set_index("measure")["value"]
        table, images, whole = (price[f"rho, {part}"] for part in ("table", "images", "budget"))
        spent = f"rho {table:.5f} (table) + {images:.5f} (images) = {table + images:.5f}"
        lines += ["", f"One ledger for both parts: {spent}; the budget pays {whole:.5f}."]
        lines += [f"A fit takes {price['fit, CPU s']:.0f} s of processor time."]
    return "\n".join(lines) + "\n"


def cell(rows: pd.DataFrame) -> str:
    """Return a number with its interval, or mean and range over fits."""
    values = rows["value"].dropna()
    if rows.empty:
        return ""
    if values.empty:
        return "not estimable"
    ends = (rows["low"].iloc[0], rows["high"].iloc[0]) if len(values) == 1 else (values.min(), values.max())
    return f"{values.mean():.3f} ({ends[0]:.3f} to {ends[1]:.3f})"


def kept(path: Path, new: list[dict[str, Any]]) -> pd.DataFrame:
    """Add rows to a CSV, in place of earlier ones with the same keys, and return all of it."""
    frame = pd.DataFrame(new)
    if path.exists():
        frame = pd.concat([pd.read_csv(path, dtype={"code": "str"}), frame])
    frame = frame.drop_duplicates(KEYS, keep="last")
    frame.to_csv(path, index=False, float_format="%.6g")
    return frame


def main() -> None:
    """Fit, draw and judge as often as asked; the files are brought up to date after every fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="labelled image set, .npz")
    parser.add_argument("--model", default="moments")
    parser.add_argument("--epsilon", nargs="+", type=float, default=[8.0])
    parser.add_argument("--fits", type=int, default=3)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    asked = parser.parse_args()
    code, parts = commit(), demonstration(asked.data)
    patients = {part: len(one) for part, one in parts.items()}
    for epsilon in asked.epsilon:
        for fit in range(asked.fits):
            keys = {"model": asked.model, "epsilon": epsilon, "fit": fit, "code": code}
            start = time.process_time()
            model = dpsynth.fit(parts["train"], asked.model, epsilon=epsilon, delta=DELTA)
            price = ledger(dict(model.statement)) | {"fit, CPU s": time.process_time() - start}
            found = dpsynth.evaluate(parts["test"], model.sample(len(parts["train"])), train=parts["train"], seed=fit)
            new = numbers(found, **keys)
            new += [
                {**keys, "measure": name, "group": "all", "value": value, "status": "ok"}
                for name, value in price.items()
            ]
            frame = kept(asked.results / "image_cohort.csv", new)
            (asked.results / "image_cohort.md").write_text(page(frame, patients), encoding="utf-8")
            print(f"{asked.model}, epsilon {epsilon:g}, fit {fit}: {price}", flush=True)


if __name__ == "__main__":
    main()
