"""Draining a server: the cancel scopes a drain triggers, and its report."""

from __future__ import annotations

import enum
import math
from collections import Counter
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final

import attrs
import trio

from trio_tlsdown._core.report import PeerState, ShutdownOutcome
from trio_tlsdown._stream.stream import TLSStream, is_mid_record
from trio_tlsdown._util import check_seconds


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


# How long a drain leaves a wait alone, in seconds. To which something has come, or on a
# new connection may come: the first byte of a client, or what we have not read yet.
MOMENT: Final = 0.5
# For its first request on a new session: it comes right behind the handshake, from
# clients that have one.
FIRST_REQUEST: Final = 0.08
# On a transport that cannot tell whether something has come: the task that waits learns
# it in the next pass of the scheduler.
ONE_PASS: Final = 0.02


class Waits:
    """The waits for input from peers, which a drain cuts short if nothing has come.

    Args:
      new: How many seconds something may take to come on a new connection.

    Attributes:
      open: Those that are going on.
      connections: How many connections are in them.
      new: As above.
      limit: How many seconds one is left alone at most; None while nobody drains.
    """

    def __init__(self, *, new: float) -> None:
        self.open: dict[Wait, None] = {}
        self.connections = 0
        self.new = new
        self.limit: float | None = None

    def start_drain(self, limit: float) -> None:
        """Cut short those that begin from now on; see `Wait.cut_short`."""
        self.limit = limit if self.limit is None else min(limit, self.limit)


class Input(enum.Enum):
    """What has come from a peer, and was not read."""

    NOTHING = enum.auto()
    SOME = enum.auto()
    PART_OF_A_RECORD = enum.auto()
    UNKNOWN = enum.auto()


class Served:
    """One connection of a server, and what it is known to have done.

    Args:
      stream: Its stream.
      peer: The name of its peer, for logs.
      waits: Where its `cancel_on_drain` is counted: before the handler, and in it.
      draining: Set when its server drains.

    Attributes:
      accepted: When it was accepted, on Trio's clock.
      began: When it began to be waited for: accepted, or given to its handler.
      retires: When it is so old that it is treated as if its server drained.
      spoke: Whether the client has sent anything.
      refused: Whether *prepare* has refused it.
      handshaken: Whether the handshake is done.
      ready: Whether its handler may be called, or was.
      scope: That of what comes before the handler, or of the handler.
      failure: What was raised before the handler or by it.
      waiting: How many tasks are in a `Wait` for it.
      timeout: How many seconds it had for its handshake, if they were cut short.
    """

    __slots__ = (
        "_draining",
        "accepted",
        "began",
        "failure",
        "handshaken",
        "peer",
        "ready",
        "refused",
        "retires",
        "scope",
        "spoke",
        "stream",
        "timeout",
        "transport",
        "waiting",
        "waits",
    )

    def __init__(
        self, stream: TLSStream[Any], peer: str, waits: Waits, draining: trio.Event
    ) -> None:
        self.stream = stream
        self.transport: trio.abc.Stream = stream.transport_stream  # also after unwrap()
        self.peer = peer
        self.waits = waits
        self._draining = draining
        self.accepted = self.began = trio.current_time()
        self.retires = math.inf
        self.spoke = False
        self.refused = False
        self.handshaken = False
        self.ready = False
        self.scope: trio.CancelScope | None = None
        self.failure: Exception | None = None
        self.waiting = 0
        self.timeout: float | None = None

    def cancel_handshake(self, *, after: float, since: float | None = None) -> None:
        """Have what comes before the handler end *after* so many seconds, or now."""
        assert self.scope is not None
        self.timeout = round(after, 3)
        since = self.accepted if since is None else since
        self.scope.deadline = min(self.scope.deadline, since + after)

    @property
    def retired(self) -> bool:
        """Whether it is older than `max_age` allows."""
        return self.retires != math.inf and self.retires <= trio.current_time()

    @property
    def draining(self) -> bool:
        """Whether it should end when its peer has had its answer."""
        return self._draining.is_set() or self.retired

    def input(self) -> Input:
        """What has come that nobody has read."""
        if isinstance(self.transport, trio.SocketStream):
            sock = self.transport.socket
            if sock.fileno() == -1:
                return Input.NOTHING
            if sock.is_readable():
                return Input.SOME
        try:
            state = self.stream.peer_state_nowait()
        except (trio.ClosedResourceError, trio.NeedHandshakeError):
            return Input.NOTHING
        if state is PeerState.DATA_WAITING:
            return Input.SOME
        if state in (PeerState.IDLE, PeerState.UNKNOWN) and is_mid_record(self.stream):
            return Input.PART_OF_A_RECORD
        return Input.UNKNOWN if state is PeerState.UNKNOWN else Input.NOTHING


