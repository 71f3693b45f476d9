"""The command ``trio-tlsdown``."""

from __future__ import annotations

import os
import sys
from typing import Final, NoReturn

EXTRA: Final = frozenset({"click", "cryptography", "rich", "trustme"})
NO_OUTPUT: Final = 3  # the exit code


def main() -> None:
    """Run the command; without the extra ``cli``, say how to install it.

    Raises:
      SystemExit: always; the code is that of the process.
    """
    try:
        from ._app import app
    except ModuleNotFoundError as exc:
        missing = (exc.name or "").partition(".")[0]
        if missing not in EXTRA:
            raise
        sys.exit(
            f"trio-tlsdown: the command line needs {missing}, which comes with: "
            "pip install 'trio-tlsdown[cli]'"
        )
    except KeyboardInterrupt:
        sys.exit("Aborted!")
    if sys.stdout is None:
        _no_output("it is closed")
    try:
        app()
    except OSError as exc:
        # What is left in the buffer would fail again when the interpreter exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _no_output(exc.strerror)
    except BaseExceptionGroup as group:
        # Ctrl-C in a nursery; click knows it only when it comes alone.
        if group.subgroup(KeyboardInterrupt) is None:
            raise
        sys.exit("Aborted!")


def _no_output(why: str | None) -> NoReturn:
    sys.stderr.write(f"trio-tlsdown: cannot write to standard output: {why}\n")
    sys.exit(NO_OUTPUT)
