"""The command line; one file a command."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; the commands are loaded here, so that Ctrl-C is met from the first moment on."""
    try:
        from dpsynth.cli.app import app

        app()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what was spent is in the ledger\n")
        sys.exit(130)
