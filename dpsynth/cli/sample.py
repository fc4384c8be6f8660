"""``dpsynth sample``: draw rows from a model; costs nothing."""

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from dpsynth.cli.common import ForceOption, JsonOption, check_file, emit, guarded, note, progress
from dpsynth.cli.where import parse_conditions
from dpsynth.errors import FileError, InputError


@guarded
def run(
    model: Annotated[Path, typer.Argument(help="Folder of a saved model or of a release.")],
    *,
    rows: Annotated[int, typer.Option("--rows", "-n", help="How many rows.")],
    where: Annotated[
        list[str] | None,
        typer.Option("--where", "-w", help="Condition that every row keeps; may be repeated. See below."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="File to write, .csv or .parquet; - writes CSV to the output stream.")
    ] = Path("synthetic.csv"),
    seed: Annotated[int | None, typer.Option("--seed", help="Makes the draw repeatable.", show_default=False)] = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Draw synthetic rows from a model. Costs no budget, however often it is done.

    Conditions have the forms COLUMN == VALUE, COLUMN >= NUMBER, COLUMN <= NUMBER, COLUMN in [VALUE, VALUE] and
    COLUMN is missing. A column with odd characters in its name stands in quotes.

    For example:

        dpsynth sample release/model -n 1000

        dpsynth sample model -n 500 --where "race == 'black'" --where "age >= 80" --out old.parquet
    """
    from dpsynth.models import load_model

    conditions = parse_conditions(where or ())
    stream = str(out) == "-"
    if stream and json:
        raise InputError("--json: cannot go with --out -, because both write to the output stream.")
    if not stream:
        _check(out, force=force)
    with progress(quiet=json) as report:
        report("reading", 0.0)
        fitted = load_model(model)
        report("sampling", 0.0)
        drawn = fitted.sample(rows, where=conditions, seed=seed)
        report("writing", 0.0)
        if not stream:
            drawn.write(out)
    if stream:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "synthetic.csv"
            drawn.write(path)
            sys.stdout.write(path.read_text(encoding="utf-8"))
    elif json:
        emit({"file": str(out), "rows": len(drawn), "private": fitted.statement.get("private") is True})
    else:
        note(f"{out}: {len(drawn):,} synthetic rows.")


def _check(out: Path, *, force: bool) -> None:
    check_file(out, force=force)
    if out.suffix.lower() not in {".csv", ".parquet"}:
        raise FileError(f"{out.name}: the name must end in .csv or .parquet, or be - for the output stream.")
