"""The labs in C: one for each library, out of ``labs/c``."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .compiling import LIMIT, compiled
from .labs import source
from .programs import require, unavailable

FLAGS: Final = ("-std=c11", "-Wall", "-Wextra", "-O1")


def c_lab(folder: Path, name: str, header: str, *libraries: str) -> Sequence[str]:
    """How a lab in C is started; it is compiled before.

    Args:
      folder: For programs.
      name: That of its source, without ``.c``.
      header: One of its library, to see whether that is there.
      *libraries: What it is linked with.
    """
    compiler = require("cc")
    include = [compiler, "-fsyntax-only", "-include", header, "-x", "c", os.devnull]
    there = subprocess.run(  # noqa: S603 (the tests say what)
        include, check=False, capture_output=True, timeout=LIMIT
    )
    if there.returncode != 0:
        unavailable(f"{header} is not installed")
    sources = [source(f"c/{each}") for each in ("lab.c", f"{name}.c", "tls.h")]
    link = [f"-l{library}" for library in libraries]
    recipe = [compiler, *FLAGS, "-o", "OUTPUT", *sources[:2], *link]
    return [compiled(folder, sources, recipe)]
