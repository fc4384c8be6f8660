"""The command line; one file a command."""

import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; the commands are loaded here, so that Ctrl-C is met from the first moment on."""
    try:
        from dpsynth.cli.app import app

        app()
    except SystemExit as done:
        _leave(done.code)
        raise
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what was spent is in the ledger\n")
        sys.exit(130)


def _leave(code: object) -> None:
    """End one of several processes at once: threads of gloo now and then abort one that goes down the usual way."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))
