"""Compiles the labs in C: one for each library, from ``labs/c``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from harness.build import compiled, preprocess

from .labs import source
from .programs import require, skip_if_missing

FLAGS: Final = ("-std=c11", "-Wall", "-Wextra", "-O1")


def c_lab(folder: Path, name: str, header: str, *libraries: str) -> Sequence[str]:
    """Compile a lab in C, and return the command that starts it.

    Args:
      folder: For programs.
      name: The name of its source, without ``.c``.
      header: One of its library, to see whether that is installed.
      *libraries: What to link it with.
    """
    compiler = require("cc")
    with skip_if_missing():
        preprocess(compiler, "c", header)
    sources = [source(f"c/{each}") for each in ("lab.c", f"{name}.c", "tls.h")]
    link = [f"-l{library}" for library in libraries]
    recipe = [compiler, *FLAGS, "-o", "OUTPUT", *sources[:2], *link]
    return [compiled(folder, sources, recipe)]
