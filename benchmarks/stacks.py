"""The TLS stacks that are compared, and how each is started."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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


def _python(name: str, where: str, *needs: str, only: str | None = None) -> Stack:
    def prepare() -> Sequence[str]:
        for module in needs:
            if importlib.util.find_spec(module) is None:
                raise MissingError(f"{module} is not installed")
        return (sys.executable, "-m", f"{__package__}.program", where)

    return Stack(name, prepare, frozenset({only}) if only else None)


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
      ValueError: it is not of that form.
    """
    name, equals, command = text.partition("=")
    words = shlex.split(command)
    if not name or not equals or not words:
        raise ValueError(f"a program is NAME=COMMAND, not {text!r}")
    return Stack(name, lambda: words)


_ALL: Final = (
    _python(OURS, "tlsdown"),
    _python(BARE, "bare_tlsstream", only="hold"),
    _python("the floor", "floor", only="send"),
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
