"""Find programs and headers, and compile programs once for each source."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import PIPE
from typing import Final

TIMEOUT: Final = 300  # seconds; a C++ compiler takes long on a busy machine

# Only the toolchain and the standard library that are installed; nothing is downloaded.
_GO_ENVIRONMENT: Final = {
    "CGO_ENABLED": "0",
    "GO111MODULE": "off",
    "GOPROXY": "off",
    "GOTOOLCHAIN": "local",
}

PEERS: Final = Path(__file__).parent / "peers"
BOOST_PROGRAM: Final = "boost/main.cpp"
BOOST_OPTIONS: Final = ("-std=c++17", "-O2", "-pthread")
BOOST_LIBRARIES: Final = ("-lssl", "-lcrypto")


class MissingError(Exception):
    """A program, a header or a module is not installed."""


class BuildError(Exception):
    """A compiler failed; the message is what it printed."""


def find(program: str, mode: int = os.F_OK | os.X_OK) -> str:
    """The path of a program.

    Args:
      program: Its name, or its path.
      mode: As for `os.access`; ``os.F_OK`` for a file that is no program.

    Raises:
      MissingError: It is not installed.
    """
    # PyPI has some of them; servers are in a folder that is not on every PATH.
    folders = sysconfig.get_path("scripts"), os.environ["PATH"], "/usr/sbin"
    path = shutil.which(program, mode, os.pathsep.join(folders))
    if path is None:
        raise MissingError(f"{program} is not installed")
    return path


def compiled(
    folder: Path,
    sources: Sequence[str],
    compiler: Sequence[str],
    environment: Mapping[str, str] | None = None,
) -> str:
    """Compile a program, unless *folder* has it.

    Args:
      folder: For programs; made if it is missing.
      sources: File names.
      compiler: The command, with a word ``OUTPUT`` in place of the program's path. The
        program is compiled again when the command changes: put a version into it if it
        matters.
      environment: Variables besides those that are set.

    Returns:
      The program's path.

    Raises:
      BuildError: The compiler failed.
    """
    recipe = [*compiler, *(Path(source).read_text("utf-8") for source in sources)]
    output = folder / hashlib.sha256("\0".join(recipe).encode()).hexdigest()[:16]
    if not output.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = output.with_suffix(f".{os.getpid()}")  # others may compile it too
        done = subprocess.run(  # noqa: S603 - the caller's
            [str(unfinished) if word == "OUTPUT" else word for word in compiler],
            check=False,
            stderr=PIPE,
            text=True,
            timeout=TIMEOUT,
            env={**os.environ, **(environment or {})},
        )
        if done.returncode:
            raise BuildError(f"{Path(compiler[0]).name} failed: {done.stderr}")
        sys.stderr.write(done.stderr)  # warnings
        unfinished.rename(output)
    return str(output)


def preprocess(compiler: str, language: str, *headers: str, words: str = "") -> str:
    """Expand *words* with the macros of these headers: that tells their versions.

    Args:
      compiler: Its path.
      language: ``c`` or ``c++``.
      *headers: To include.
      words: Names of macros.

    Raises:
      MissingError: A header is not installed.
    """
    includes = "".join(f"#include <{header}>\n" for header in headers)
    done = subprocess.run(  # noqa: S603 - the caller's
        [compiler, "-E", "-P", "-x", language, "-"],
        check=False,
        input=f"{includes}\n{words}\n",
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    if done.returncode:
        missing = re.search(r"error: (\S+): No such file", done.stderr)
        raise MissingError(f"{missing[1]} is not installed" if missing else done.stderr)
    return done.stdout.rstrip().rpartition("\n")[2]


def go(folder: Path) -> str:
    """Compile the program of Go's crypto/tls.

    Args:
      folder: For programs, and for Go's cache.

    Raises:
      MissingError: Go is not installed.
      BuildError: It failed.
    """
    sources = _sources("go/*.go")
    command = [find("go"), "build", "-o", "OUTPUT", *sources]
    environment = {**_GO_ENVIRONMENT, "GOCACHE": str(folder.absolute() / "go")}
    return compiled(folder, sources, command, environment)


def boost(folder: Path) -> str:
    """Compile the program of Boost.Asio, which uses OpenSSL.

    Args:
      folder: For programs.

    Raises:
      MissingError: The compiler, Boost or OpenSSL's headers are not installed.
      BuildError: The compiler failed.
    """
    compiler = find("g++")
    versions = preprocess(
        compiler,
        "c++",
        "boost/version.hpp",
        "openssl/ssl.h",
        words="BOOST_VERSION, OPENSSL_VERSION_STR",
    )
    options = [*BOOST_OPTIONS, f"-DVERSIONS={versions}"]
    main = str(PEERS / BOOST_PROGRAM)
    command = [compiler, *options, main, "-o", "OUTPUT", *BOOST_LIBRARIES]
    return compiled(folder, _sources("boost/*"), command)


def _sources(pattern: str) -> list[str]:
    return sorted(str(path) for path in PEERS.glob(pattern))
