"""A TLS server that ends its connections well, also when it stops."""

from __future__ import annotations

import contextlib
import math
import ssl
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, TypeAlias, final

import attrs
import trio

from trio_tlsdown._core.report import ShutdownOutcome, ShutdownPolicy
from trio_tlsdown._core.trace import Trace, trace_of
from trio_tlsdown._errors import HandshakeTimeoutError
from trio_tlsdown._stream.stream import TLSStream
from trio_tlsdown._util import LOGGER, check_seconds

from .accept import (
    Handler,
    SocketTLSStream,
    accept_backlog,
    accept_connections,
    wait_for_client,
)
from .contexts import check_server_context, warn_if_unusable
from .drain import (
    MOMENT,
    SERVED,
    DrainReport,
    MultiCancelScope,
    Served,
    Wait,
    Waits,
)
from .lifecycle import (
    end_abruptly,
    end_gracefully,
    hear_from,
    log_failed_handshake,
    log_visitor,
    outcome_if_over,
)
from .places import Places

OnError: TypeAlias = Callable[[Exception, SocketTLSStream], object]

# In a drain, how long a new session may take for its first request, in seconds: it comes
# right behind the handshake, from clients that have one.
FIRST_REQUEST: Final = 0.08

CUT_AT_ONCE: Final = 8  # waits


@attrs.frozen(kw_only=True)
class ServerOptions:
    """Validated arguments of `TLSNursery.start_server`."""

    handler: Handler
    policy: ShutdownPolicy
    trace: Trace | None
    https_compatible: bool
    max_connections: int | None
    max_handshakes: int | None
    handshake_timeout: float
    on_error: OnError | None


