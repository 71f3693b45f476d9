"""Draining a server: the cancel scopes a drain triggers, and its report."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Final

import attrs
import trio

from trio_tlsdown._core.report import PeerState, ShutdownOutcome
from trio_tlsdown._util import check_seconds

from .accept import SocketTLSStream


@attrs.frozen(kw_only=True)
class DrainReport:
    """What became of the connections that were open when a drain began."""

    tally: Counter[ShutdownOutcome]
    """How many ended in which way. Failed handshakes, and those that were cut short
    when the grace was over, are FAILED."""

    handlers_cancelled: int
    """How many handlers were cancelled because the grace was over."""

    discarded: int
    """How many bytes of application data had been received from their peers, and were
    never read: requests that were not answered, perhaps."""

    elapsed: float
    """Seconds from the beginning of the drain until all were closed."""


class MultiCancelScope:
    """Cancel scopes that several tasks are in, and that one can cancel together."""

    def __init__(self) -> None:
        self._open: set[trio.CancelScope] = set()
        self._cancelled = False

    @contextmanager
    def open_child(self) -> Generator[None]:
        """A scope that is cancelled by `cancel`, even if that was called before."""
        with trio.CancelScope() as scope:
            self._open.add(scope)
            if self._cancelled:
                scope.cancel()
            try:
                yield
            finally:
                self._open.discard(scope)

    def cancel(self) -> None:
        """Cancel all that are open, and all that will be."""
        self._cancelled = True
        for scope in self._open:
            scope.cancel()


# In a drain, how long something may take that has begun to come, in seconds: the first
# byte on a connection, the rest of a record.
MOMENT: Final = 0.5


class Waits:
    """The waits for words of a peer, which a drain cuts short if nothing has come.

    Args:
      new: How many seconds something may take to come on a new connection.

    Attributes:
      open: Those that are going on, oldest first.
      new: As above.
      limit: How many seconds one is left alone at most; None while nobody drains.
    """

    def __init__(self, *, new: float) -> None:
        self.open: dict[Wait, None] = {}
        self.new = new
        self.limit: float | None = None

    def cancel_oldest(self) -> None:
        """Cut the longest one short."""
        next(iter(self.open)).cancel()

    def start_drain(self, limit: float) -> None:
        """Cut short those that begin from now on; see `Wait.cut_short`."""
        self.limit = limit if self.limit is None else min(limit, self.limit)


class Served:
    """One connection of a server, and what it is known to have done.

    Args:
      stream: Its stream.
      peer: Its address, for logs.
      idle: The waits for a next request.

    Attributes:
      began: When it began to be waited for: accepted, or given to its handler.
      spoke: Whether the client has sent anything.
      handshaken: Whether the handshake is done.
      ready: Whether its handler may be called, or was.
      scope: That of what comes before the handler, or of the handler.
      failure: What was raised in its handshake or its handler.
    """

    __slots__ = (
        "began",
        "failure",
        "handshaken",
        "idle",
        "peer",
        "ready",
        "scope",
        "spoke",
        "stream",
        "transport",
    )

    def __init__(self, stream: SocketTLSStream, peer: str, idle: Waits) -> None:
        self.stream = stream
        self.transport = stream.transport_stream  # also after unwrap()
        self.peer = peer
        self.idle = idle
        self.began = trio.current_time()
        self.spoke = False
        self.handshaken = False
        self.ready = False
        self.scope: trio.CancelScope | None = None
        self.failure: Exception | None = None

    def has_input(self) -> bool:
        """Whether something has come that nobody has read."""
        sock = self.transport.socket
        if sock.fileno() == -1:
            return False
        if sock.is_readable():
            return True
        try:
            return self.stream.peer_state_nowait() is PeerState.DATA_WAITING
        except (trio.ClosedResourceError, trio.NeedHandshakeError):
            return False


class Wait:
    """A cancel scope around a wait for words of a peer.

    A generator would be shorter. But idle connections wait in here: it would stay in
    memory, and a drain would throw an exception into each.
    """

    __slots__ = ("_scope", "_served", "_timeout", "_waits")

    def __init__(self, waits: Waits, served: Served, timeout: float) -> None:
        self._waits = waits
        self._served = served
        self._timeout = timeout
        self._scope = trio.CancelScope()

    def __enter__(self) -> trio.CancelScope:
        if self._timeout != math.inf:
            self._scope.deadline = trio.current_time() + self._timeout
        self._waits.open[self] = None
        if self._waits.limit is not None:
            self.cut_short()
        return self._scope.__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self.end()
        return self._scope.__exit__(exc_type, exc_value, traceback)

    def end(self) -> None:
        """What follows in the block is no wait any more."""
        self._waits.open.pop(self, None)

    def cancel(self) -> None:
        """Cut it short now."""
        self.end()
        self._scope.cancel()

    def cut_short(self) -> None:
        """End the wait if there is a drain; after a moment where something may come.

        The task that waits has only to run to take what has come. If it is still
        there when the moment is over, the wait was for something else.
        """
        limit = self._waits.limit
        if limit is None or self not in self._waits.open:
            return
        now = trio.current_time()
        if self._served.has_input():
            until = now + min(MOMENT, limit)
        else:
            until = self._served.began + min(self._waits.new, limit)
        if until > now:
            self._scope.deadline = min(self._scope.deadline, until)
        else:
            self._scope.cancel()


# The connection whose handler is running.
SERVED: Final[ContextVar[Served | None]] = ContextVar("SERVED", default=None)


def cancel_on_drain(
    *, timeout: float = math.inf
) -> AbstractContextManager[trio.CancelScope, bool]:
    """A cancel scope that a drain of the server cancels.

    For handlers of `TLSServer`, around the wait for the *next* request, and nothing
    else. So an idle connection does not hold up the drain, and its peer gets a
    close_notify; an answer that has begun is finished::

        async def handler(stream):
            while True:
                with cancel_on_drain(timeout=60) as scope:
                    request = await stream.receive_some()
                if scope.cancelled_caught or not request:
                    return
                await stream.send_all(answer_to(request))

    A drain cancels it only if nothing has come from the peer: what is there, in the
    kernel or decrypted, is left a moment to be received; and so is what comes right
    behind the handshake of a new connection. The same goes for a wait that begins
    while the server drains.

    It finds the connection of the handler that it is called in, or that started the
    task. What is waited for in it may be something else, such as a queue.

    Args:
      timeout: Seconds after which an idle connection is ended as by a drain. Default:
        `math.inf`.

    Returns:
      A context manager that gives a `trio.CancelScope`, whose ``cancelled_caught``
      tells whether the wait was cut short.

    Raises:
      RuntimeError: this is no task of a handler.
      TypeError: *timeout* is not a number.
      ValueError: it is negative, or NaN.
    """
    served = SERVED.get()
    if served is None:
        raise RuntimeError(
            "cancel_on_drain() is for handlers that TLSNursery.start_server runs: "
            "here is no server that could drain"
        )
    if timeout != math.inf:
        check_seconds("timeout", timeout)
    return Wait(served.idle, served, timeout)
