"""``dpsynth release``: from a table, or from a model that is fitted already, to a folder that can be published."""

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
    ModelOption,
    OptionsOption,
    SeedOption,
    WithoutImagesOption,
    chosen,
    guarded,
    progress,
)
from dpsynth.cli.formats import formatted, reads_tables
from dpsynth.cli.outcome import announce
from dpsynth.errors import InputError

if TYPE_CHECKING:
    from dpsynth.publishing import Published


@guarded
@reads_tables
def run(
    data: Annotated[
        Path,
        typer.Argument(help="Patients: CSV, Parquet, .npz of images or image folder; or the folder of a saved model."),
    ],
    *,
    schema: Annotated[
        Path | None, typer.Option("--schema", "-s", help="Schema file (YAML), checked by a person.")
    ] = None,
    epsilon: Annotated[
        float | None,
        typer.Option("--epsilon", "-e", help="The whole budget. There is no default: it is your decision."),
    ] = None,
    delta: DeltaOption = None,
    model: ModelOption = None,
    option: OptionsOption = None,
    without_images: WithoutImagesOption = False,
    anyway: AnywayOption = False,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder that gets release/ and, with --holdout, internal/.")
    ] = Path(),
    rows: Annotated[
        int | None,
        typer.Option("--rows", "-n", help="Rows to release; default: the schema's `rows`, else a noisy estimate."),
    ] = None,
    holdout: Annotated[
        float | None,
        typer.Option(
            "--holdout",
            help="Share of patients that the model never sees and that judge the release, in internal/ only. "
            "Default: all patients train the model.",
        ),
    ] = None,
    split: Annotated[
        Path | None,
        typer.Option("--split", help="internal/split.json of an earlier run: hold the same patients out again."),
    ] = None,
    licence: Annotated[str, typer.Option("--licence", help="SPDX name or URL for the dataset card.")] = "",
    ledger: LedgerOption = None,
    limit: LimitOption = None,
    label: LabelOption = "",
    checkpoint: CheckpointOption = None,
    seed: SeedOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
    form: dict[str, Any],
) -> None:
    """Fit, sample and write a bundle that is safe to publish, with its privacy statement.

    From a table it spends the budget; from a saved model it spends nothing. Where the schema declares `rows` and the
    plan expects little but noise, it says so and stops before it spends.

    For example:

        dpsynth release ward.csv --schema ward.yaml --epsilon 1

        dpsynth release ward.csv -s ward.yaml -e 1 --holdout 0.2 --out study

        dpsynth release scans.npz -s scans.yaml -e 10

        dpsynth release model --rows 5000
    """
    budget: dict[str, Any] = {
        "schema": schema, "epsilon": epsilon, "delta": delta, "model": model, "option": option, "holdout": holdout,
        "split": split,
        "ledger": ledger, "limit": limit, "label": label or None, "checkpoint": checkpoint,
        "seed": seed, "without_images": without_images or None, "anyway": anyway or None,
    }  # fmt: skip
    with progress(quiet=json) as report:
        if _is_model(data):
            _refuse(budget | form)
            made = _from_model(data, out, rows=rows, licence=licence, force=force, progress=report)
        else:
            given = _from_table_options(budget) | {"form": form}
            made = _from_table(data, out, given, rows=rows, licence=licence, force=force, progress=report)
    announce(made, json=json)


def _is_model(path: Path) -> bool:
    """Return whether a path is a folder that holds no images."""
    if not path.is_dir():
        return False
    from dpsynth.images import is_image_folder

    return not is_image_folder(path)


def _refuse(budget: dict[str, Any]) -> None:
    """Refuse what only a fit can use: a saved model has spent its budget already."""
    unused = [name for name, value in budget.items() if value is not None and value != []]
    if unused:
        option = unused[0].replace("_", "-")
        raise InputError(f"--{option}: is for a table of patients; a saved model was fitted already.")


def _from_table_options(budget: dict[str, Any]) -> dict[str, Any]:
    for name in ("schema", "epsilon"):
        if budget[name] is None:
            raise InputError(f"--{name}: is needed to release a table of patients; see `dpsynth release --help`.")
    return {key: value for key, value in budget.items() if value is not None}


def _from_model(model: Path, out: Path, **settings: Any) -> "Published":
    from dpsynth.models import load_model
    from dpsynth.publishing import republish

    return republish(load_model(model), out, **settings)


def _from_table(data: Path, out: Path, given: dict[str, Any], *, progress: Any, **settings: Any) -> "Published":
    from dpsynth.cohort import Cohort
    from dpsynth.publishing import publish
    from dpsynth.schema import Schema

    schema = formatted(Schema.load(given.pop("schema")), given.pop("form"))
    schema.check_confirmed()
    without_images = given.get("without_images", False)
    maker = chosen(given.pop("model", None), given.pop("option", None), schema, without_images=without_images)
    progress("reading", 0.0)
    return publish(Cohort.read(data, schema), out, maker, progress=progress, **given, **settings)
