"""Network namespaces: networks that only a test has. They take root."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

NAMESPACES: Final = Path("/run/netns")
MAY_MAKE: Final = (
    os.name == "posix" and os.geteuid() == 0 and shutil.which("ip") is not None
)

_numbers = itertools.count()


def ip(*arguments: str) -> None:
    """Run ip(8); a system that cannot do that skips the test."""
    process = subprocess.run(  # noqa: S603
        ["ip", *arguments],  # noqa: S607
        check=False,
        capture_output=True,
        text=True,
    )
    if process.returncode:  # pragma: no cover - as the system is
        pytest.skip(f"a network to test with: {process.stderr.strip()}")


@contextmanager
def namespace() -> Iterator[str]:
    """Make one, with a loopback of its own, as long as the block."""
    name = f"tlsdown{os.getpid()}-{next(_numbers)}"
    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        ip("netns", "delete", name)


def inside(name: str) -> tuple[str, ...]:
    """What to put before a command, so that it runs in a namespace."""
    return "ip", "netns", "exec", name
