"""What the commands share: options, messages, progress, and how a fault ends."""

import contextlib
import functools
import inspect
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpsynth.columns.written_conditions import literal
from dpsynth.errors import DpsynthError, FileError, InputError

if TYPE_CHECKING:
    from dpsynth.models import Synthesizer
    from dpsynth.schema.schema import Schema

__all__ = [
    "AnywayOption",
    "CheckpointOption",
    "DataArgument",
    "DeltaOption",
    "EpsilonOption",
    "ForceOption",
    "JsonOption",
    "JudgedSchemaOption",
    "LabelOption",
    "LedgerOption",
    "LimitOption",
    "MemoryOption",
    "ModelOption",
    "OptionsOption",
    "PriorOption",
    "SchemaArgument",
    "SchemaOption",
    "SeedOption",
    "SourceArgument",
    "SparkOption",
    "WithoutImagesOption",
    "check_file",
    "chosen",
    "emit",
    "guarded",
    "note",
    "parse_options",
    "progress",
    "remarks",
    "spent",
    "table",
]

INTERRUPTED = 130
SEVERAL = ("dpsynth.cli.fit",)
"""Commands that several processes may share."""
DEBUG = "DPSYNTH_DEBUG"

DataArgument = Annotated[Path, typer.Argument(help="Patients: CSV, Parquet, .npz of images, or image folder.")]
SourceArgument = Annotated[
    str,
    typer.Argument(
        help="Patients: CSV, Parquet, a folder or pattern of them, Excel, SPSS, Stata, SAS, file.duckdb::table, "
        "postgresql://host/database::schema.table, .npz of images, or image folder."
    ),
]
SchemaArgument = Annotated[Path, typer.Argument(help="Schema file (YAML).")]
JudgedSchemaOption = Annotated[
    Path | None,
    typer.Option(
        "--schema",
        "-s",
        help="Schema file (YAML); default: that of the release, or one drafted from the files, for judging only.",
        show_default=False,
    ),
]
SchemaOption = Annotated[Path, typer.Option("--schema", "-s", help="Schema file (YAML), checked by a person.")]
EpsilonOption = Annotated[
    float,
    typer.Option("--epsilon", "-e", help="The whole budget for the release. There is no default: it is your decision."),
]
DeltaOption = Annotated[
    float | None,
    typer.Option("--delta", help="Default 1e-6: a fixed public rule, never 1/n of the private table."),
]
ModelOption = Annotated[str | None, typer.Option("--model", "-m", help="See `dpsynth models`.")]
OptionsOption = Annotated[
    list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="Option of the model; may be repeated.")
]
LedgerOption = Annotated[
    Path | None,
    typer.Option("--ledger", help="Ledger of the dataset; default: beside the data, <data file>.ledger.jsonl."),
]
LimitOption = Annotated[
    float | None,
    typer.Option(
        "--limit", help="Epsilon that all runs on this dataset may spend together; set by the first run only."
    ),
]
LabelOption = Annotated[str, typer.Option("--label", help="A name for the run in the ledger.")]
CheckpointOption = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        help="Folder that keeps the run: the same command again takes it up where it stopped and spends nothing twice.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script to read.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace what is there, once the new one is whole.")]
WithoutImagesOption = Annotated[
    bool, typer.Option("--without-images", help="Learn the table alone, of a schema that declares images.")
]
PriorOption = Annotated[
    str | None,
    typer.Option(
        "--prior",
        help="Public table of the same columns, or 'schema': used where noise is larger than its distance, at no cost; "
        "whoever is in it is not protected.",
        show_default=False,
    ),
]
AnywayOption = Annotated[
    bool, typer.Option("--anyway", help="Spend also where the plan expects little but noise.", show_default=False)
]
MemoryOption = Annotated[
    str | None,
    typer.Option(
        "--memory",
        help="How much memory the run may take, such as 8GB; a table that may not fit is read in parts.",
        show_default=False,
    ),
]
SparkOption = Annotated[
    str | None,
    typer.Option(
        "--spark",
        metavar="MASTER",
        help="Master of a Spark cluster (spark://host:7077, yarn, local[4]) that has the patients: a table of its "
        "catalogue, or files that it reads, such as parquet:/data/visits.",
        show_default=False,
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option(
        "--seed",
        help="Makes the noise repeatable, for tests: everything is then stamped NOT PRIVATE.",
        show_default=False,
    ),
]


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command end with a message and an exit code, never with a traceback, which may hold a patient's value."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            _check_processes(command.__module__)
            command(*args, **kwargs)
        except typer.Exit:
            raise
        except KeyboardInterrupt:
            note("interrupted; what was spent is in the ledger")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            raise typer.Exit(_tell(error)) from None

    run.__doc__ = _filled(command.__doc__ or "")
    return run


def _filled(help_text: str) -> str:
    """Return a help text with every paragraph on one line, for the terminal to wrap; indented examples stay."""
    paragraphs = inspect.cleandoc(help_text).split("\n\n")
    return "\n\n".join(text if text.startswith(" ") else text.replace("\n", " ") for text in paragraphs)


def _check_processes(module: str) -> None:
    """Refuse, in one of several processes of torchrun, what each of them would draw and write by itself."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and module not in SEVERAL:
        raise InputError(
            "torchrun: several processes can fit a model, nothing else. Run `dpsynth fit` under torchrun, then "
            "`dpsynth release` with the folder of the model, alone."
        )


def _tell(error: Exception) -> int:
    """Print what a person needs to know about the error and return the exit code."""
    if os.environ.get(DEBUG):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, DpsynthError):
        note(f"error: {error}")
        return error.exit_code
    if isinstance(error, OSError) and error.strerror:
        note(f"error: {error.strerror}" + (f": {error.filename}" if error.filename else ""))
        return InputError.exit_code
    note(
        f"error: a fault in dpsynth ({type(error).__name__}), not in what you gave. What was spent is in the ledger. "
        f"To see where, run again with {DEBUG}=1; what it prints may hold patients' values, so keep it private."
    )
    return 1


def check_file(out: Path, *, force: bool) -> None:
    """Refuse a file that is there, before any work is done for it.

    Raises
    ------
    FileError
        If `out` exists and `force` is false.
    """
    if out.exists() and not force:
        raise FileError(f"{out.name}: is there already; choose another file, or replace it on purpose with --force.")


def note(message: str) -> None:
    """Print a message for a person to the error stream; the output stream is for what a script reads."""
    typer.echo(message, err=True)


def emit(value: Any) -> None:
    """Print a JSON value to the output stream."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def table(
    title: str,
    columns: tuple[str, ...],
    rows: Iterable[tuple[str, ...]],
    *,
    caption: str | None = None,
    lines: bool = False,
) -> None:
    """Print a small table: text left, columns of numbers right; with lines between rows of several lines."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    drawn = Table(
        title=escape(title), caption=escape(caption) if caption else None, title_justify="left", show_lines=lines
    )
    cells = list(rows)
    for i, column in enumerate(columns):
        numbers = all(row[i][:1].isdigit() or row[i] == "-" for row in cells)
        drawn.add_column(escape(column), justify="right" if numbers else "left")
    for row in cells:
        drawn.add_row(*(escape(cell) for cell in row))
    Console().print(drawn)


def spent(statement: dict[str, Any]) -> dict[str, Any]:
    """Return what a script wants to know of a privacy statement."""
    names = ("model", "epsilon", "delta", "epsilon_spent", "unit", "patient_column", "private")
    return {"spent": {name: statement.get(name) for name in names}}


def chosen(
    model: str | None,
    options: list[str] | None,
    facts: "Schema",
    *,
    without_images: bool = False,
    prior: str | None = None,
) -> "Synthesizer":
    """Return the model that the command line names, with its options; the default of the schema where it names none.

    Raises
    ------
    InputError
        If the model or an option is unknown, or the model does not fit the schema.
    """
    from dpsynth.jobs.fit import check_model, default_model
    from dpsynth.models import make

    name = default_model(facts, without_images=without_images) if model is None else model
    maker = make(name, **parse_options([*(options or []), *([] if prior is None else [f"prior={prior}"])]))
    check_model(maker, facts, without_images=without_images)
    if model is None and maker.of_images:
        note(f"model: {name}, because the schema declares images; name another with --model.")
    return maker


def remarks(statement: dict[str, Any]) -> None:
    """Print what a statement says of discovered values and of noise in images, and its warnings."""
    from dpsynth.privacy.spending.statement import discovered_in_words, images_in_words

    for sentence in (*discovered_in_words(statement), *images_in_words(statement)):
        note(sentence)
    for warning in statement.get("warnings", ()):
        note(f"warning: {warning}")


def parse_options(texts: list[str] | None) -> dict[str, Any]:
    """Turn options ``NAME=VALUE`` into keyword arguments of a synthesizer.

    Parameters
    ----------
    texts : list of str or None
        The options as they are typed.

    Returns
    -------
    dict
        Values are read as whole numbers, decimal numbers, ``true``, ``false`` or else text.

    Raises
    ------
    InputError
        If one has no ``=`` or a name is given twice.

    Examples
    --------
    >>> parse_options(["bins=20", "grow=false"])
    {'bins': 20, 'grow': False}
    """
    options: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise InputError(f"--option {text!r}: expected NAME=VALUE.")
        if name in options:
            raise InputError(f"--option {name!r}: is given twice.")
        options[name] = literal(value)
    return options


@contextlib.contextmanager
def progress(*, quiet: bool = False) -> Iterator[Callable[[str, float], None]]:
    """Give a callback that draws one bar a phase on the error stream, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as TimeLeftColumn

    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeLeftColumn(),
    )
    is_follower = os.environ.get("RANK", "0") != "0"  # of the processes of torchrun the first alone draws bars
    bars = Progress(*columns, console=console, disable=quiet or is_follower or not console.is_terminal)
    tasks: dict[str, TaskID] = {}

    def show(phase: str, share: float) -> None:
        if phase not in tasks:
            for task in tasks.values():
                bars.update(task, completed=1.0)
            tasks[phase] = bars.add_task(phase, total=1.0)
        bars.update(tasks[phase], completed=min(max(share, 0.0), 1.0))

    def detail(phase: str, words: str) -> None:
        if phase in tasks:
            bars.update(tasks[phase], description=f"{phase} ({words})")

    setattr(show, "detail", detail)  # noqa: B010  (what a caller of `Progress` may offer besides)
    with bars:
        yield show
        for task in tasks.values():
            bars.update(task, completed=1.0)
