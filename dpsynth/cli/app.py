"""The commands under one name. Nothing heavy is imported before a command runs."""

from typing import Annotated

import typer

from dpsynth.cli import (
    audit,
    augment,
    demo,
    doctor,
    evaluate,
    federate,
    fit,
    ledger,
    models,
    plan,
    release,
    sample,
    schema,
)
from dpsynth.cli.databases import Discreet

__all__ = ["app"]

app = typer.Typer(
    name="dpsynth",
    cls=Discreet,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a traceback with values of variables would show patients
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(schema.app, name="schema")
app.command("plan")(plan.run)
app.command("fit")(fit.run)
app.command("sample")(sample.run)
app.command("release")(release.run)
app.command("evaluate")(evaluate.run)
app.command("audit")(audit.run)
app.command("augment")(augment.run)
app.add_typer(federate.app, name="federate")
app.add_typer(ledger.app, name="ledger")
app.command("models")(models.run)
app.command("doctor")(doctor.run)
app.command("demo")(demo.run)


def _version(wanted: bool) -> None:
    if wanted:
        from dpsynth import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _dpsynth(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Private synthetic medical cohorts: learn a patient table under differential privacy, release it, judge it.

    Start with `dpsynth demo`, or with your own table: `dpsynth schema draft`, `dpsynth plan`, `dpsynth release`.

    Exit codes: 0 done, 2 bad input, 3 budget refused, 1 a fault of ours, 130 interrupted.
    """
