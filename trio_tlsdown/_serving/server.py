"""TLSServer: a task for each connection, limits, statistics, and the drain."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import random
import ssl
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Set as AbstractSet
from typing import Any, Final, Literal, TypeAlias, final

import attrs
import trio

from trio_tlsdown._core.report import ShutdownOutcome, ShutdownPolicy, ShutdownReport
from trio_tlsdown._core.trace import Trace, connection_ids, trace_of
from trio_tlsdown._errors import HandshakeTimeoutError, TLSFailedError
from trio_tlsdown._stream.stream import TLSStream, abort
from trio_tlsdown._util import (
    LOGGER,
    as_bytes,
    check_context,
    check_seconds,
    check_type,
)

from .accept import (
    AnyListener,
    Handler,
    Shortage,
    accept_backlog,
    accept_connections,
    address_of,
    wait_for_client,
)
from .contexts import warn_if_unusable
from .drain import (
    CHECK_INTERVAL,
    CURRENT_CONNECTION,
    DRAIN_PATIENCE,
    FIRST_REQUEST_TIME,
    DrainReport,
    Input,
    MultiCancelScope,
    NextLook,
    ServedConnection,
    Wait,
    Waits,
    peer_name,
)
from .lifecycle import (
    end_abruptly,
    end_gracefully,
    log_failed_handshake,
    log_refusal,
    log_visitor,
    outcome_if_over,
    wait_first_bytes,
)
from .slots import HANDSHAKE_TIME, SILENT_TIME, ConnectionSlots

OnError: TypeAlias = Callable[[Exception, TLSStream[Any]], object]
Prepare: TypeAlias = Callable[[Any], Awaitable[bytes | bytearray | memoryview | None]]

WAITS_PER_CHECKPOINT: Final = 8  # waits

# How many connections are asked at most, to find a silent one that makes room for another.
MAX_CONNECTIONS_ASKED: Final = 64

# Connections with max_age that have ended are not looked for below this number of them.
FORGET_AT_LEAST: Final = 64

# How long a handshake may take while others wait for its place, in seconds: a client
# that stalls in it keeps a place, and an honest one seldom needs more than one.
HURRIED_HANDSHAKE_TIMEOUT: Final = 3.0


@attrs.frozen(kw_only=True)
class ServerOptions:
    """Validated arguments of `TLSNursery.start_server`."""

    handler: Handler
    prepare: Prepare | None
    policy: ShutdownPolicy
    trace: Trace | None
    https_compatible: bool
    max_connections: int | None
    max_handshakes: int | None
    handshake_timeout: float
    max_age: float
    on_error: OnError | None
    exclusive: bool  # no other process accepts from the same sockets


@attrs.frozen(kw_only=True)
class TLSServerStatistics:
    """What `TLSServer.statistics` returns."""

    handshaking: int
    """How many connections are before or in their handshake: silent, in *prepare*,
    shaking hands, or waiting for a place of *max_connections*."""

    open: int
    """How many have shaken hands and are open: in their handler, or ending."""

    idle: int
    """How many of these wait for a next request: in `receive_until_drain`, or in
    `cancel_on_drain`."""

    draining: bool
    """Whether a drain has begun."""

    ended: Counter[ShutdownOutcome]
    """How many connections have ended, by how they ended, as `TLSServer.tally`."""

    ended_by: Counter[Literal["local", "peer"] | None]
    """How many of these have ended by whose close_notify came first; None: there was
    none."""


class ConnectionSet(AbstractSet[TLSStream[Any]]):
    """The open streams of a server, as a set that is always up to date.

    To iterate over it is safe while connections come and go: it goes over those that
    were open when it began.
    """

    def __init__(self, served: set[ServedConnection]) -> None:
        self._served = served

    def __contains__(self, stream: object) -> bool:
        return any(served.stream is stream for served in self._served)

    def __iter__(self) -> Iterator[TLSStream[Any]]:
        return iter([served.stream for served in self._served])

    def __len__(self) -> int:
        return len(self._served)

    def __repr__(self) -> str:
        return f"<{len(self)} connections>"

    @classmethod
    def _from_iterable(cls, it: Any) -> frozenset[Any]:
        return frozenset(it)  # what & and | give


@final
class TLSServer:
    """A running TLS server, made by `TLSNursery.start_server`.

    Each connection has a task of its own, which does the handshake, runs the handler,
    and then ends the connection:

    - If the handler returned, it shuts the connection down within the policy, and closes
      it. If the handler has closed or unwrapped the stream, nothing more happens.
    - If the handler raised or was cancelled, it aborts the connection, so that half an
      answer never looks complete.

    Errors in a handshake or a handler are logged to ``trio_tlsdown``, with the peer's
    address (see `peer_name`), and do not affect other connections. A client that never
    sends a byte, such as a health check, is logged as DEBUG, and does not count in a
    tally.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        listeners: list[AnyListener],
        ssl_context: ssl.SSLContext,
        options: ServerOptions,
        ended: Callable[[TLSServer], object],
    ) -> None:
        self._nursery = nursery
        self._ssl_context = ssl_context
        self._options = options
        self._on_finished = ended
        self._addresses = tuple(address_of(listener) for listener in listeners)
        self._connections: set[ServedConnection] = set()
        self._open = 0  # connections that have, or had, their handler called
        self._tally: Counter[ShutdownOutcome] = Counter()
        self._ended_by: Counter[Literal["local", "peer"] | None] = Counter()
        self._discarded = 0  # bytes, of connections that ended in a drain

        self._slots = (
            ConnectionSlots(options.max_connections)
            if options.max_connections
            else None
        )
        self._handshakes = trio.Semaphore(options.max_handshakes or sys.maxsize)
        # Each ClientHello costs a signature. When many arrive together, one of them is
        # answered per pass of the scheduler, so that other tasks get their turn.
        self._handshake_turn = trio.Lock()
        # Both are oldest first:
        self._before_handshake: dict[
            ServedConnection, None
        ] = {}  # silent clients, and those in prepare
        self._handshakes_begun: dict[
            ServedConnection, float
        ] = {}  # handshakes, and when they began

        self._next_look = NextLook()
        # For the first byte; for a next request:
        self._silent_waits = Waits(self._next_look, new=DRAIN_PATIENCE)
        self._idle_waits = Waits(self._next_look, new=FIRST_REQUEST_TIME)
        self._watching = False
        # With max_age: who retires when, as a heap; and who has.
        self._retirements: list[tuple[float, int, ServedConnection]] = []
        self._retired: set[ServedConnection] = set()
        self._accept_scopes = MultiCancelScope()
        self._backlog_scopes = MultiCancelScope()  # the backlog
        self._grace_over = False
        self._handlers_cancelled = 0
        self._accepting = len(listeners)  # tasks
        self._notice_over = trio.Event()  # the notice of a drain is over
        self._finished = trio.Event()  # nothing is accepted any more, and all is closed
        self.draining: Final = trio.Event()
        """Set when a drain begins."""
        for listener in listeners:
            nursery.start_soon(self._accept, listener)
        if options.max_age != math.inf:
            self._start_watching()

    def __repr__(self) -> str:
        where = ", ".join(map(repr, self._addresses))
        drains = ", draining" if self.draining.is_set() else ""
        return f"<TLSServer at {where}, {len(self._connections)} connections{drains}>"

    @property
    def addresses(self) -> tuple[Any, ...]:
        """Where it listens: what ``socket.getsockname()`` returns, for each listener.

        For IPv4 that is ``(host, port)``, for a Unix socket its path, and for a listener
        that is not a `trio.SocketListener` it is None.
        """
        return self._addresses

    @property
    def connections(self) -> AbstractSet[TLSStream[Any]]:
        """The open streams, including those before and in their handshake.

        A live view, which costs nothing however many there are. Use
        ``frozenset(server.connections)`` to keep a snapshot.
        """
        return ConnectionSet(self._connections)

    @property
    def tally(self) -> Counter[ShutdownOutcome]:
        """How many connections have ended, by how they ended: a copy.

        Failed handshakes count as FAILED.
        """
        return self._tally.copy()

    def statistics(self) -> TLSServerStatistics:
        """What the server is doing, and how its connections have ended.

        It is cheap, because everything is counted as it happens. It may be called from
        any thread.
        """
        return TLSServerStatistics(
            handshaking=len(self._connections) - self._open,
            open=self._open,
            idle=len(self._idle_waits.connections),
            draining=self.draining.is_set(),
            ended=self._tally.copy(),
            ended_by=self._ended_by.copy(),
        )

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """The context for new handshakes; set another one to renew a certificate.

        Load the certificate into a new context: a certificate that fails to load breaks
        the context it is loaded into. Established connections keep theirs.

        Raises:
          TypeError: it is set to something that is not a context.
          ssl.SSLError: it is set to a context for clients. The server keeps the one
            it has.
        """
        return self._ssl_context

    @ssl_context.setter
    def ssl_context(self, ssl_context: ssl.SSLContext) -> None:
        check_context(ssl_context, server_side=True)
        warn_if_unusable(ssl_context)
        self._ssl_context = ssl_context

    # Accepting:

    async def _accept(self, listener: AnyListener) -> None:
        shortage = Shortage(self._make_room)
        closed = False
        try:
            with self._accept_scopes.open_child():
                await accept_connections(
                    listener,
                    self._start,
                    wait_for_room=self._wait_for_room,
                    shortage=shortage,
                )
            with self._backlog_scopes.open_child():
                await accept_backlog(
                    listener,
                    self._start,
                    shortage=shortage,
                    exclusive=self._options.exclusive,
                )
                await self._close_listener(listener)
                closed = True
        except Exception as exc:
            # Without a drain, nobody would notice that it accepts no more.
            if not self.draining.is_set():
                raise
            if not isinstance(exc, trio.ClosedResourceError):
                LOGGER.exception("accepting from %r failed", listener)
        finally:
            try:
                if not closed:
                    await self._close_listener(listener, at_once=True)  # noqa: ASYNC102
            finally:  # a drain waits for it, even if a listener raises when it is closed
                self._accepting -= 1
                self._check_finished()

    async def _close_listener(
        self, listener: AnyListener, *, at_once: bool = False
    ) -> None:
        try:
            with trio.CancelScope(shield=at_once) as scope:
                if at_once:
                    scope.cancel()
                await listener.aclose()
        except Exception:
            if not self.draining.is_set():
                raise
            LOGGER.exception("closing %r failed", listener)  # connections go on

    async def _wait_for_room(self, listener: AnyListener) -> None:
        if self._slots is not None:
            await wait_for_client(listener)
            await self._slots.wait_free()
        if not self._handshakes.value:
            await self._acquire_handshake()  # after those that were accepted before
            self._handshakes.release()

    def _start(self, transport: trio.abc.Stream, peer: str) -> None:
        check_type("what a listener accepts", transport, trio.abc.Stream)
        id_ = next(connection_ids)
        try:
            stream = self._wrap(transport, id_, peer)
        except Exception as exc:  # noqa: BLE001 - such as of a hook of the context
            self._nursery.start_soon(self._refuse, transport, peer, exc)
            return
        served = ServedConnection(stream, id_, peer, self._silent_waits, self.draining)
        self._nursery.start_soon(self._run, served)
        self._connections.add(served)
        if self._slots is not None:
            self._slots.reserve(served, SILENT_TIME)

    async def _refuse(
        self, transport: trio.abc.Stream, peer: str, error: Exception
    ) -> None:
        self._tally[ShutdownOutcome.FAILED] += 1
        self._ended_by[None] += 1
        log_failed_handshake(peer, error)
        with contextlib.suppress(Exception):
            await trio.aclose_forcefully(transport)

    def _wrap(
        self,
        transport: trio.abc.Stream,
        id_: int,
        peer: str,
        initial_bytes: bytes = b"",
    ) -> TLSStream[Any]:
        return TLSStream(
            transport,
            self._ssl_context,
            server_side=True,
            https_compatible=self._options.https_compatible,
            policy=self._options.policy,
            trace=trace_of(self._options.trace, id_, "server", peer),
            initial_bytes=initial_bytes,
        )

    # One connection:

    async def _run(self, served: ServedConnection) -> None:
        CURRENT_CONNECTION.set(served)
        peer_name.set(served.peer)
        try:
            await self._prepare_and_handshake(served)
            if served.ready:
                await self._handle(served)
        except Exception as exc:  # noqa: BLE001 - it does not affect others
            served.failure = exc
            # _end() closes it in any case.
            with contextlib.suppress(Exception), self._time_to_end():
                await end_abruptly(served.stream)
        except BaseExceptionGroup as group:
            served.failure, others = group.split(Exception)
            assert others is not None
            raise others from None  # it was cancelled, or the like
        finally:
            await self._end(served)  # noqa: ASYNC102 - it shields what it awaits

    async def _prepare_and_handshake(self, served: ServedConnection) -> None:
        """Everything before the handler."""
        timeout = self._options.handshake_timeout
        with trio.CancelScope(deadline=trio.current_time() + timeout) as scope:
            self._set_scope(served, scope)
            self._before_handshake[served] = None
            self._bound_before_handshake()
            try:
                initial = await self._wait_first_bytes(served)
            finally:
                self._before_handshake.pop(served, None)
            if initial is not None:
                served.spoke = True
                await self._do_handshake(served, scope, initial)
        if scope.cancelled_caught and served.spoke and not self._grace_over:
            served.failure = served.failure or HandshakeTimeoutError(
                timeout if served.timeout is None else served.timeout
            )

    def _set_scope(self, served: ServedConnection, scope: trio.CancelScope) -> None:
        served.scope = scope
        if self._grace_over:
            scope.cancel()

    def _bound_before_handshake(self) -> None:
        # Honest clients send something at once, so this hits those that do not.
        most = self._options.max_handshakes
        if most is None or len(self._before_handshake) <= most:
            return
        if (
            not self._make_room(MAX_CONNECTIONS_ASKED)
            and self._options.prepare is not None
        ):
            self._evict(next(iter(self._before_handshake)))

    def _make_room(self, max_asked: int | None = None) -> bool:
        # Not one that was just accepted, and has sent its ClientHello. That is read in
        # the next pass of the scheduler, so few are like that.
        for served in itertools.islice(self._before_handshake, max_asked):
            if served.input() is Input.NOTHING:
                self._evict(served)
                return True
        return False

    def _evict(self, served: ServedConnection) -> None:
        del self._before_handshake[served]
        served.cancel_handshake(after=trio.current_time() - served.accepted)

    async def _wait_first_bytes(self, served: ServedConnection) -> bytes | None:
        """Return what was read that belongs to TLS; None if the client has sent nothing."""
        if self._options.prepare is not None:
            served.spoke = True  # only prepare could tell
            try:
                initial = await self._options.prepare(served.transport)
            except Exception:
                served.refused = True
                raise
            if initial is not None:
                initial = as_bytes("what prepare returns", initial)
            if initial:
                return initial
            served.spoke = False
            if not served.cut:
                # What comes next may be on its way, as behind the answer to STARTTLS.
                served.began = trio.current_time()
                # It is younger now than the silent ones, unless it has made room already.
                if served in self._before_handshake:
                    del self._before_handshake[served]
                    self._before_handshake[served] = None
        with Wait(served):
            try:
                return await wait_first_bytes(served.transport)
            except TLSFailedError:
                served.spoke = True
                raise
        # Something may have arrived since the wait was cut short.
        if served.input() is Input.NOTHING:
            return None
        return await wait_first_bytes(served.transport)

    async def _do_handshake(
        self, served: ServedConnection, scope: trio.CancelScope, initial: bytes
    ) -> None:
        if self._slots is not None:
            self._slots.reserve(served, HANDSHAKE_TIME)
        left = scope.deadline - trio.current_time()
        scope.deadline = math.inf  # from here on the client waits for us
        await self._acquire_handshake()
        try:
            async with self._handshake_turn:
                pass
            if initial or served.stream.context is not self._ssl_context:
                served.stream = self._wrap(
                    served.transport, served.id, peer_name.get(), initial
                )
            self._handshakes_begun[served] = trio.current_time()
            scope.deadline = trio.current_time() + left
            try:
                await served.stream.do_handshake()
            except Exception as exc:  # noqa: BLE001 - such as of a hook of the context
                served.failure = exc  # first: report it even if closing is cancelled
                await end_abruptly(served.stream)
                return
            finally:
                self._handshakes_begun.pop(served, None)
            served.handshaken = True
            scope.deadline = math.inf
            if self._slots is not None:
                await self._slots.take(served)
            served.ready = True
            self._open += 1
        finally:
            self._handshakes.release()

    async def _acquire_handshake(self) -> None:
        try:
            self._handshakes.acquire_nowait()
        except trio.WouldBlock:
            self._hurry_oldest()
            await self._handshakes.acquire()

    def _hurry_oldest(self) -> None:
        if self._handshakes_begun:
            served = next(iter(self._handshakes_begun))
            served.cancel_handshake(
                after=HURRIED_HANDSHAKE_TIMEOUT,
                since=self._handshakes_begun.pop(served),
            )

    async def _handle(self, served: ServedConnection) -> None:
        served.began = trio.current_time()
        served.waits = self._idle_waits
        if self._options.max_age != math.inf:
            # Clients that connected together should not all reconnect together.
            spread = random.uniform(0.9, 1.1)  # noqa: S311 - not a secret
            served.retires = served.accepted + self._options.max_age * spread
            self._retire_later(served)
        try:
            with trio.CancelScope() as scope:
                self._set_scope(served, scope)
                await self._options.handler(served.stream)
        finally:
            served.scope = None
        if not scope.cancelled_caught:
            with self._time_to_end():
                await end_gracefully(served.stream)

    def _time_to_end(self) -> trio.CancelScope:
        # A stream keeps to its policy, but closing the transport may take longer.
        policy = self._options.policy
        seconds = policy.timeout + policy.linger_timeout
        return trio.CancelScope(deadline=trio.current_time() + seconds)

    # The end of one connection. Nothing here may raise, whatever the user's hooks do, in
    # the context or in logging: it would take the server down.

    async def _end(self, served: ServedConnection) -> None:
        served.scope = None
        served.ended = True
        self._idle_waits.connections.pop(served, None)
        peer = peer_name.get()
        report, outcome = await self._close(served, peer)
        if served.spoke:
            self._tally[outcome if served.handshaken else ShutdownOutcome.FAILED] += 1
            self._ended_by[report.first if report else None] += 1
        self._connections.discard(served)
        self._open -= served.ready
        if self._slots is not None:
            self._slots.release(served)
        self._check_finished()
        try:
            self._log(served, peer)
        except Exception:  # noqa: BLE001 - see above
            _log_exception("cannot log the end of the connection from %s", peer)
        try:
            self._call_on_error(served)
        except Exception:  # noqa: BLE001 - see above
            _log_exception("on_error failed for the connection from %s", peer)
        served.failure = None  # its traceback refers to our frames

    async def _close(
        self, served: ServedConnection, peer: str
    ) -> tuple[ShutdownReport | None, ShutdownOutcome]:
        stream = served.stream
        try:
            outcome = outcome_if_over(stream)
            if outcome is None:
                await abort(stream)
            report = stream.report
        except Exception:  # noqa: BLE001 - see above
            _log_exception("closing the connection from %s failed", peer)
            with contextlib.suppress(Exception), trio.CancelScope(shield=True):
                await trio.aclose_forcefully(served.transport)
            return None, ShutdownOutcome.FAILED
        if self.draining.is_set():
            self._discarded += report.discarded
        return report, outcome or report.outcome

    def _log(self, served: ServedConnection, peer: str) -> None:
        failure = served.failure
        if not served.spoke:
            log_visitor(peer, prepared=self._options.prepare is not None)
        elif failure is None:
            pass
        elif served.refused:
            log_refusal(peer, failure)
        elif not served.handshaken:
            log_failed_handshake(peer, failure)
        elif served.stream.report.error is not None and _is_broken(failure):
            # A peer that disconnected is not a bug in the handler.
            LOGGER.warning("connection from %s: %s", peer, served.stream.report.error)
        else:
            LOGGER.error("the handler for %s failed", peer, exc_info=failure)

    def _call_on_error(self, served: ServedConnection) -> None:
        if served.failure is not None and self._options.on_error is not None:
            self._options.on_error(served.failure, served.stream)

    def _check_finished(self) -> None:
        if (
            not self._accepting
            and not self._connections
            and not self._finished.is_set()
        ):
            self._finished.set()
            self._on_finished(self)

    # Ending:

    async def drain(
        self, *, grace: float | None = None, notice: float = 0.0
    ) -> DrainReport:
        """Stop without losing requests that have arrived, and close every connection.

        First `draining` is set. For *notice* seconds everything goes on as before, so
        that handlers can announce the end (``Connection: close``, GOAWAY; see
        `trio_tlsdown.draining`) and load balancers can react. Then the server accepts
        the clients in the backlog, and closes its listeners. From then on

        - handshakes and *prepare* go on, and the handler is called. Clients that wait for
          *max_connections* get a place when others leave. A client that has sent
          nothing is disconnected; a new one, or one that *prepare* has just let
          through, gets half a second;
        - a wait in `receive_until_drain` or `cancel_on_drain` is cut short if there is
          no input from the peer. It goes on if a request has arrived, or may be about
          to because the handshake has just ended;
        - handlers finish.

        After *grace* seconds, whatever is left is cancelled, and its connections are
        aborted. So the drain takes no longer than *notice*, *grace*, and the ``timeout``
        and ``linger_timeout`` of the policy together.

        It may be called again, by any task; the shortest times count.

        Args:
          grace: Seconds for handshakes and handlers; `math.inf` waits for all of them.
            Default: ``policy.timeout``.
          notice: Seconds from the announcement until clients are refused. Default: 0.

        Returns:
          How the connections ended.

        Cancellation:
          During the notice, the server goes on accepting. Later, it does not, and
          handlers go on without a time limit. Call it again to finish the drain.

        Raises:
          TypeError: *grace* or *notice* is not a number.
          ValueError: it is negative, or NaN.
        """
        if grace is None:
            grace = self._options.policy.timeout
        check_seconds("grace", grace)
        check_seconds("notice", notice)
        began = trio.current_time()
        before = self.tally
        cancelled_before = self._handlers_cancelled
        discarded_before = self._discarded
        self.draining.set()
        with trio.move_on_after(notice):
            await self._notice_over.wait()
        self._notice_over.set()
        self._accept_scopes.cancel()
        self._start_watching()
        await self._cut_waits_short(grace)
        # Let handlers whose waits were cut short leave, even if grace is 0.
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        with trio.move_on_after(grace):
            await self._finished.wait()
        self._end_grace()
        await self._finished.wait()
        return DrainReport(
            tally=self.tally - before,
            handlers_cancelled=self._handlers_cancelled - cancelled_before,
            discarded=self._discarded - discarded_before,
            elapsed=trio.current_time() - began,
        )

    async def _cut_waits_short(self, grace: float) -> None:
        # Half of the grace, so that handlers can still leave by themselves.
        self._silent_waits.start_drain(grace / 2)
        self._idle_waits.start_drain(grace / 2)
        waits = [*self._silent_waits.open, *self._idle_waits.open]
        try:
            # A request that arrives between this decision and our close_notify is lost.
            # So let the first ones close before deciding about the rest.
            for number, wait in enumerate(waits):
                wait.cut_short()
                if number % WAITS_PER_CHECKPOINT == 0:
                    await trio.lowlevel.checkpoint()
        finally:
            for wait in waits:
                wait.cut_short()

    def _start_watching(self) -> None:
        if not self._watching and not self._finished.is_set():
            self._watching = True
            self._nursery.start_soon(self._watch_waits)

    async def _watch_waits(self) -> None:
        interval = min(CHECK_INTERVAL, max(self._options.max_age / 100, 0.01))
        while not self._finished.is_set():
            await self._next_look.wait(interval, self._finished)
            now = trio.current_time()
            for wait in self._due_waits():
                if wait.due <= now:
                    wait.cut_short()
                else:
                    self._next_look.by(wait.due)
        # Nobody looks any more at those of tasks that outlive their connections.
        for wait in self._due_waits():
            wait.cut_short()

    def _due_waits(self) -> list[Wait | ServedConnection]:
        if self._notice_over.is_set():
            return [*self._silent_waits.open, *self._idle_waits.open]
        now = trio.current_time()
        while self._retirements and self._retirements[0][0] <= now:
            self._retired.add(heapq.heappop(self._retirements)[2])
        self._retired = {served for served in self._retired if self._lives(served)}
        return [wait for served in self._retired for wait in served.waiting]

    def _retire_later(self, served: ServedConnection) -> None:
        # Most connections may end long before: forget them, rarely enough that it costs
        # little for each.
        if len(self._retirements) > 2 * len(self._connections) + FORGET_AT_LEAST:
            self._retirements = [
                one for one in self._retirements if self._lives(one[2])
            ]
            heapq.heapify(self._retirements)
        heapq.heappush(self._retirements, (served.retires, served.id, served))

    def _lives(self, served: ServedConnection) -> bool:
        # A task that its handler has started may outlive it.
        return bool(served in self._connections or served.waiting)

    def _end_grace(self) -> None:
        self._grace_over = True
        self._backlog_scopes.cancel()
        for served in self._connections:
            if served.scope is not None and not served.scope.cancel_called:
                served.scope.cancel()
                self._handlers_cancelled += served.ready


def _is_broken(error: Exception) -> bool:
    # A handler with a nursery raises a group.
    _, others = ExceptionGroup("", [error]).split(trio.BrokenResourceError)
    return others is None


def _log_exception(message: str, peer: str) -> None:
    with contextlib.suppress(Exception):
        LOGGER.exception(message, peer)
