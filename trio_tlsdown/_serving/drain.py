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
from trio_tlsdown._stream.stream import (
    TLSStream,
    allow_receive,
    has_delivered,
    interrupt_receive,
    interruptible,
    is_mid_record,
)
from trio_tlsdown._stream.transport import ReceiveInterruptedError
from trio_tlsdown._util import check_seconds


@attrs.frozen(kw_only=True)
class DrainReport:
    """How the connections ended that were open in a drain, or accepted by it."""

    tally: Counter[ShutdownOutcome]
    """The number of connections by how they ended. Handshakes that failed, or were
    cancelled when the grace was over, are FAILED."""

    handlers_cancelled: int
    """The number of handlers that were cancelled because the grace was over."""

    discarded: int
    """Bytes of application data that were received and never read: perhaps requests
    that were not answered."""

    elapsed: float
    """Seconds from the beginning of the drain until everything was closed."""


class MultiCancelScope:
    """Cancel scopes of several tasks that can be cancelled together."""

    def __init__(self) -> None:
        self._open: set[trio.CancelScope] = set()
        self._cancelled = False

    @contextmanager
    def open_child(self) -> Generator[None]:
        """Open a scope that `cancel` cancels, even if that was called before."""
        with trio.CancelScope() as scope:
            self._open.add(scope)
            if self._cancelled:
                scope.cancel()
            try:
                yield
            finally:
                self._open.discard(scope)

    def cancel(self) -> None:
        """Cancel all open scopes, and all that are opened later."""
        self._cancelled = True
        for scope in self._open:
            scope.cancel()


# How long a drain leaves a wait alone, in seconds. If input is there that was not read yet,
# and on a new connection, whose first byte may be on its way:
DRAIN_PATIENCE: Final = 0.5
# After a handshake, for the first request: on TLS 1.2 it comes a round trip later, which
# takes a third of a second from the other side of the world.
FIRST_REQUEST_TIME: Final = 0.3
# For the rest of a record on a connection that is too old. (A drain has a grace.)
REST_TIME: Final = 5.0
# If the transport cannot tell whether there is input: a task that waits for it gets it in
# the next pass of the scheduler.
WAKE_UP_TIME: Final = 0.02
# Seconds between two looks at a wait that a drain or max_age may cut short. It is
# shorter than DRAIN_PATIENCE, so that what comes in parts is seen in time.
CHECK_INTERVAL: Final = DRAIN_PATIENCE / 2
# The least time between two looks at those that are due.
LOOK_INTERVAL: Final = 0.01


class NextLook:
    """When to look again at the waits that were left alone.

    Their time is no deadline: a part of a request may have come in it.
    """

    def __init__(self) -> None:
        self._pause = trio.CancelScope()  # the one that goes on, or the next
        self._earliest = -math.inf

    def by(self, time: float) -> None:
        """Look at *time*, on Trio's clock, at the latest."""
        deadline = max(time, self._earliest)
        self._pause.deadline = min(self._pause.deadline, deadline)

    async def wait(self, seconds: float, over: trio.Event) -> None:
        """Wait until it is time to look, *seconds* at most, or until *over* is set."""
        self.by(trio.current_time() + seconds)
        with self._pause:
            await over.wait()
        self._pause = trio.CancelScope()
        self._earliest = trio.current_time() + LOOK_INTERVAL


class Waits:
    """The waits for input from peers, which a drain cuts short if there is none.

    Args:
      new: How many seconds a new connection has for its first input.
      next_look: Told when to call `Wait.cut_short` again.

    Attributes:
      open: The waits that are going on.
      connections: How many of them each open connection has.
      new: As above.
      next_look: As above.
      limit: The most seconds that a drain leaves a wait alone; None without a drain.
    """

    def __init__(self, next_look: NextLook, *, new: float) -> None:
        self.next_look = next_look
        self.open: dict[Wait | ServedConnection, None] = {}
        self.connections: dict[ServedConnection, int] = {}
        self.new = new
        self.limit: float | None = None

    def enter(self, wait: Wait | ServedConnection, served: ServedConnection) -> None:
        """Register a wait for a connection."""
        self.open[wait] = None
        served.waiting.append(wait)
        if not served.ended:
            self.connections[served] = self.connections.get(served, 0) + 1

    def leave(self, wait: Wait | ServedConnection, served: ServedConnection) -> None:
        """Undo `enter`."""
        del self.open[wait]
        served.waiting.remove(wait)
        others = self.connections.pop(served, 1) - 1
        if others:
            self.connections[served] = others

    def start_drain(self, limit: float) -> None:
        """Also cut short the waits that begin from now on; see `Wait.cut_short`."""
        self.limit = limit if self.limit is None else min(limit, self.limit)