@final
class TLSServer:
    """A TLS server that runs, made by `TLSNursery.start_server`.

    Each connection has a task of its own, which shakes hands, runs the handler,
    and then ends the connection:

    - the handler returned: shutdown within the policy, and close. It has closed the
      stream itself, or unwrapped it: nothing more;
    - it raised or was cancelled: abort, so that half an answer never looks whole.

    What goes wrong in a handshake or a handler is logged to ``trio_tlsdown``, with
    the peer's address, and concerns no other connection. A client that never sends a
    byte, such as a health check, is logged as DEBUG, and is in no tally.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        listeners: list[trio.SocketListener],
        ssl_context: ssl.SSLContext,
        options: ServerOptions,
        ended: Callable[[TLSServer], object],
    ) -> None:
        self._nursery = nursery
        self._ssl_context = ssl_context
        self._options = options
        self._ended = ended
        self._addresses = tuple(listener.socket.getsockname() for listener in listeners)
        self._connections: set[Served] = set()
        self._tally: Counter[ShutdownOutcome] = Counter()
        self._discarded = 0  # bytes, of connections that ended in a drain

        self._places = (
            Places(options.max_connections) if options.max_connections else None
        )
        self._handshakes = trio.Semaphore(options.max_handshakes or sys.maxsize)
        # Each ClientHello costs a signature. When many have come together, one of them
        # has its turn in each pass of the scheduler, between all other tasks.
        self._turn = trio.Lock()

        self._silent = Waits(new=MOMENT)  # for the first byte
        self._idle = Waits(new=FIRST_REQUEST)  # for a next request
        self._listening = MultiCancelScope()
        self._emptying = MultiCancelScope()  # the backlog
        self._grace_is_over = False
        self._handlers_cancelled = 0
        self._accepting = len(listeners)  # tasks
        self._stopping = trio.Event()  # the notice of a drain is over
        self._over = trio.Event()  # nothing is accepted any more, and all is closed
        self.draining: Final = trio.Event()
        """Set when a drain begins."""
        for listener in listeners:
            nursery.start_soon(self._accept, listener)

    @property
    def addresses(self) -> tuple[Any, ...]:
        """Where it listens: as ``socket.getsockname()`` tells, for each listener.

        An address of IPv4 is ``(host, port)``.
        """
        return self._addresses

    @property
    def connections(self) -> frozenset[TLSStream[trio.SocketStream]]:
        """The streams that are open now, also before and in their handshake."""
        return frozenset(served.stream for served in self._connections)

    @property
    def tally(self) -> Counter[ShutdownOutcome]:
        """How many connections have ended, by how they ended: a copy.

        Handshakes that failed are FAILED.
        """
        return self._tally.copy()

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """The context of new handshakes; set another one to renew a certificate.

        Load the certificate into a new context: one that fails to load breaks a
        context that is in use. Connections that have shaken hands keep theirs.

        Raises:
          TypeError: it is set to something else.
          ssl.SSLError: to a context that is for clients. The server keeps the one it
            has.
        """
        return self._ssl_context

    @ssl_context.setter
    def ssl_context(self, ssl_context: ssl.SSLContext) -> None:
        check_server_context(ssl_context)
        warn_if_unusable(ssl_context)
        self._ssl_context = ssl_context

    # Accepting:

    async def _accept(self, listener: trio.SocketListener) -> None:
        try:
            async with listener:
                with self._listening.open_child():
                    await accept_connections(listener, self._start, self._wait_for_room)
                with self._emptying.open_child():
                    await accept_backlog(listener, self._start)
        finally:
            self._accepting -= 1
            self._check_over()

    async def _wait_for_room(self, listener: trio.SocketListener) -> None:
        if self._places is not None:
            await wait_for_client(listener)
            await self._places.wait_free()
        if not self._handshakes.value:
            async with self._handshakes:  # behind those that were accepted before
                pass

    def _start(self, transport: trio.SocketStream, peer: str) -> None:
        served = Served(self._wrap(transport, peer), peer, self._idle)
        self._nursery.start_soon(self._run, served)
        self._connections.add(served)
        if self._places is not None:
            self._places.reserve(served)

    def _wrap(self, transport: trio.SocketStream, peer: str) -> SocketTLSStream:
        return TLSStream(
            transport,
            self._ssl_context,
            server_side=True,
            https_compatible=self._options.https_compatible,
            policy=self._options.policy,
            trace=trace_of(self._options.trace, "server", peer),
        )

    # One connection:

    async def _run(self, served: Served) -> None:
        try:
            await self._begin(served)
            if served.ready:
                await self._handle(served)
        except Exception as exc:  # noqa: BLE001 - it concerns nobody else
            served.failure = exc
            with contextlib.suppress(Exception):  # _end() closes it in any case
                await end_abruptly(served.stream)
        except BaseExceptionGroup as group:
            served.failure, others = group.split(Exception)
            assert others is not None
            raise others from None  # it was cancelled, or the like
        finally:
            await self._end(served)  # noqa: ASYNC102 - it shields what it awaits

    async def _begin(self, served: Served) -> None:
        """All that comes before the handler."""
        timeout = self._options.handshake_timeout
        wait = Wait(self._silent, served, timeout)
        too_late = False
        with wait as scope:
            self._enter(served, scope)
            self._bound_silent()
            served.spoke = await hear_from(served.transport)
            wait.end()
            too_late = scope.cancel_called  # it was cut short in this very moment
            if served.spoke and not too_late:
                await self._do_handshake(served, scope)
        if self._grace_is_over or not scope.cancel_called:
            return
        if too_late or not served.spoke:
            # What has come since the wait was cut short has come all the same.
            if served.has_input():
                await self._begin(served)
        elif scope.cancelled_caught and served.failure is None:
            served.failure = HandshakeTimeoutError(timeout)

    def _enter(self, served: Served, scope: trio.CancelScope) -> None:
        served.scope = scope
        if self._grace_is_over:
            scope.cancel()

    def _bound_silent(self) -> None:
        # Honest clients speak at once, so it hits those that do not.
        most = self._options.max_handshakes
        if most is not None and len(self._silent.open) > most:
            self._silent.cancel_oldest()

    async def _do_handshake(self, served: Served, scope: trio.CancelScope) -> None:
        left = scope.deadline - trio.current_time()
        scope.deadline = math.inf  # it is not the client that waits now
        await self._acquire_handshake()
        try:
            async with self._turn:
                pass
            if served.stream.context is not self._ssl_context:  # a newer one was set
                served.stream = self._wrap(served.transport, served.peer)
            scope.deadline = trio.current_time() + left
            try:
                await served.stream.do_handshake()
            except Exception as exc:  # noqa: BLE001 - such as of a hook of the context
                served.failure = exc  # first: it is told even if closing is cancelled
                await end_abruptly(served.stream)
                return
            served.handshaken = True
            scope.deadline = math.inf
            if self._places is not None:
                await self._places.take(served)
            served.ready = True
        finally:
            self._handshakes.release()

    async def _acquire_handshake(self) -> None:
        try:
            self._handshakes.acquire_nowait()
        except trio.WouldBlock:
            await self._handshakes.acquire()

    async def _handle(self, served: Served) -> None:
        served.began = trio.current_time()
        SERVED.set(served)
        with trio.CancelScope() as scope:
            self._enter(served, scope)
            await self._options.handler(served.stream)
        served.scope = None
        if not scope.cancelled_caught:
            await end_gracefully(served.stream)

    # The end of one connection. Nothing here may raise, whatever hooks of the user's do,
    # in the context or in logging: it would take the server down.

    async def _end(self, served: Served) -> None:
        served.scope = None
        outcome = await self._close(served)
        if served.spoke:
            self._tally[outcome if served.handshaken else ShutdownOutcome.FAILED] += 1
        self._connections.discard(served)
        if self._places is not None:
            self._places.release(served)
        self._check_over()
        try:
            self._log(served)
        except Exception:  # noqa: BLE001 - see above
            _log_exception("cannot log the end of the connection from %s", served.peer)
        try:
            self._call_on_error(served)
        except Exception:  # noqa: BLE001 - see above
            _log_exception("on_error failed for the connection from %s", served.peer)
        served.failure = None  # its traceback refers to our frames

    async def _close(self, served: Served) -> ShutdownOutcome:
        stream = served.stream
        try:
            outcome = outcome_if_over(stream)
            if outcome is None:
                with trio.CancelScope(shield=True):  # short: it waits for nobody
                    await trio.aclose_forcefully(stream)
            report = stream.report
        except Exception:  # noqa: BLE001 - see above
            served.transport.socket.close()
            _log_exception("closing the connection from %s failed", served.peer)
            return ShutdownOutcome.FAILED
        if self._stopping.is_set():
            self._discarded += report.discarded
        return outcome or report.outcome

    def _log(self, served: Served) -> None:
        failure, peer = served.failure, served.peer
        if not served.spoke:
            log_visitor(peer)
        elif failure is None:
            pass
        elif not served.handshaken:
            log_failed_handshake(peer, failure)
        elif served.stream.report.error is not None and _is_broken(failure):
            # A peer that vanished is no bug of the handler's.
            LOGGER.warning("connection from %s: %s", peer, served.stream.report.error)
        else:
            LOGGER.error("the handler for %s failed", peer, exc_info=failure)

    def _call_on_error(self, served: Served) -> None:
        if served.failure is not None and self._options.on_error is not None:
            self._options.on_error(served.failure, served.stream)

    def _check_over(self) -> None:
        if not self._accepting and not self._connections and not self._over.is_set():
            self._over.set()
            self._ended(self)

    # Ending:

    async def drain(
        self, *, grace: float | None = None, notice: float = 0.0
    ) -> DrainReport:
        """Stop without losing what has arrived: finish it, and close every connection.

        `draining` is set. For *notice* seconds all goes on as before, so that handlers
        can announce it (``Connection: close``, GOAWAY), and load balancers notice.
        Then no client is accepted any more, except those that the kernel has accepted
        already, and the listeners are closed. Of these and the others

        - a handshake goes on, and the handler is called; clients that
          *max_connections* keeps waiting get their places as others leave. Who has
          sent nothing at all is closed, a new connection after half a second;
        - a wait in `cancel_on_drain` is cut short if nothing has come from the peer.
          One with a request that has arrived, or that is about to behind its
          handshake, goes on;
        - handlers finish.

        All of them have *grace* seconds; then what is left is cancelled, and its
        connections aborted. Each connection ends as it always does: all is over within
        *notice*, *grace* and the ``timeout`` and ``linger_timeout`` of the policy,
        together.

        It can be called again, by other tasks too: the shortest times count.

        Args:
          grace: Seconds for handshakes and handlers; `math.inf` waits for all of them.
            Default: ``policy.timeout``.
          notice: Seconds from the announcement until clients are refused. Default: 0.

        Cancellation:
          During the notice, clients are accepted as before. Later none is, and
          handlers go on without a limit. Call it again to end it.

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
            await self._stopping.wait()
        self._stopping.set()
        self._listening.cancel()
        await self._cut_waits_short(grace)
        # Those who leave by themselves do, even if there is no grace.
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        with trio.move_on_after(grace):
            await self._over.wait()
        self._end_grace()
        await self._over.wait()
        return DrainReport(
            tally=self.tally - before,
            handlers_cancelled=self._handlers_cancelled - cancelled_before,
            discarded=self._discarded - discarded_before,
            elapsed=trio.current_time() - began,
        )

    async def _cut_waits_short(self, grace: float) -> None:
        # They should leave by themselves, and not because the grace is over.
        self._silent.start_drain(grace / 2)
        self._idle.start_drain(grace / 2)
        waits = [*self._silent.open, *self._idle.open]
        try:
            # A request that comes when this was decided, and before our close_notify
            # has left, is lost. So no connection waits for the goodbyes of others.
            for number, wait in enumerate(waits):
                wait.cut_short()
                if number % CUT_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
        finally:
            for wait in waits:
                wait.cut_short()

    def _end_grace(self) -> None:
        self._grace_is_over = True
        self._emptying.cancel()
        for served in self._connections:
            if served.scope is not None and not served.scope.cancel_called:
                served.scope.cancel()
                self._handlers_cancelled += served.ready


def _is_broken(error: Exception) -> bool:
    # A handler that has a nursery raises a group.
    _, others = ExceptionGroup("", [error]).split(trio.BrokenResourceError)
    return others is None


def _log_exception(message: str, peer: str) -> None:
    with contextlib.suppress(Exception):
        LOGGER.exception(message, peer)
