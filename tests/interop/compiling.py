"""Labs that have to be compiled: once for each source and compiler."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from .programs import unavailable

LIMIT: Final = 300  # seconds; a C++ compiler takes long on a busy machine


def compiled(
    folder: Path,
    sources: Sequence[str],
    compiler: Sequence[str],
    environment: Mapping[str, str] | None = None,
) -> str:
    """Compile a program, unless *folder* has it.

    Args:
      folder: For programs.
      sources: File names.
      compiler: The command, with a word ``OUTPUT`` where the name of the program has
        to be. It is part of that name: put a version into it if it matters.
      environment: Variables besides those that are set.

    Returns:
      The name of the program.
    """
    recipe = [*compiler, *(Path(source).read_text() for source in sources)]
    output = folder / hashlib.sha256("\0".join(recipe).encode()).hexdigest()[:16]
    if not output.exists():
        unfinished = output.with_suffix(f".{os.getpid()}")  # others may compile it too
        subprocess.run(  # noqa: S603 (the tests say what)
            [str(unfinished) if word == "OUTPUT" else word for word in compiler],
            check=True,
            timeout=LIMIT,
            env={**os.environ, **(environment or {})},
        )
        unfinished.rename(output)
    return str(output)


def require_headers(compiler: str, *headers: str, words: str) -> str:
    """What the C preprocessor makes of some words behind these headers.

    That tells versions. Skips the test if a header is missing.
    """
    includes = "".join(f"#include <{header}>\n" for header in headers)
    done = subprocess.run(  # noqa: S603 (the tests say what)
        [compiler, "-E", "-P", "-x", "c++", "-"],
        input=includes + words,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    if done.returncode:
        unavailable(done.stderr.partition("\n")[0])
    return done.stdout.splitlines()[-1]