class Input(enum.Enum):
    """Input from a peer that was not read yet."""

    NOTHING = enum.auto()
    SOME = enum.auto()
    PART_OF_A_RECORD = enum.auto()
    UNKNOWN = enum.auto()


class ServedConnection:
    """One connection of a server, and how far it has come.

    Args:
      stream: Its stream.
      id_: The number of the connection in traces.
      peer: The name of its peer, for logs.
      waits: The registry of its waits for input.
      draining: Set when its server drains.

    Attributes:
      accepted: When it was accepted, on Trio's clock.
      began: When its current phase began: accepted, or passed to its handler.
      retires: When it has reached *max_age*.
      spoke: Whether the client has sent anything.
      refused: Whether *prepare* refused it.
      ended: Whether it has ended; tasks that its handler started may go on.
      cut: Whether its last wait in `cancel_on_drain` was cut short, and not by its
        timeout.
      handshaken: Whether the handshake is done.
      ready: Whether its handler may be called, or was.
      scope: The cancel scope of everything before the handler, then of the handler.
      failure: The exception of *prepare*, the handshake or the handler.
      waiting: Its waits that are going on.
      timeout: The time limit of its handshake in seconds, if it was shortened.
    """

    due: Final = -math.inf
    """As of a `Wait`, which takes over at the first look."""

    __slots__ = (
        "_draining",
        "accepted",
        "began",
        "cut",
        "ended",
        "failure",
        "handshaken",
        "id",
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
        self,
        stream: TLSStream[Any],
        id_: int,
        peer: str,
        waits: Waits,
        draining: trio.Event,
    ) -> None:
        self.stream = stream
        self.id = id_
        self.transport: trio.abc.Stream = stream.transport_stream  # also after unwrap()
        self.peer = peer
        self.waits = waits
        self._draining = draining
        self.accepted = self.began = trio.current_time()
        self.retires = math.inf
        self.spoke = False
        self.refused = False
        self.ended = False
        self.cut = False
        self.handshaken = False
        self.ready = False
        self.scope: trio.CancelScope | None = None
        self.failure: Exception | None = None
        self.waiting: list[Wait | ServedConnection] = []
        self.timeout: float | None = None

    def cut_short(self) -> None:
        """Wake the task in `receive_until_drain`, if it may have to be cut short.

        Before any drain it waits without a cancel scope. Then a `Wait` takes over.
        """
        if self in self.waits.open and (self.waits.limit is not None or self.retired):
            interrupt_receive(self.stream)

    def cancel_handshake(self, *, after: float, since: float | None = None) -> None:
        """Shorten the time limit of everything before the handler to *after* seconds."""
        assert self.scope is not None
        deadline = after + (self.accepted if since is None else since)
        if deadline < self.scope.deadline:
            self.scope.deadline = deadline
            self.timeout = round(after, 3)

    @property
    def retired(self) -> bool:
        """Whether it has reached *max_age*."""
        return self.retires != math.inf and self.retires <= trio.current_time()

    @property
    def draining(self) -> bool:
        """Whether it should end after the current answer."""
        return self._draining.is_set() or self.retired

    @property
    def new(self) -> bool:
        """Whether its first input may be on its way."""
        return not self.ended and not has_delivered(self.stream)

    def input(self, stream: TLSStream[Any] | None = None) -> Input:
        """What is there that was not read yet.

        Args:
          stream: One that the handler has put over the connection, or over what was
            unwrapped from it. Default: only the connection's own is asked.
        """
        if isinstance(self.transport, trio.SocketStream):
            sock = self.transport.socket
            if sock.fileno() == -1:
                return Input.NOTHING
            if sock.is_readable():
                return Input.SOME
        if stream is not None and stream is not self.stream:
            come = _input_of(stream)
            if come is not Input.NOTHING:
                return come
        return _input_of(self.stream)


