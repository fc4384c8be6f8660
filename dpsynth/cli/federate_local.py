"""``dpsynth federate local``: hospitals' own releases, put together without any protocol."""

from pathlib import Path
from typing import Annotated

import typer

from dpsynth.cli.common import ForceOption, guarded, note
from dpsynth.cli.federate_extra import StudyArgument
from dpsynth.errors import InputError


@guarded
def run(
    study: StudyArgument,
    releases: Annotated[
        list[str], typer.Argument(metavar="HOSPITAL=RELEASE...", help="Each hospital's own release/ folder.")
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder for the rows of all.")] = Path("together"),
    force: ForceOption = False,
) -> None:
    """Put together what each hospital of a study has released by itself, at the study's epsilon: the baseline.

    Needs no protocol and no trust; noise is that of each hospital alone. Costs nothing: releases are public.

    For example:

        dpsynth federate local study.yaml north=north/release south=south/release west=west/release
    """
    from dpsynth.federated.study import Study
    from dpsynth.jobs.local_releases import gather_releases

    pairs = dict(_pair(text) for text in releases)
    if len(pairs) != len(releases):
        raise InputError("local: a hospital is given twice.")
    rows = gather_releases(Study.load(study), pairs, out, force=force)
    note(f"{out}: {len(rows):,} rows of {len(pairs)} releases; safe to publish.")


def _pair(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise InputError(f"local: found {text!r}, expected HOSPITAL=RELEASE, a name of the study and a folder.")
    return name, Path(folder)