class Wait:
    """A cancel scope around a wait for input from a peer.

    A generator would be shorter. But idle connections wait in here: it would stay in
    memory, and a drain would throw an exception into each.
    """

    __slots__ = (
        "_deadline",
        "_first_look",
        "_scope",
        "_served",
        "_some_since",
        "_timeout",
        "_waits",
    )

    def __init__(self, served: Served, timeout: float = math.inf) -> None:
        self._served = served
        self._waits = served.waits
        self._timeout = timeout
        self._deadline = math.inf
        self._first_look: float | None = None
        self._some_since: float | None = None
        self._scope = trio.CancelScope()

    def __enter__(self) -> trio.CancelScope:
        if self._timeout != math.inf:
            self._deadline = trio.current_time() + self._timeout
            self._scope.deadline = self._deadline
        self._waits.open[self] = None
        self._served.waiting += 1
        if self._served.waiting == 1:
            self._waits.connections += 1
        if self._waits.limit is not None or self._served.retires != math.inf:
            self.cut_short()
        return self._scope.__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        del self._waits.open[self]
        self._served.waiting -= 1
        if not self._served.waiting:
            self._waits.connections -= 1
        return self._scope.__exit__(exc_type, exc_value, traceback)

    def cut_short(self) -> None:
        """End the wait if there is a drain; later, if something has come or may come.

        The task that waits has only to run to take what has come. If it is still
        there a moment later, it waits for something else; but if what has come is a
        part of a record, it waits for the rest. So this is called again and again.
        """
        if self._waits.limit is not None:
            limit = self._waits.limit
        elif self._served.retired:
            limit = math.inf
        else:
            return
        now = trio.current_time()
        if self._first_look is None:
            self._first_look = now
        come = self._served.input()
        if come is not Input.SOME:
            self._some_since = None
        elif self._some_since is None:
            self._some_since = now
        match come:
            case Input.NOTHING:
                until = self._served.began + min(self._waits.new, limit)
            case Input.SOME:
                assert self._some_since is not None
                until = self._some_since + min(MOMENT, limit)
            case Input.PART_OF_A_RECORD:
                until = self._first_look + limit
            case _:
                until = self._first_look + min(ONE_PASS, limit)
        if until > now:
            self._scope.deadline = min(self._deadline, until)
        else:
            self._scope.cancel()


# The connection whose task this is, or that has started it.
SERVED: Final[ContextVar[Served | None]] = ContextVar("SERVED", default=None)

peer_name: Final[ContextVar[str]] = ContextVar("peer_name", default="")
"""What log lines of `TLSServer` call the peer of the connection whose handler or
*prepare* this is: its address, or what else is known of it.

*prepare* can set it, if it has learnt of a better name, as from the PROXY protocol. The
handler runs in the same task, so it sees what was set::

    logging.info("a request from %s", peer_name.get())
"""


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
    behind the handshake of a new connection. If a part of a TLS record is there, the
    rest has half of the grace. The same goes for a wait that begins while the server
    drains, and for a connection that is older than *max_age*.

    It finds the connection of the handler that it is called in, or that started the
    task. What is waited for in it may be something else, such as a queue. In *prepare*
    it goes around the wait for what the client says first, or next.

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
    served = _served("cancel_on_drain()")
    if timeout != math.inf:
        check_seconds("timeout", timeout)
    return Wait(served, timeout)


def draining() -> bool:
    """Whether the connection of this handler should end after its current answer.

    True when the server drains, from the beginning of the notice, and when the
    connection is older than *max_age*. A handler for HTTP/1.1 adds
    ``Connection: close`` to its answer then, and one for HTTP/2 sends GOAWAY, so that
    no client sends a request to a connection that is about to end.

    It finds the connection of the handler that it is called in, or that started the
    task.

    Raises:
      RuntimeError: this is no task of a handler.
    """
    return _served("draining()").draining


def _served(function: str) -> Served:
    served = SERVED.get()
    if served is None:
        raise RuntimeError(
            f"{function} is for handlers that TLSNursery.start_server runs: "
            "this is no task of one"
        )
    return served