def _input_of(stream: TLSStream[Any]) -> Input:
    try:
        state = stream.peer_state_nowait()
    except Exception:  # noqa: BLE001 - closed; no handshake; a hook of the context
        return Input.NOTHING
    if state is PeerState.DATA_WAITING:
        return Input.SOME
    if state in (PeerState.IDLE, PeerState.UNKNOWN) and is_mid_record(stream):
        return Input.PART_OF_A_RECORD
    return Input.UNKNOWN if state is PeerState.UNKNOWN else Input.NOTHING


class Wait:
    """A cancel scope around a wait for input from a peer.

    A class, not `@contextmanager`: one is alive per idle connection, so a generator frame
    would cost memory, and a drain would throw an exception into each.

    Attributes:
      due: When to look at it again.
    """

    __slots__ = (
        "_deadline",
        "_first_look",
        "_scope",
        "_served",
        "_some_since",
        "_stream",
        "_timeout",
        "_waits",
        "due",
    )

    def __init__(
        self,
        served: ServedConnection,
        timeout: float = math.inf,
        stream: TLSStream[Any] | None = None,
    ) -> None:
        self._served = served
        self._stream = stream
        self._waits = served.waits
        self._timeout = timeout
        self._deadline = math.inf
        self._first_look: float | None = None
        self._some_since: float | None = None
        self.due = -math.inf
        self._scope = trio.CancelScope()

    def __enter__(self) -> trio.CancelScope:
        if self._timeout != math.inf:
            self._deadline = trio.current_time() + self._timeout
            self._scope.deadline = self._deadline
        scope = self._scope.__enter__()  # first: it refuses to be entered again
        self._waits.enter(self, self._served)
        if self._waits.limit is not None or self._served.retires != math.inf:
            self.cut_short()
        return scope

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._waits.leave(self, self._served)
        caught = self._scope.__exit__(exc_type, exc_value, traceback)
        timed_out = trio.current_time() >= self._deadline
        self._served.cut = self._scope.cancelled_caught and not timed_out
        return caught

    def cut_short(self) -> None:
        """Cancel the wait if the server drains or the connection is too old.

        Not yet, if there is input, or may soon be. A task that waits for input only has
        to be scheduled to get it. If it still waits a moment later, it waits for
        something else; but if a part of a record has come, it waits for the rest. So
        this is called again while the wait goes on.
        """
        if self._waits.limit is not None:
            limit = self._waits.limit
        elif self._served.retired:
            limit = REST_TIME
        else:
            return
        now = trio.current_time()
        moment = -math.inf
        if self._served.new:
            moment = self._served.began + min(self._waits.new, limit)
        if self._first_look is None:
            self._first_look = now
        come = self._served.input(self._stream)
        if come is not Input.SOME:
            self._some_since = None
        elif self._some_since is None:
            self._some_since = now
        match come:
            case Input.NOTHING:
                until = moment
            case Input.SOME:
                assert self._some_since is not None
                until = self._some_since + min(DRAIN_PATIENCE, limit)
            case Input.PART_OF_A_RECORD:
                until = self._first_look + limit
            case _:
                until = max(moment, self._first_look + min(WAKE_UP_TIME, limit))
        if until <= now:
            self._scope.cancel()
        elif self._served.ended:  # so may the server have, and nobody looks any more
            self._scope.deadline = min(self._deadline, until)
        else:
            self.due = min(until, now + CHECK_INTERVAL)
            self._waits.next_look.by(self.due)


# The connection whose task this is, or which started this task.
CURRENT_CONNECTION: Final[ContextVar[ServedConnection | None]] = ContextVar(
    "CURRENT_CONNECTION", default=None
)

peer_name: Final[ContextVar[str]] = ContextVar("peer_name", default="")
"""The name of the peer in log lines of `TLSServer`, for the connection of the current
task: its address, as a rule; "" outside of a connection.

*prepare* can set a better one, as from the PROXY protocol. The handler runs in the same
task, so it sees what was set::

    logging.info("a request from %s", peer_name.get())
"""


