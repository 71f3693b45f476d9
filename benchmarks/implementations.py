"""The implementations that are compared, and how each is started."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from harness import build
from harness.build import MissingError

OURS: Final = "trio_tlsdown"
BASELINE: Final = "trio.SSLStream"
BARE: Final = "bare TLSStream"

BUILD: Final = Path(__file__).parent.parent / "build" / "benchmarks"


@dataclass(frozen=True)
class Implementation:
    name: str
    prepare: Callable[[], Sequence[str]]
    """Returns the command. Raises MissingError or BuildError."""
    only: str | None = None
    """The one kind of workload that it is for. None: all."""

    @property
    def yardstick(self) -> bool:
        """It shows what is possible, and does not compete."""
        return self.only is not None


def _python(name: str, peer: str, *modules: str) -> Implementation:
    def prepare() -> Sequence[str]:
        for module in modules:
            if importlib.util.find_spec(module) is None:
                raise MissingError(f"{module} is not installed")
        return (sys.executable, "-m", f"{__package__}.program", peer)

    return Implementation(name, prepare)


def _yardstick(name: str, peer: str, only: str) -> Implementation:
    return replace(_python(name, peer), only=only)


def _compiled(name: str, compiler: Callable[[Path], str]) -> Implementation:
    def prepare() -> Sequence[str]:
        return (compiler(BUILD),)

    return Implementation(name, prepare)


def program_of(text: str) -> Implementation:
    """A program of the user's, given as ``NAME=COMMAND``.

    Raises:
      ValueError: It is not of that form, or there is no such program.
    """
    name, _, command = text.partition("=")
    try:
        words = shlex.split(command)
    except ValueError as exc:
        raise ValueError(f"--program: {text!r}: {exc}") from exc
    if not name or not words:
        raise ValueError(f"--program: {text!r} is not NAME=COMMAND")
    if shutil.which(words[0]) is None:
        raise ValueError(f"--program: {name}: no program {words[0]!r}")
    return Implementation(name, partial(list[str], words))


_ALL: Final = (
    _python(OURS, "tlsdown"),
    _yardstick(BARE, "bare_tlsstream", only="drain"),
    _yardstick("the floor", "floor", only="send"),
    _python(BASELINE, "sslstream"),
    _python("anyio-trio", "anyio_streams:ON_TRIO", "anyio"),
    _python("anyio-asyncio", "anyio_streams:ON_ASYNCIO", "anyio"),
    _python("asyncio", "asyncio_protocols"),
    _python("uvloop", "uvloop_protocols", "uvloop"),
    _python("ssl.SSLSocket", "ssl_socket"),
    _compiled("go", build.go),
    _compiled("boost.asio", build.boost),
)

IMPLEMENTATIONS: Final[Mapping[str, Implementation]] = {
    each.name: each for each in _ALL
}
