"""What the commands of a federation need beyond the package itself, and what they share."""

from pathlib import Path
from typing import Annotated

import typer

from dpsynth.errors import InputError

__all__ = ["KeyOption", "StudyArgument", "need_federated"]

StudyArgument = Annotated[Path, typer.Argument(help="Study file (YAML), the same at the lead and at every hospital.")]
KeyOption = Annotated[Path, typer.Option("--key", help="Keys of `dpsynth federate key`.")]


def need_federated() -> None:
    """Refuse, with what to install, where the packages of the extra are not there.

    Raises
    ------
    InputError
        The message names the package.
    """
    try:
        import aiohttp  # noqa: F401
        import cryptography  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"dpsynth federate needs the package {error.name!r}, which is not installed; pip install "
            "'dpsynth[federated]'."
        ) from None
