"""``dpsynth plan``: what a budget buys, before any of it is spent."""

from typing import TYPE_CHECKING, Annotated

import typer

from dpsynth.cli.common import (
    DeltaOption,
    EpsilonOption,
    JsonOption,
    ModelOption,
    OptionsOption,
    SchemaArgument,
    WithoutImagesOption,
    chosen,
    emit,
    guarded,
    note,
    table,
)

if TYPE_CHECKING:
    from dpsynth.models import Plan


@guarded
def run(
    schema: SchemaArgument,
    *,
    epsilon: EpsilonOption,
    rows: Annotated[
        int | None, typer.Option("--rows", "-n", help="Assumed row count; default: the schema's `rows`.")
    ] = None,
    delta: DeltaOption = None,
    model: ModelOption = None,
    option: OptionsOption = None,
    without_images: WithoutImagesOption = False,
    json: JsonOption = False,
) -> None:
    """Say what a model would measure, with how much noise, and what error to expect. Reads no data, spends nothing.

    Where that is little but noise, it says what would help; `fit` and `release` would stop there.

    For example:

        dpsynth plan ward.yaml --rows 9000 --epsilon 1

        dpsynth plan ward.yaml --rows 9000 --epsilon 1 --model aim --json

        dpsynth plan scans.yaml --rows 5000 --epsilon 10
    """
    from dpsynth.jobs.fit import plan
    from dpsynth.jobs.outlook import foresee
    from dpsynth.privacy.spending.budget import Budget
    from dpsynth.schema.schema import Schema

    facts = Schema.load(schema)
    maker = chosen(model, option, facts, without_images=without_images)
    planned = plan(facts, epsilon=epsilon, delta=delta, rows=rows, model=maker, without_images=without_images)
    outlook = foresee(maker, facts, Budget(planned.epsilon, planned.delta), planned.rows)
    if json:
        emit({**planned.to_dict(), "outlook": outlook.warning() if outlook else None})
        return
    _show(planned)
    if outlook:
        note(f"warning: {outlook.warning()}")


def _show(plan: "Plan") -> None:
    table(
        f"{plan.model}: epsilon {plan.epsilon:g}, delta {plan.delta:g}, for {plan.rows:,} rows",
        ("what is measured", "tables", "cells", "noise per cell (rows)"),
        [(i.what, f"{i.tables:,}", f"{i.cells:,}", f"{i.sigma:,.1f}") for i in plan.items],
    )
    for item in plan.items:
        if item.note:
            typer.echo(f"- {item.what}: {item.note}")
    errors = [(_error(kind), f"{value:.3f}") for kind, value in plan.expected_error.items()]
    table("", ("what to expect", "value"), [*errors, ("seconds on two cores", f"{plan.expected_seconds:,.0f}")])
    for column, size in plan.smallest_groups.items():
        typer.echo(
            f"- groups of {column!r} are represented from about {size:,.0f} rows on: below, noise is half of a cell"
        )
    for warning in plan.warnings:
        note(f"warning: {warning}")


def _error(kind: str) -> str:
    from dpsynth.models.base import MEAN_IMAGE, NOISE_OVER_CONTRAST

    if kind == MEAN_IMAGE:
        return "noise of a label's mean image, of the greatest norm"
    if kind == NOISE_OVER_CONTRAST:
        return "noise in a drawn image, over what usual images of a label vary by"
    return f"mean TVD from noise, {kind}"
