"""What labs and benchmarks ask of an implementation with a Python interface.

The callables of a connection are the implementation's own bound methods wherever they
fit, so that nothing of ours is timed.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar

T = TypeVar("T")

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
    fileno: Callable[[], int] | None = None
    """The descriptor of the socket, for what it has no call for."""
    version: Callable[[], object] | None = None
    """That of TLS, as ``ssl`` names it."""


class Control(Protocol):
    """How a server is told to stop, and tells its port."""

    def listening(self, port: int) -> None: ...

    def wait_for_stop(self) -> None:
        """Block until the server has to end its connections."""


class Run(Protocol):
    """Run a coroutine function to its end."""

    def __call__(self, main: Callable[[], Coroutine[Any, Any, T]], /) -> T: ...


Connect: TypeAlias = Callable[..., Awaitable[Connection]]
"""Connect to a host and port with a context, and shake hands. A lab says which
*server_hostname* to verify; by default it is the host. Whoever can resumes a *session*.
A workload is given it with all but the session."""

Serve: TypeAlias = Callable[[str, ssl.SSLContext, Control], Coroutine[Any, Any, None]]

Accept: TypeAlias = Callable[[], Awaitable[Connection]]
Listen: TypeAlias = Callable[
    [str, ssl.SSLContext], AbstractAsyncContextManager[tuple[int, Accept]]
]
"""Listen on a free port of a host, and have clients shake hands; `Accept` returns them
one after the other."""


@dataclass(frozen=True, kw_only=True)
class PythonPeer:
    version: str
    run: Run
    connect: Connect | None = None
    listen: Listen | None = None
    """For a lab."""
    serve: Serve | None = None
    """For the benchmarks: echo, and when told to stop, end all connections gracefully."""
    in_thread: Callable[[Callable[[], Any]], Awaitable[Any]] | None = None
    """For a lab: call a function that blocks."""
    end: type[Exception] | None = None
    """What reading raises at a clean end; None: it returns no data."""
    cannot: Mapping[str, str] = field(default_factory=dict)
    """Kinds of workloads that it has no way to do, and why; also ``server``, for all
    that measure a server."""