def cancel_on_drain(
    *, timeout: float = math.inf
) -> AbstractContextManager[trio.CancelScope, bool]:
    """A cancel scope that a drain of the server cancels.

    For handlers of `TLSServer`: put it around the wait for the *next* request, and
    nothing else. Then an idle connection does not delay the drain, and its peer gets a
    close_notify; an answer that has begun is finished::

        async def handler(stream):
            while True:
                with cancel_on_drain(timeout=60) as scope:
                    request = await stream.receive_some()
                if scope.cancelled_caught or not request:
                    return
                await stream.send_all(answer_to(request))

    A drain cancels it only if there is no input: a request that is in the kernel or
    decrypted gets a moment to be received, and so does the first one after a handshake.
    If a part of a TLS record has come, the rest may take half of the grace. The same
    goes for a wait that begins while the server drains, and for a connection that is
    older than *max_age*, where the rest may take 5 seconds.

    It applies to the connection whose handler it is called in, or whose handler started
    the task. The wait may also be for something else, such as a queue. In *prepare* it
    goes around the wait for what the client sends first, or next.

    Args:
      timeout: Cancel the wait after this many seconds in any case, so that idle
        connections end. Default: `math.inf`.

    Returns:
      A context manager that returns a `trio.CancelScope`; its ``cancelled_caught``
      tells whether the wait was cancelled.

    Raises:
      RuntimeError: not called in a handler or one of its tasks.
      TypeError: *timeout* is not a number.
      ValueError: it is negative, or NaN.
    """
    served = _served("cancel_on_drain()")
    if timeout != math.inf:
        check_seconds("timeout", timeout)
    return Wait(served, timeout)


async def receive_until_drain(
    stream: trio.abc.ReceiveStream,
    max_bytes: int | None = None,
    *,
    timeout: float = math.inf,  # noqa: ASYNC109 - that of an idle connection
) -> bytes | bytearray:
    """Receive the beginning of the next request, unless the server drains.

    For handlers of `TLSServer`. It waits as in `cancel_on_drain`, at a sixth of the cost
    if *stream* is the handler's own, over a socket, and there is no *timeout*::

        async def handler(stream):
            while request := await receive_until_drain(stream):
                await stream.send_all(answer_to(request))

    The rest of a request is received with ``stream.receive_some()``, which a drain does
    not cut short.

    Args:
      stream: The stream.
      max_bytes: As for its ``receive_some``. Default: all there is.
      timeout: Also stop waiting after this many seconds. Default: `math.inf`.

    Returns:
      Data; ``b""`` if there will be no request: the peer has ended properly, the
      server drains, the connection is older than *max_age*, or the time is over.

    Cancellation:
      As for `TLSStream.receive_some`.

    Raises:
      RuntimeError: not called in a handler or one of its tasks.
      TypeError: *timeout* is not a number.
      ValueError: it is negative, or NaN; or *max_bytes* is less than 1.
      Exception: as ``stream.receive_some()``.
    """
    served = _served("receive_until_drain()")
    interrupted = False
    if timeout != math.inf:
        check_seconds("timeout", timeout)
    elif (
        stream is served.stream
        and not served.draining
        and served not in served.waits.open
        and interruptible(served.stream)
    ):
        waits = served.waits
        waits.enter(served, served)
        try:
            return await stream.receive_some(max_bytes)
        except ReceiveInterruptedError:
            interrupted = True
        finally:
            waits.leave(served, served)
            allow_receive(served.stream)
    any_stream: Any = stream
    looked_at = any_stream if isinstance(stream, TLSStream) else None
    with Wait(served, timeout, looked_at) as scope:
        # A drain without grace does not wait for one more pass of the scheduler.
        if not (interrupted and scope.cancel_called):
            return await stream.receive_some(max_bytes)
    return b""


def draining() -> bool:
    """Whether the connection of this handler should end after its current answer.

    True when the server drains, from the beginning of the notice, and when the
    connection is older than *max_age*. A handler for HTTP/1.1 adds
    ``Connection: close`` to its answer then, and one for HTTP/2 sends GOAWAY, so that
    no client sends a request to a connection that is about to end.

    It is about the connection whose handler it is called in, or whose handler started
    the task.

    Raises:
      RuntimeError: not called in a handler or one of its tasks.
    """
    return _served("draining()").draining


def _served(function: str) -> ServedConnection:
    served = CURRENT_CONNECTION.get()
    if served is None:
        raise RuntimeError(
            f"{function} is for handlers that TLSNursery.start_server runs; "
            "it was called outside of one"
        )
    return served
