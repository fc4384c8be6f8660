"""``dpsynth fit``: learn a model and save it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dpsynth.cli.common import (
    AnywayOption,
    CheckpointOption,
    DataArgument,
    DeltaOption,
    EpsilonOption,
    JsonOption,
    LabelOption,
    LedgerOption,
    LimitOption,
    ModelOption,
    OptionsOption,
    SchemaOption,
    SeedOption,
    WithoutImagesOption,
    chosen,
    emit,
    guarded,
    note,
    progress,
    remarks,
    spent,
)
from dpsynth.cli.formats import formatted, reads_tables


@guarded
@reads_tables
def run(
    data: DataArgument,
    *,
    schema: SchemaOption,
    epsilon: EpsilonOption,
    delta: DeltaOption = None,
    model: ModelOption = None,
    option: OptionsOption = None,
    without_images: WithoutImagesOption = False,
    anyway: AnywayOption = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder for the model.")] = Path("model"),
    ledger: LedgerOption = None,
    limit: LimitOption = None,
    label: LabelOption = "",
    checkpoint: CheckpointOption = None,
    seed: SeedOption = None,
    json: JsonOption = False,
    form: dict[str, Any],
) -> None:
    """Learn a model of patients, of their table and of the images that the schema declares.

    Spends the whole budget; sampling from the model is then free. Where the schema declares `rows` and the plan expects
    little but noise, it says so and stops before it spends.

    For example:

        dpsynth fit ward.csv --schema ward.yaml --epsilon 1

        dpsynth fit ward.parquet -s ward.yaml -e 1 --model aim --out models/aim --limit 3

        dpsynth fit scans.npz -s scans.yaml -e 10
    """
    from dpsynth.cohort import Cohort
    from dpsynth.files import check_target
    from dpsynth.privacy import processes
    from dpsynth.schema import Schema
    from dpsynth.workflow import fit

    check_target(out)
    with progress(quiet=json) as report:
        facts = formatted(Schema.load(schema), form)
        facts.check_confirmed()
        maker = chosen(model, option, facts, without_images=without_images)
        report("reading", 0.0)
        cohort = Cohort.read(data, facts)
        fitted = fit(
            cohort,
            maker,
            epsilon=epsilon,
            delta=delta,
            without_images=without_images,
            anyway=anyway,
            ledger=ledger,
            limit=limit,
            label=label,
            checkpoint=checkpoint,
            seed=seed,
            progress=report,
        )
        report("writing", 0.0)
        processes.shared(lambda: fitted.save(out))
    if processes.number() > 0:
        return  # the first process speaks for all
    if json:
        emit({"model": str(out), **spent(fitted.statement), "warnings": fitted.warnings})
    else:
        note(f"{out}: the model; draw rows with `dpsynth sample {out} -n 1000`, free of cost.")
        for warning in fitted.warnings:
            note(f"warning: {warning}")
        note(f"spent: epsilon {fitted.statement['epsilon']:g}, delta {fitted.statement['delta']:g}.")
        remarks(fitted.statement)
