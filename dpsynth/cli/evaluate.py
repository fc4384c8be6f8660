"""``dpsynth evaluate``: judge a synthetic table against real patients."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpsynth.cli.common import ForceOption, JsonOption, SchemaOption, check_file, emit, guarded, note, progress
from dpsynth.cli.outcome import judged

if TYPE_CHECKING:
    from dpsynth.cohort import Cohort
    from dpsynth.schema import Schema


@guarded
def run(
    *,
    real: Annotated[Path, typer.Option("--real", help="CSV or Parquet of real patients that no model has seen.")],
    synthetic: Annotated[
        Path, typer.Option("--synthetic", help="CSV or Parquet of synthetic rows, or a release folder.")
    ],
    schema: SchemaOption,
    train: Annotated[
        Path | None,
        typer.Option("--train", help="Real patients that the model was fitted on; default: half of --real stands in."),
    ] = None,
    target: Annotated[str | None, typer.Option("--target", help="Outcome; default: the schema's.")] = None,
    subgroup: Annotated[
        list[str] | None,
        typer.Option("--subgroup", help="Column whose groups are judged, or several: sex,race; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the report as one HTML page.", show_default=False)
    ] = None,
    force: ForceOption = False,
    seed: Annotated[int, typer.Option("--seed", help="Seed of what the evaluation draws.")] = 0,
    json: JsonOption = False,
) -> None:
    """Judge a synthetic table: how close it is, and how well classifiers trained on it do on real patients.

    The numbers touch real patients without noise: they are internal, not to be published.

    For example:

        dpsynth evaluate --real holdout.csv --synthetic release --schema ward.yaml --out report.html

        dpsynth evaluate --real test.csv --train train.csv --synthetic fake.csv -s ward.yaml --json
    """
    from dpsynth.cohort import Cohort
    from dpsynth.schema import Schema
    from dpsynth.workflow import evaluate

    if out is not None:
        check_file(out, force=force)
    with progress(quiet=json) as report:
        facts = Schema.load(schema)
        report("reading", 0.0)
        cohort = Cohort.read(real, facts)
        fake = _synthetic(synthetic, facts)
        trained = Cohort.read(train, facts) if train is not None else None
        found = evaluate(
            cohort,
            fake,
            train=trained,
            target=target,
            subgroups=[name.split(",") if "," in name else name for name in subgroup] if subgroup else None,
            statement=_statement(synthetic),
            seed=seed,
            progress=report,
        )
        if out is not None:
            found.write_html(out)
    if json:
        emit(found.to_dict())
        return
    judged(found)
    if out is not None:
        note(f"{out}: the report, internal: it holds numbers that touched real patients.")


def _statement(path: Path) -> "dict[str, Any] | None":
    """Return the privacy statement of a release folder, where there is one."""
    from dpsynth.files import read_json

    inside = path / "privacy.json"
    return read_json(inside) if path.is_dir() and inside.is_file() else None


def _synthetic(path: Path, schema: "Schema") -> "Cohort":
    from dpsynth.cohort import Cohort

    inside = path / "data" / "patients.parquet"
    return Cohort.read(inside if path.is_dir() else path, schema, synthetic=True)
