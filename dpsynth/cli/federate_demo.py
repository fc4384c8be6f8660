"""``dpsynth federate demo``: five hospitals on this machine, and what each could do alone."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpsynth.cli.common import ForceOption, JsonOption, emit, guarded, note, progress, spent, table
from dpsynth.cli.federate_extra import need_federated

if TYPE_CHECKING:
    from dpsynth.jobs.federate import Demo

_LEARNER = "logistic regression"


@guarded
def run(
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder that gets release/.")] = Path(),
    model: Annotated[str, typer.Option("--model", "-m", help="A model that asks for sums alone.")] = "prism",
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Release one cohort of five hospitals, made of SUPPORT2 on this machine, at epsilon 1, and judge it.

    Every hospital has its own session, checks each question, adds its share of the noise and masks its answer, as it
    would over a network. Beside the joint cohort stands what comes of each hospital's own release at the same epsilon.

    For example:

        dpsynth federate demo

        dpsynth federate demo --model independent --out /tmp/five
    """
    need_federated()
    from dpsynth.jobs.federate import demo

    with progress(quiet=json) as report:
        made = demo(out, model=model, force=force, progress=report)
    rows = _rows(made)
    if json:
        emit({"release": str(made.release), **spent(made.joint.statement), "judged": rows})
        return
    facts = made.joint.statement["hospitals"]
    note(
        f"{facts['number']} hospitals, of which {facts['colluding']} may collude: epsilon "
        f"{made.joint.statement['epsilon']:g}; against all others: {facts['epsilon_of_a_hospital_alone']:.3g}."
    )
    words = [(row["cohort"], _shown(row["auroc"]), _shown(row["tvd"])) for row in rows]
    caption = f"AUROC of {_LEARNER} on real held-out patients, and distance of pairs of columns; internal numbers"
    table("how good", ("trained on", "AUROC", "distance"), words, caption=caption)
    note(f"{made.release}: safe to publish.")


def _rows(made: "Demo") -> list[dict[str, Any]]:
    evaluations = dict(made.judged)
    real = next(iter(evaluations.values()))
    rows = [{"cohort": "real patients", **_scores(real, "real")}]
    return rows + [{"cohort": name, **_scores(of, "synthetic")} for name, of in evaluations.items()]


def _scores(evaluation: Any, arm: str) -> dict[str, Any]:
    results = evaluation.results
    areas = [result.value for result in results.select("auroc", arm=arm, subject=_LEARNER)]
    distances = [result.value for result in results.select("tvd_2way", arm=arm)]
    return {"auroc": next(iter(areas), None), "tvd": next(iter(distances), None)}


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
