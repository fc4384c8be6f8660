"""Membership and attribute inference on SUPPORT2, by subgroup: what an attacker with the synthetic rows alone gains.

The patients are divided into members (the model is fitted on them), others (it is not), a reference and, for shadow
models, the attacker's own. Beside the models stands a copy of the members, which protects nobody: it shows that the
attacks work. Writes ``<results>/exposure.md`` and ``exposure.csv``.

Examples
--------
::

    python benchmarks/exposure.py --epsilon 1 4 --patients 2000
"""

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from dpsynth.cohort import Cohort
from dpsynth.datasets import load_support2
from dpsynth.evaluation.arrays.table import Table, tables
from dpsynth.evaluation.audit.membership import (
    Exposure,
    attribute_inference,
    density_ratio,
    features,
    groups_of,
    membership,
    shadow_scores,
)
from dpsynth.jobs.fit import fit

RESULTS = Path(__file__).parent / "results"
GROUPS = ("sex", "race")
ATTRIBUTES = ("income", "hospdead")
COPY = "copy of the members"


def parts(cohort: Cohort, patients: int, seed: int) -> dict[str, Cohort]:
    """Return members, others, reference and the attacker's own: as many patients each."""
    order = np.random.default_rng(seed).permutation(len(cohort))[: 4 * patients]
    names = ("members", "others", "reference", "own")
    return {name: cohort.take(np.sort(rows)) for name, rows in zip(names, np.split(order, 4), strict=True)}


def drawn(model: str, cohort: Cohort, epsilon: float) -> Cohort:
    """Return synthetic rows, as many as there are patients."""
    if model == COPY:
        return cohort
    return fit(cohort, model, epsilon=epsilon).sample(len(cohort))


def found(model: str, epsilon: float, cohorts: dict[str, Cohort], shadows: int) -> list[Exposure]:
    """Attack one fit."""
    synthetic = drawn(model, cohorts["members"], epsilon)
    judged = cohorts["members"].table, cohorts["others"].table
    both = Cohort(cohorts["members"].schema, _joined(*judged), public=True)
    made = tables({**cohorts, "synthetic": synthetic, "both": both})
    is_member = np.arange(len(both)) < len(cohorts["members"])
    seen = features(made["reference"], made["synthetic"], made["both"])
    scores = {"density ratio": density_ratio(seen)}
    if shadows:
        draw = _drawer(model, epsilon, cohorts["own"], made["own"])
        scores["shadow models"] = shadow_scores(draw, made["own"], made["reference"], seen, shadows=shadows)
    groups = groups_of(made["both"], GROUPS)
    results = [one for name, values in scores.items() for one in membership(name, values, is_member, groups)]
    for column in ATTRIBUTES:
        results += attribute_inference(column, made["synthetic"], made["members"], made["others"], GROUPS)
    return results


def _joined(first: object, second: object) -> object:
    import pyarrow as pa

    return pa.concat_tables([first, second]).combine_chunks()


def _drawer(model: str, epsilon: float, own: Cohort, own_table: Table) -> Callable[[Table], Table]:
    """Return what fits the model on some of the attacker's own patients."""

    def draw(some: Table) -> Table:
        # rows of the attacker's cohort, found by the identity of each row's values
        keys = {row: i for i, row in enumerate(_rows(own_table))}
        chosen = own.take(np.array([keys[row] for row in _rows(some)]))
        return tables({"own": own, "synthetic": drawn(model, chosen, epsilon)})["synthetic"]

    return draw


def _rows(table: Table) -> list[bytes]:
    columns = [np.asarray(variable.values, dtype=np.float64) for variable in table.variables.values()]
    values = np.column_stack(columns)
    return [row.tobytes() for row in values]


def line(model: str, epsilon: str, one: Exposure) -> str:
    """Return one line of the table."""
    middle = "not estimable" if one.value is None else f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"
    rates = f"{one.detail['members']:.3f} / {one.detail['others']:.3f}" if one.detail else ""
    return f"| {model} | {epsilon} | {one.attack} | {one.group} | {one.members} | {one.others} | {middle} | {rates} |"


def main() -> None:
    """Attack every model at every epsilon, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["independent", "prism"])
    parser.add_argument("--epsilon", nargs="+", type=float, default=[1.0, 4.0])
    parser.add_argument("--patients", type=int, default=2000)
    parser.add_argument("--shadows", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    cohorts = parts(load_support2(), asked.patients, asked.seed)
    runs = [(COPY, float("inf")), *((m, e) for e, m in itertools.product(asked.epsilon, asked.models))]
    rows, lines = [], []
    for model, epsilon in runs:
        shown = "none" if np.isinf(epsilon) else f"{epsilon:g}"
        for one in found(model, epsilon, cohorts, asked.shadows):
            rows.append({"model": model, "epsilon": shown, **one.to_dict(), "detail": one.detail or ""})
            lines.append(line(model, shown, one))
        print(model, shown, flush=True)
        pd.DataFrame(rows).to_csv(asked.results / "exposure.csv", index=False)
        (asked.results / "exposure.md").write_text(page(asked, lines), encoding="utf-8")


def page(asked: argparse.Namespace, lines: list[str]) -> str:
    """Return the Markdown file."""
    return "\n".join(
        [
            "# Membership and attribute inference: SUPPORT2",
            "",
            f"Written by `benchmarks/exposure.py`, seed {asked.seed}, one fit each. {asked.patients} members, as many",
            "others, reference patients and patients of the attacker's own; all columns; as many synthetic rows as",
            f"members; {asked.shadows} shadow models. Membership: AUROC of telling members from others (0.5 shows",
            "nothing). Attribute: hit rate on members minus that on others, who were not in the data (0 shows",
            "nothing); both rates beside it. 95 % intervals over patients, each by itself: of twenty, one is expected",
            "to miss.",
            "",
            "| model | ε | attack | group | members | others | value | members / others |",
            "|---|---|---|---|---|---|---|---|",
            *lines,
            "",
        ]
    )


if __name__ == "__main__":
    main()
