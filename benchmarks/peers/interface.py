"""What the workloads ask of an implementation with a Python interface.

The callables of a connection are the implementation's own bound methods wherever they
fit, so that nothing of ours is timed.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from benchmarks.sample import Sample

DEFAULT_READ = 65536
"""Where a read has no default size: what the documentation's examples ask for."""

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
    abort: Callable[[], Awaitable[object]] | None = None
    """Close the socket at once, without close_notify."""
    half_close: Callable[[], Awaitable[object]] | None = None
    session: Callable[[], ssl.SSLSession | None] | None = None


class Control(Protocol):
    """How a server is told to stop, and tells its port."""

    def listening(self, port: int) -> None: ...

    def wait_for_stop(self) -> None:
        """Block until the server has to end its connections."""


Connect: TypeAlias = Callable[..., Awaitable[Connection]]
"""Connect to a host and port with a context, and shake hands. Whoever can resumes a
*session*. A workload is given it with all but the session."""

Samples: TypeAlias = list[Sample]
Serve: TypeAlias = Callable[[str, ssl.SSLContext, Control], Coroutine[Any, Any, Sample]]


@dataclass(frozen=True)
class PythonPeer:
    version: str
    run: Callable[[Callable[[], Coroutine[Any, Any, Samples]]], Samples]
    """Run a coroutine function to its end."""
    connect: Connect | None = None
    serve: Serve | None = None
    """Echo; when told to stop, end all connections gracefully, and time that."""
    cannot: Mapping[str, str] = field(default_factory=dict)
    """Kinds of workloads that it has no way to do, and why; also ``server``, for all
    that measure a server."""
