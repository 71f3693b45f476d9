"""The TLS stacks that are compared, and how each is started."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from . import compiled

OURS: Final = "trio_tlsdown"
BASELINE: Final = "trio.SSLStream"
BARE: Final = "bare TLSStream"


class MissingError(Exception):
    """What a stack needs is not installed."""


@dataclass(frozen=True)
class Stack:
    name: str
    prepare: Callable[[], Sequence[str]]
    """Gives the command, or raises MissingError."""
    only: frozenset[str] | None = None
    """The kinds of workloads that it is for. None: all."""
    yardstick: bool = False
    """It shows what others are compared with, and competes with none of them."""


def _python(name: str, where: str, *needs: str) -> Stack:
    def prepare() -> Sequence[str]:
        for module in needs:
            if importlib.util.find_spec(module) is None:
                raise MissingError(f"{module} is not installed")
        return (sys.executable, "-m", f"{__package__}.program", where)

    return Stack(name, prepare)


def _yardstick(name: str, where: str, only: str) -> Stack:
    return replace(_python(name, where), only=frozenset({only}), yardstick=True)


def _compiled(name: str, build: Callable[[], str]) -> Stack:
    def prepare() -> Sequence[str]:
        try:
            return (build(),)
        except compiled.BuildError as exc:
            raise MissingError(str(exc)) from exc

    return Stack(name, prepare)


def of_program(text: str) -> Stack:
    """A user's own, given as ``NAME=COMMAND``.

    Raises:
      ValueError: it is not of that form, or there is no such program.
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
    return Stack(name, lambda: words)


_ALL: Final = (
    _python(OURS, "tlsdown"),
    _yardstick(BARE, "bare_tlsstream", only="hold"),
    _yardstick("the floor", "floor", only="send"),
    _python(BASELINE, "sslstream"),
    _python("anyio-trio", "anyio_streams:ON_TRIO", "anyio"),
    _python("anyio-asyncio", "anyio_streams:ON_ASYNCIO", "anyio"),
    _python("asyncio", "asyncio_protocols"),
    _python("uvloop", "uvloop_protocols", "uvloop"),
    _python("ssl.SSLSocket", "ssl_socket"),
    _compiled("go", compiled.go),
    _compiled("boost.asio", compiled.boost),
)

STACKS: Final[Mapping[str, Stack]] = {stack.name: stack for stack in _ALL}
