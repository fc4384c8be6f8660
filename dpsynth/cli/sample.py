"""``dpsynth sample``: draw rows from a model; costs nothing."""

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpsynth.cli.common import ForceOption, JsonOption, check_file, emit, guarded, note, progress
from dpsynth.cli.where import parse_conditions, parse_proportions
from dpsynth.errors import FileError, InputError
from dpsynth.files import check_target

if TYPE_CHECKING:
    from dpsynth.cohort import Cohort

_TABLES = (".csv", ".parquet")


@guarded
def run(
    model: Annotated[Path, typer.Argument(help="Folder of a saved model or of a release.")],
    *,
    rows: Annotated[int, typer.Option("--rows", "-n", help="How many rows.")],
    where: Annotated[
        list[str] | None,
        typer.Option("--where", "-w", help="Condition that every row keeps; may be repeated. See below."),
    ] = None,
    proportions: Annotated[
        list[str] | None,
        typer.Option(
            "--proportions", "-p", metavar="CONDITION: SHARE", help="Share of the rows; may be repeated. See below."
        ),
    ] = None,
    scarce: Annotated[
        bool,
        typer.Option("--scarce", help="Draw also where the noise exceeds the training rows that meet a condition."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="File to write, .csv or .parquet (default synthetic.csv); - writes CSV to the output stream. With "
            "images, a new folder (default synthetic).",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Makes the draw repeatable.", show_default=False)] = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Draw synthetic rows from a model. Costs no budget, however often it is done.

    Conditions have the forms COLUMN == VALUE, COLUMN >= NUMBER, COLUMN <= NUMBER, COLUMN in [VALUE, VALUE] and
    COLUMN is missing; several are joined by and. A column with odd characters in its name stands in quotes.

    Proportions are a condition, a colon and a share. Conditions exclude each other; where the shares sum to less than
    1, the rest of the rows meets none of them. A condition that fewer training rows meet, by the model, than the noise
    on their number is refused; --scarce takes the model's guess from other patients.

    For example:

        dpsynth sample release/model -n 1000

        dpsynth sample model -n 500 --where "race == 'black' and age >= 80" --out old.parquet

        dpsynth sample model -n 500 -p "race == 'black': 0.5" -p "race == 'white': 0.5" --out balanced.csv
    """
    from dpsynth.models import load_model

    conditions = parse_conditions(where or ())
    shares = parse_proportions(proportions) if proportions else None
    stream = str(out) == "-"
    if stream and json:
        raise InputError("--json: cannot go with --out -, because both write to the output stream.")
    with progress(quiet=json) as report:
        report("reading", 0.0)
        fitted = load_model(model)
        may_have_images = fitted.schema.images is not None
        if not stream:
            _check(out or _default(images=may_have_images), folder=may_have_images, force=force)
        report("sampling", 0.0)
        drawn = fitted.sample(rows, where=conditions, proportions=shares, scarce=scarce, seed=seed)
        report("writing", 0.0)
        out = out or _default(images=drawn.images is not None)  # a model of the table alone draws no images
        if not stream:
            _write(drawn, out, force=force)
    if stream:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "synthetic.csv"
            drawn.write(path)
            sys.stdout.write(path.read_text(encoding="utf-8"))
    elif json:
        emit({"file": str(out), "rows": len(drawn), "private": fitted.statement.get("private") is True})
    else:
        note(f"{out}: {len(drawn):,} synthetic rows.")


def _default(*, images: bool) -> Path:
    return Path("synthetic" if images else "synthetic.csv")


def _write(drawn: "Cohort", out: Path, *, force: bool) -> None:
    if out.suffix.lower() not in _TABLES:
        drawn.write_folder(out, force=force)
        return
    check_file(out, force=force)
    drawn.write(out)
    if drawn.images is not None:
        note(f"{out}: holds the table alone; to write the images too, let --out name a folder.")


def _check(out: Path, *, folder: bool, force: bool) -> None:
    if folder and not out.suffix:
        check_target(out, force=force)
        return
    check_file(out, force=force)
    if out.suffix.lower() not in _TABLES:
        raise FileError(f"{out.name}: the name must end in .csv or .parquet, or be - for the output stream.")
