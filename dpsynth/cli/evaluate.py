"""``dpsynth evaluate``: judge a synthetic table against real patients."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpsynth.cli.common import JsonOption, SchemaOption, emit, guarded, progress
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
    seed: Annotated[int, typer.Option("--seed", help="Seed of what the evaluation draws.")] = 0,
    json: JsonOption = False,
) -> None:
    """Judge a synthetic table: how close it is, and how well classifiers trained on it do on real patients.

    The numbers touch real patients without noise: they are internal, not to be published.

    For example:

        dpsynth evaluate --real holdout.csv --synthetic release --schema ward.yaml

        dpsynth evaluate --real test.csv --train train.csv --synthetic fake.csv -s ward.yaml --json
    """
    from dpsynth.cohort import Cohort
    from dpsynth.schema import Schema
    from dpsynth.workflow import evaluate

    with progress(quiet=json) as report:
        facts = Schema.load(schema)
        report("reading", 0.0)
        cohort = Cohort.read(real, facts)
        fake = _synthetic(synthetic, facts)
        trained = Cohort.read(train, facts) if train is not None else None
        report("judging", 0.0)
        results = evaluate(cohort, fake, target=target, train=trained, seed=seed)
    if json:
        emit({"disclosure": "internal", "results": [result.to_dict() for result in results]})
    else:
        judged(results)


def _synthetic(path: Path, schema: "Schema") -> "Cohort":
    from dpsynth.cohort import Cohort

    inside = path / "data" / "patients.parquet"
    return Cohort.read(inside if path.is_dir() else path, schema, synthetic=True)
