"""The command ``trio-tlsdown``."""

from __future__ import annotations

import sys
from typing import Final

EXTRA: Final = frozenset({"click", "rich", "trustme"})


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
    try:
        app()
    except BaseExceptionGroup as group:
        # Ctrl-C in a nursery; click knows it only when it comes alone.
        if group.subgroup(KeyboardInterrupt) is None:
            raise
        sys.exit("Aborted!")
