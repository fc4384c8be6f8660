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
    json: JsonOption = False,
) -> None:
    """Say what a model would measure, with how much noise, and what error to expect. Reads no data, spends nothing.

    For example:

        dpsynth plan ward.yaml --rows 9000 --epsilon 1

        dpsynth plan ward.yaml --rows 9000 --epsilon 1 --model aim --json
    """
    from dpsynth.schema import Schema
    from dpsynth.workflow import plan

    found = plan(Schema.load(schema), epsilon=epsilon, delta=delta, rows=rows, model=chosen(model, option))
    if json:
        emit(found.to_dict())
    else:
        _show(found)


def _show(plan: "Plan") -> None:
    table(
        f"{plan.model}: epsilon {plan.epsilon:g}, delta {plan.delta:g}, for {plan.rows:,} rows",
        ("what is measured", "tables", "cells", "noise per cell (rows)"),
        [(i.what, f"{i.tables:,}", f"{i.cells:,}", f"{i.sigma:,.1f}") for i in plan.items],
    )
    for item in plan.items:
        if item.note:
            typer.echo(f"- {item.what}: {item.note}")
    errors = [(f"mean TVD from noise, {order}", f"{value:.3f}") for order, value in plan.expected_error.items()]
    table("", ("what to expect", "value"), [*errors, ("seconds on two cores", f"{plan.expected_seconds:,.0f}")])
    for column, size in plan.smallest_groups.items():
        typer.echo(
            f"- groups of {column!r} are represented from about {size:,.0f} rows on: below, noise is half of a cell"
        )
    for warning in plan.warnings:
        note(f"warning: {warning}")
