"""``dpsynth federate``: several hospitals answer as one."""

import typer

from dpsynth.cli import federate_demo, federate_join, federate_key, federate_local, federate_release

app = typer.Typer(
    no_args_is_help=True,
    help="Several hospitals, one cohort: no patient leaves a house, and the lead learns noisy sums alone.",
)
app.command("key")(federate_key.run)
app.command("join")(federate_join.run)
app.command("release")(federate_release.run)
app.command("local")(federate_local.run)
app.command("demo")(federate_demo.run)
