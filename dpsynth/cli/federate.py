"""``dpsynth federate``: several hospitals answer as one."""

import typer

from dpsynth.cli import federate_join, federate_key, federate_release

app = typer.Typer(
    no_args_is_help=True,
    help="Several hospitals, one cohort: no patient leaves a house, and the lead learns noisy sums alone.",
)
app.command("key")(federate_key.run)
app.command("join")(federate_join.run)
app.command("release")(federate_release.run)
