"""``dpsynth federate key``: the keys of a hospital or a lead, and their fingerprint."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpsynth.cli.common import JsonOption, emit, guarded, note

if TYPE_CHECKING:
    from dpsynth.federated.keys import PublicKeys

KEY = Path("hospital.key")


@guarded
def run(
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="New file for the keys; it can be read by you alone.")] = KEY,
    show: Annotated[
        Path | None,
        typer.Option(
            "--show", help="Print the fingerprint of keys that are there; nothing is written.", metavar="FILE"
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make the keys of a hospital, or of a lead, and print their fingerprint.

    One file holds what is needed for a study: a key that signs messages (Ed25519), a key for masks (X25519), and a key
    with a certificate for TLS. No other program is needed. The file stays on this computer and is never sent.

    Read the fingerprint to the lead over the telephone, and have the lead write it into the study file. Then compare
    the study file's fingerprints with those that the other hospitals read to you: this is what keeps anybody in
    between from posing as one of you. The public keys themselves travel with the study and are checked against it.

    For example:

        dpsynth federate key

        dpsynth federate key --out keys/lead.key

        dpsynth federate key --show hospital.key
    """
    from dpsynth.cli.federate_extra import need_federated

    need_federated()
    from dpsynth.federated.keys import PrivateKeys

    if show is not None:
        keys = PrivateKeys.load(show)
    else:
        keys = PrivateKeys.make()
        keys.save(out)
    if json:
        emit({"key": str(show or out), "fingerprint": keys.public.fingerprint})
        return
    _tell(keys.public)
    if show is None:
        note(f"{out}: the keys; they can be read by you alone. Keep a copy where patients' data may be kept, or none.")


def _tell(keys: "PublicKeys") -> None:
    from dpsynth.federated.keys import spoken

    typer.echo(f"fingerprint: {keys.fingerprint}")
    typer.echo("\nto be read over the telephone:")
    for group, words in zip(keys.fingerprint.split(), spoken(keys.fingerprint), strict=True):
        typer.echo(f"  {group}  {words}")
