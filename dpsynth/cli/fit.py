"""``dpsynth fit``: learn a model and save it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpsynth.cli.common import (
    AnywayOption,
    CheckpointOption,
    DeltaOption,
    EpsilonOption,
    JsonOption,
    LabelOption,
    LedgerOption,
    LimitOption,
    MemoryOption,
    ModelOption,
    OptionsOption,
    PriorOption,
    SchemaOption,
    SeedOption,
    SourceArgument,
    SparkOption,
    WithoutImagesOption,
    chosen,
    emit,
    guarded,
    note,
    progress,
    remarks,
    spent,
)
from dpsynth.cli.databases import DatasetOption, QueryOption, named, source
from dpsynth.cli.formats import confirmed_schema, reads_tables, takes_options

if TYPE_CHECKING:
    from dpsynth.models import Model
    from dpsynth.progress import Progress


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """Options of ``dpsynth fit``, one field each, in the order of ``--help``."""

    data: SourceArgument
    schema: SchemaOption
    epsilon: EpsilonOption
    delta: DeltaOption = None
    model: ModelOption = None
    option: OptionsOption = None
    prior: PriorOption = None
    without_images: WithoutImagesOption = False
    anyway: AnywayOption = False
    query: QueryOption = None
    dataset: DatasetOption = ""
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder for the model.")] = Path("model")
    ledger: LedgerOption = None
    limit: LimitOption = None
    label: LabelOption = ""
    checkpoint: CheckpointOption = None
    memory: MemoryOption = None
    spark: SparkOption = None
    seed: SeedOption = None
    json: JsonOption = False
    form: dict[str, Any]


@guarded
@reads_tables
@takes_options(FitOptions)
def run(options: FitOptions) -> None:
    """Learn a model of patients, of their table and of the images that the schema declares.

    Spends the whole budget; sampling from the model is then free. Where the schema declares `rows` and the plan expects
    little but noise, it says so and stops before it spends.

    For example:

        dpsynth fit ward.csv --schema ward.yaml --epsilon 1

        dpsynth fit ward.parquet -s ward.yaml -e 1 --model aim --out models/aim --limit 3

        dpsynth fit scans.npz -s scans.yaml -e 10

        dpsynth fit "visits/*.parquet" -s ward.yaml -e 1

        dpsynth fit postgresql://steward@db/ehr::ward.visits -s ward.yaml -e 1

        dpsynth fit --spark spark://host:7077 ehr.cohort -s ward.yaml -e 1
    """
    from dpsynth.atomic import check_target
    from dpsynth.privacy import processes

    check_target(options.out)
    with progress(quiet=options.json) as report:
        fitted = _fitted(options, report)
        report("writing", 0.0)
        processes.shared(lambda: fitted.save(options.out))
    if processes.number() > 0:
        return  # the first process speaks for all
    if options.json:
        emit({"model": str(options.out), **spent(fitted.statement), "warnings": fitted.warnings})
    else:
        _show(fitted, options.out)


def _fitted(options: FitOptions, report: "Progress") -> "Model":
    """Read the schema and the patients and fit the model that the command line names."""
    from dpsynth.jobs.fit import fit
    from dpsynth.sources.scanned import open_cohort

    data = options.data if options.spark else source(options.data, options.query)
    schema = named(confirmed_schema(options.schema, options.form), options.dataset)
    maker = chosen(options.model, options.option, schema, without_images=options.without_images, prior=options.prior)
    report("reading", 0.0)
    return fit(
        open_cohort(data, schema, memory=options.memory, spark=options.spark),
        maker,
        epsilon=options.epsilon,
        delta=options.delta,
        without_images=options.without_images,
        anyway=options.anyway,
        ledger=options.ledger,
        limit=options.limit,
        label=options.label,
        checkpoint=options.checkpoint,
        memory=options.memory,
        seed=options.seed,
        progress=report,
    )


def _show(fitted: "Model", folder: Path) -> None:
    """Say where the model is, what it cost, and what a person must know of it."""
    note(f"{folder}: the model; draw rows with `dpsynth sample {folder} -n 1000`, free of cost.")
    for warning in fitted.warnings:
        note(f"warning: {warning}")
    note(f"spent: epsilon {fitted.statement['epsilon']:g}, delta {fitted.statement['delta']:g}.")
    remarks(fitted.statement)
