"""``dpsynth sample``: draw rows from a model; costs nothing."""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpsynth.atomic import check_target
from dpsynth.cli.common import ForceOption, JsonOption, check_file, emit, guarded, note, progress
from dpsynth.cli.formats import takes_options
from dpsynth.columns.written_conditions import parse_conditions, parse_proportions
from dpsynth.errors import FileError, InputError

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort
    from dpsynth.progress import Progress

_TABLES = (".csv", ".parquet")


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """Options of ``dpsynth sample``, one field each, in the order of ``--help``."""

    model: Annotated[Path, typer.Argument(help="Folder of a saved model or of a release.")]
    rows: Annotated[int, typer.Option("--rows", "-n", help="How many rows.")]
    where: Annotated[
        list[str] | None,
        typer.Option("--where", "-w", help="Condition that every row keeps; may be repeated. See below."),
    ] = None
    proportions: Annotated[
        list[str] | None,
        typer.Option(
            "--proportions", "-p", metavar="CONDITION: SHARE", help="Share of the rows; may be repeated. See below."
        ),
    ] = None
    scarce: Annotated[
        bool,
        typer.Option("--scarce", help="Draw also where the noise exceeds the training rows that meet a condition."),
    ] = False
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="File to write, .csv or .parquet (default synthetic.csv); - writes CSV to the output stream. With "
            "images, a new folder (default synthetic).",
            show_default=False,
        ),
    ] = None
    seed: Annotated[int | None, typer.Option("--seed", help="Makes the draw repeatable.", show_default=False)] = None
    force: ForceOption = False
    json: JsonOption = False


@guarded
@takes_options(SampleOptions)
def run(options: SampleOptions) -> None:
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
    stream = str(options.out) == "-"
    if stream and options.json:
        raise InputError("--json: cannot go with --out -, because both write to the output stream.")
    with progress(quiet=options.json) as report:
        drawn, private = _drawn(options, report)
        report("writing", 0.0)
        out = options.out or _default(images=drawn.images is not None)  # a model of the table alone draws no images
        if not stream:
            _write(drawn, out, force=options.force)
    if stream:
        _print(drawn)
    elif options.json:
        emit({"file": str(out), "rows": len(drawn), "private": private})
    else:
        note(f"{out}: {len(drawn):,} synthetic rows.")


def _drawn(options: SampleOptions, report: "Progress") -> "tuple[Cohort, bool]":
    """Check the options, load the model and draw; return the rows, and whether the model is private."""
    from dpsynth.models import load_model

    conditions = parse_conditions(options.where or ())
    shares = parse_proportions(options.proportions) if options.proportions else None
    report("reading", 0.0)
    model = load_model(options.model)
    may_have_images = model.schema.images is not None
    if str(options.out) != "-":
        _check(options.out or _default(images=may_have_images), folder=may_have_images, force=options.force)
    report("sampling", 0.0)
    drawn = model.sample(options.rows, where=conditions, proportions=shares, scarce=options.scarce, seed=options.seed)
    return drawn, model.statement.get("private") is True


def _print(drawn: "Cohort") -> None:
    """Write rows as CSV to the output stream."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "synthetic.csv"
        drawn.write(path)
        sys.stdout.write(path.read_text(encoding="utf-8"))


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
