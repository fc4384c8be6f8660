"""``dpsynth release``: from a table, or from a model that is fitted already, to a folder that can be published."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpsynth.cli.common import (
    AnywayOption,
    CheckpointOption,
    DeltaOption,
    ForceOption,
    JsonOption,
    LabelOption,
    LedgerOption,
    LimitOption,
    MemoryOption,
    ModelOption,
    OptionsOption,
    PriorOption,
    SeedOption,
    SparkOption,
    WithoutImagesOption,
    chosen,
    guarded,
    note,
    progress,
)
from dpsynth.cli.databases import DatasetOption, QueryOption, named, source
from dpsynth.cli.formats import confirmed_schema, reads_tables, takes_options
from dpsynth.cli.outcome import announce
from dpsynth.errors import InputError

if TYPE_CHECKING:
    from dpsynth.jobs.publish import Published
    from dpsynth.progress import Progress


@dataclass(frozen=True, kw_only=True)
class ReleaseOptions:
    """Options of ``dpsynth release``, one field each, in the order of ``--help``."""

    data: Annotated[
        str,
        typer.Argument(
            help="Patients: CSV, Parquet, a folder or pattern of them, file.duckdb::table, postgresql://host/database"
            "::schema.table, .npz of images or image folder; or the folder of a saved model."
        ),
    ]
    schema: Annotated[Path | None, typer.Option("--schema", "-s", help="Schema file (YAML), checked by a person.")] = (
        None
    )
    epsilon: Annotated[
        float | None,
        typer.Option("--epsilon", "-e", help="The whole budget. There is no default: it is your decision."),
    ] = None
    delta: DeltaOption = None
    model: ModelOption = None
    option: OptionsOption = None
    prior: PriorOption = None
    without_images: WithoutImagesOption = False
    anyway: AnywayOption = False
    query: QueryOption = None
    dataset: DatasetOption = ""
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder that gets release/ and, with --holdout, internal/.")
    ] = Path()
    rows: Annotated[
        int | None,
        typer.Option("--rows", "-n", help="Rows to release; default: the schema's `rows`, else a noisy estimate."),
    ] = None
    holdout: Annotated[
        float | None,
        typer.Option(
            "--holdout",
            help="Share of patients that the model never sees and that judge the release, in internal/ only. "
            "Default: all patients train the model.",
        ),
    ] = None
    split: Annotated[
        Path | None,
        typer.Option("--split", help="internal/split.json of an earlier run: hold the same patients out again."),
    ] = None
    licence: Annotated[str, typer.Option("--licence", help="SPDX name or URL for the dataset card.")] = ""
    ledger: LedgerOption = None
    limit: LimitOption = None
    label: LabelOption = ""
    checkpoint: CheckpointOption = None
    memory: MemoryOption = None
    spark: SparkOption = None
    seed: SeedOption = None
    force: ForceOption = False
    json: JsonOption = False
    form: dict[str, Any]

    @property
    def of_release(self) -> dict[str, Any]:
        """Arguments of a release, be it of a table or of a saved model."""
        return {"rows": self.rows, "licence": self.licence, "force": self.force}

    @property
    def settings(self) -> dict[str, Any]:
        """Further arguments of `dpsynth.jobs.publish.publish`; None where not given."""
        return {
            "delta": self.delta,
            "holdout": self.holdout,
            "split": self.split,
            "ledger": self.ledger,
            "limit": self.limit,
            "label": self.label or None,
            "checkpoint": self.checkpoint,
            "memory": self.memory,
            "seed": self.seed,
            "without_images": self.without_images or None,
            "anyway": self.anyway or None,
        }

    @property
    def of_fit(self) -> dict[str, Any]:
        """Everything that has a meaning for a fit alone; None where not given."""
        named = {"schema": self.schema, "epsilon": self.epsilon, "model": self.model, "option": self.option}
        named |= {"prior": self.prior, "query": self.query, "dataset": self.dataset or None}
        return named | self.settings


@guarded
@reads_tables
@takes_options(ReleaseOptions)
def run(options: ReleaseOptions) -> None:
    """Fit, sample and write a bundle that is safe to publish, with its privacy statement.

    From a table it spends the budget; from a saved model it spends nothing. Where the schema declares `rows` and the
    plan expects little but noise, it says so and stops before it spends.

    For example:

        dpsynth release ward.csv --schema ward.yaml --epsilon 1

        dpsynth release ward.csv -s ward.yaml -e 1 --holdout 0.2 --out study

        dpsynth release scans.npz -s scans.yaml -e 10

        dpsynth release "visits/*.parquet" -s ward.yaml -e 1

        dpsynth release extract.duckdb::visits -s ward.yaml -e 1

        dpsynth release postgresql://steward@db/ehr --query cohort.sql -s ward.yaml -e 1

        dpsynth release --spark yarn ehr.cohort -s ward.yaml -e 1

        dpsynth release model --rows 5000
    """
    with progress(quiet=options.json) as report:
        if options.spark is None and _is_model(Path(options.data)):
            _refuse(options.of_fit | options.form)
            published = _from_model(options, report)
        else:
            published = _from_table(options, report)
    announce(published, json=options.json)


def _is_model(path: Path) -> bool:
    """Return whether a path is a folder that holds no patients, of images or of tables."""
    if not path.is_dir():
        return False
    from dpsynth.files.folder import is_image_folder
    from dpsynth.sources.locating import is_several

    return not is_image_folder(path) and not is_several(path)


def _refuse(options: dict[str, Any]) -> None:
    """Refuse what only a fit can use: a saved model has spent its budget already."""
    unused = [name for name, value in options.items() if value is not None and value != []]
    if unused:
        name = unused[0].replace("_", "-")
        raise InputError(f"--{name}: is for a table of patients; a saved model was fitted already.")


def _from_model(options: ReleaseOptions, report: "Progress") -> "Published":
    """Sample from a saved model and write its release."""
    from dpsynth.jobs.publish import republish
    from dpsynth.models import load_model

    return republish(load_model(Path(options.data)), options.out, progress=report, **options.of_release)


def _from_table(options: ReleaseOptions, report: "Progress") -> "Published":
    """Read the schema and the patients, fit the model that the command line names, and write its release."""
    from dpsynth.jobs.publish import publish
    from dpsynth.sources.sampling import MOST
    from dpsynth.sources.scanned import ScannedCohort, open_cohort

    if options.schema is None or options.epsilon is None:
        name = "schema" if options.schema is None else "epsilon"
        raise InputError(f"--{name}: is needed to release a table of patients; see `dpsynth release --help`.")
    data = options.data if options.spark else source(options.data, options.query)
    schema = named(confirmed_schema(options.schema, options.form), options.dataset)
    maker = chosen(options.model, options.option, schema, without_images=options.without_images, prior=options.prior)
    report("reading", 0.0)
    cohort = open_cohort(data, schema, memory=options.memory, spark=options.spark)
    is_judged = options.holdout is not None or options.split is not None
    if is_judged and isinstance(cohort, ScannedCohort) and not isinstance(data, str):
        note(f"{data.name}: judged by samples of both sides, at most {MOST:,} rows each, that fit into memory.")
    settings = {name: value for name, value in options.settings.items() if value is not None}
    return publish(
        cohort, options.out, maker, epsilon=options.epsilon, progress=report, **settings, **options.of_release
    )
