"""Programs and modules that not every machine has: without them a test is skipped."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from subprocess import PIPE, STDOUT
from typing import NoReturn

import pytest

from harness.build import MissingError, find
from harness.process import PATIENCE


def unavailable(reason: str) -> NoReturn:
    """Skip the test or module; where every peer has to be installed, fail it."""
    if os.environ.get("TLSDOWN_REQUIRE_PEERS") == "1":
        pytest.fail(reason)
    pytest.skip(reason, allow_module_level=True)


@contextmanager
def skip_if_missing() -> Iterator[None]:
    """Skip the test if the block finds that something is not installed."""
    try:
        yield
    except MissingError as exc:
        unavailable(str(exc))


def require(program: str, mode: int = os.F_OK | os.X_OK) -> str:
    """The path of a program that not every machine has: see `find`."""
    with skip_if_missing():
        return find(program, mode)


def require_module(name: str) -> None:
    """Skip the test if a Python module is not installed."""
    if importlib.util.find_spec(name) is None:
        unavailable(f"{name} is not installed")


@cache
def version_of(program: str, option: str) -> str:
    """The first number with a dot in what a program prints about its version."""
    done = subprocess.run(  # noqa: S603 - found by us
        [require(program), option],
        check=True,
        stdout=PIPE,
        stderr=STDOUT,
        text=True,
        timeout=PATIENCE,
    )
    found = re.search(r"\d+(\.\d+)+", done.stdout)
    assert found is not None, done.stdout
    return found[0]
