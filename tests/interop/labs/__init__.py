"""The labs: programs that play peers. ``../README.md`` has their line protocol."""

import sys
from collections.abc import Sequence
from pathlib import Path


def source(name: str) -> str:
    """The name of a file here."""
    return str(Path(__file__).parent / name)


def python_lab(peer: str) -> Sequence[str]:
    """The command of the lab of one of `harness.peers`."""
    return [sys.executable, "-m", f"{__name__}.coroutines", peer]
