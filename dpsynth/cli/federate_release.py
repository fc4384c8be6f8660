"""``dpsynth federate release``: the lead of a study fits a model over all hospitals and writes the usual release."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpsynth.cli.common import ForceOption, JsonOption, emit, guarded, note, progress, remarks, spent
from dpsynth.cli.federate_extra import StudyArgument, need_federated
from dpsynth.cli.formats import takes_options

if TYPE_CHECKING:
    from dpsynth.models import Model

_STATES = {
    "here": "has connected",
    "silent": "has not been heard for 15 seconds; it may come back",
    "left": "has left",
}


@dataclass(frozen=True, kw_only=True)
class FederateReleaseOptions:
    """Options of ``dpsynth federate release``, one field each, in the order of ``--help``."""

    study: StudyArgument
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder for the release.")] = Path("release")
    key: Annotated[Path, typer.Option("--key", help="The lead's keys, of `dpsynth federate key`.")] = Path("lead.key")
    rows: Annotated[
        int | None, typer.Option("--rows", "-n", help="Rows to release; default: a noisy estimate of the patients.")
    ] = None
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen",
            metavar="HOST:PORT",
            help="Where hospitals reach this computer; default: the port of the lead's address in the study file.",
            show_default=False,
        ),
    ] = None
    wait: Annotated[
        float | None,
        typer.Option("--wait", help="Seconds to wait for all hospitals; default: until they are here."),
    ] = None
    inspected: Annotated[
        list[str] | None,
        typer.Option(
            "--inspected", metavar="HOSPITAL", help="Is behind a proxy that inspects TLS; may be given several times."
        ),
    ] = None
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint", help="Folder that keeps the run: the same command again goes on where it stopped."
        ),
    ] = None
    licence: Annotated[str, typer.Option("--licence", help="SPDX name or URL for the dataset card.")] = ""
    force: ForceOption = False
    json: JsonOption = False


@guarded
@takes_options(FederateReleaseOptions)
def run(options: FederateReleaseOptions) -> None:
    """Fit the study's model to the patients of all its hospitals, and write a release that is safe to publish.

    Opens the relay that hospitals connect to (`dpsynth federate join`), waits for all of them, and asks. This computer
    learns noisy sums alone: an answer by itself is masked and says nothing.

    For example:

        dpsynth federate release study.yaml --out release

        dpsynth federate release study.yaml --listen :8443 --checkpoint run --inspected st-mary
    """
    need_federated()
    from dpsynth.atomic import check_target
    from dpsynth.federated.study import Study
    from dpsynth.jobs.federate import maker_of, release_together
    from dpsynth.jobs.serve import relay_of

    study = Study.load(options.study)
    maker_of(study)  # what cannot be asked of hospitals is refused before anybody waits for it
    check_target(options.out, force=options.force)
    relay = relay_of(study, options.key, listen=options.listen, inspected=options.inspected or (), notice=_tell)
    with relay, progress(quiet=options.json) as report:
        note(f"listening at port {relay.port}; waiting for {', '.join(study.names)}.")
        relay.wait_for_all(seconds=options.wait)
        fitted = release_together(
            study,
            relay,
            options.out,
            rows=options.rows,
            licence=options.licence,
            force=options.force,
            folder=options.checkpoint,
            progress=report,
        )
    _announce(fitted, options)


def _tell(name: str, state: str) -> None:
    note(f"{name} {_STATES.get(state, state)}.")


def _announce(fitted: "Model", options: FederateReleaseOptions) -> None:
    if options.json:
        emit({"release": str(options.out), **spent(fitted.statement), "warnings": fitted.warnings})
        return
    remarks(fitted.statement)
    for warning in fitted.warnings:
        note(f"warning: {warning}")
    private = fitted.statement.get("private") is True
    safe = "safe to publish" if private else "NOT PRIVATE, a hospital used a fixed seed; do not publish it"
    note(f"{options.out}: {safe}; epsilon {fitted.statement['epsilon']:g} at each hospital.")
