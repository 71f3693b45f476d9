"""Builds the stacks that are not in Python, where a compiler is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

PEERS: Final = Path(__file__).parent / "peers"
BUILD: Final = Path(__file__).parent.parent / "build" / "benchmarks"
PATIENCE: Final = 300.0  # seconds


class BuildError(Exception):
    """There is no compiler, or it was not content."""


def _build(
    source: Path,
    compiler: str,
    arguments: Sequence[str],
    environment: Mapping[str, str] | None = None,
) -> str:
    """The program; built only if its source is newer.

    Raises:
      BuildError: see there.
    """
    program = BUILD / source.parent.name
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return str(program)
    beside = Path(sys.executable).parent / compiler  # of a package in our venv
    found = str(beside) if beside.exists() else shutil.which(compiler)
    if found is None:
        raise BuildError(f"{compiler} is not installed")
    BUILD.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(  # noqa: S603 - our own words only
            [
                found,
                *(word.format(source=source, program=program) for word in arguments),
            ],
            check=True,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env={**os.environ, **(environment or {})},
        )
    except subprocess.CalledProcessError as exc:
        errors = [line for line in exc.stderr.splitlines() if "error" in line]
        raise BuildError(f"{compiler} failed: {(errors or ['?'])[0][:100]}") from exc
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise BuildError(f"{compiler} failed: {exc}") from exc
    return str(program)


def go() -> str:
    # The toolchain that is there, no other; nothing is fetched.
    environment = {"GOTOOLCHAIN": "local", "GOPROXY": "off", "GO111MODULE": "off"}
    arguments = ["build", "-o", "{program}", "{source}"]
    return _build(PEERS / "go" / "main.go", "go", arguments, environment)


def boost() -> str:
    arguments = [
        "-std=c++17",
        "-O2",
        "-pthread",
        "{source}",
        "-lssl",
        "-lcrypto",
        "-o",
        "{program}",
    ]
    return _build(PEERS / "boost" / "main.cpp", "g++", arguments)
