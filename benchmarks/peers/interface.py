"""What the workloads ask of a TLS stack that has a Python interface.

The callables of a connection are the stack's own bound methods wherever they fit, so
that nothing of ours stands between the clock and the stack.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from benchmarks.clock import Lap

DEFAULT_READ = 65536
"""For those whose read has no default size: what their own examples ask for."""

Data: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Connection:
    send: Callable[[bytes], Awaitable[object]]
    receive: Callable[[], Awaitable[Data]]
    """One read of the default size."""
    receive_at_most: Callable[[int], Awaitable[Data]]
    shutdown: Callable[[], Awaitable[object]]
    """Exchange close_notify, wait for the other's, and close the socket."""
    close: Callable[[], Awaitable[object]]
    """What users are told to call when they are done."""
    half_close: Callable[[], Awaitable[object]] | None = None


class Orders(Protocol):
    """What a server program is told, and tells."""

    def listening(self, port: int) -> None: ...

    def wait_for_end(self) -> None:
        """Block until the connections shall end."""


Connect: TypeAlias = Callable[[str, int, ssl.SSLContext], Awaitable[Connection]]
Laps: TypeAlias = list[Lap]
Hold: TypeAlias = Callable[[str, ssl.SSLContext, Orders], Coroutine[Any, Any, Lap]]


@dataclass(frozen=True)
class PythonPeer:
    version: str
    run: Callable[[Callable[[], Coroutine[Any, Any, Laps]]], Laps]
    """Run a coroutine function to its end."""
    connect: Connect | None = None
    """Connect to a host and port, and shake hands."""
    hold: Hold | None = None
    """Serve: send every byte back; when told to end, end all connections well."""
    cannot: Mapping[str, str] = field(default_factory=dict)
    """Kinds of workloads that it has no way to do, and why."""
