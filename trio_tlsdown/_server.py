"""A TLS server that ends its connections well, also when it stops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final, TypeAlias, final

import attrs
import trio

from ._accept import SocketTLSStream, accept_connections
from ._check import check_seconds
from ._drain import IDLE, DrainReport, Scopes
from ._ending import end_gracefully, outcome_if_closed
from ._handshake import log_failed_handshake, shake_hands
from ._listener import TLSListener
from ._log import LOGGER, peer_of
from ._shutdown import ShutdownOutcome, ShutdownPolicy
from ._stream import TLSStream
from ._tcp import Handler

OnError: TypeAlias = Callable[[Exception, SocketTLSStream], object]


@attrs.frozen(kw_only=True)
class ServerOptions:
    """What `TLSNursery.start_server` was asked for."""

    handler: Handler
    policy: ShutdownPolicy
    handshake_timeout: float
    on_error: OnError | None
    slots: trio.Semaphore | None


@final
class TLSServer:
    """A TLS server that runs, made by `TLSNursery.start_server`.

    Each connection has a task of its own, which shakes hands, runs the handler,
    and then ends the connection:

    - the handler returned: shutdown within the policy, and close. It has closed the
      stream itself, or unwrapped it: nothing more;
    - it raised or was cancelled: abort, so that half an answer never looks whole.

    What goes wrong in a handshake or a handler is logged to ``trio_tlsdown``, with
    the peer's address, and concerns no other connection.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        sockets: list[trio.SocketListener],
        listeners: list[TLSListener[trio.SocketStream]],
        options: ServerOptions,
    ) -> None:
        self._nursery = nursery
        self._sockets = sockets
        self._options = options
        self._addresses = tuple(listener.socket.getsockname() for listener in sockets)
        self._streams: set[SocketTLSStream] = set()
        self._tally: Counter[ShutdownOutcome] = Counter()
        self._handshakes = Scopes()
        self._handlers = Scopes()
        self._idle = Scopes()
        self._handlers_cancelled = 0
        self._accepting = len(listeners)  # tasks
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
        """The streams that are open now, those in their handshake too."""
        return frozenset(self._streams)

    @property
    def tally(self) -> Counter[ShutdownOutcome]:
        """How many connections have ended, by how they ended: a copy.

        Handshakes that failed are FAILED.
        """
        return self._tally.copy()

    # Accepting:

    async def _accept(self, listener: TLSListener[trio.SocketStream]) -> None:
        try:
            await accept_connections(listener, self._start, self._options.slots)
        except trio.ClosedResourceError:
            if not self.draining.is_set():
                raise
        finally:
            self._accepting -= 1
            self._check_over()

    def _start(self, stream: SocketTLSStream) -> None:
        self._nursery.start_soon(self._run, stream)
        self._streams.add(stream)

    # One connection:

    async def _run(self, stream: SocketTLSStream) -> None:
        IDLE.set(self._idle)
        peer = peer_of(stream.transport_stream)
        handshaken = False
        failure: Exception | None = None
        try:
            handshaken = await self._shake_hands(stream)
            if handshaken:
                await self._handle(stream)
        except Exception as exc:  # noqa: BLE001 - it concerns nobody else
            failure = exc
        except BaseExceptionGroup as group:
            failure, others = group.split(Exception)
            assert others is not None
            raise others from None  # it was cancelled, or the like
        finally:
            outcome = outcome_if_closed(stream)
            if outcome is None:
                with trio.CancelScope(shield=True):  # short: it waits for nobody
                    await trio.aclose_forcefully(stream)
                outcome = stream.report.outcome
            if not handshaken:
                outcome = ShutdownOutcome.FAILED
            self._ended(stream, outcome)
            if failure is not None:
                self._log(failure, stream, peer, handshaken=handshaken)
                self._tell(failure, stream)
            del failure  # its traceback refers to this frame

    async def _shake_hands(self, stream: SocketTLSStream) -> bool:
        with self._handshakes.enter() as scope:
            await shake_hands(stream, self._options.handshake_timeout)
        return not scope.cancelled_caught

    async def _handle(self, stream: SocketTLSStream) -> None:
        with self._handlers.enter() as scope:
            await self._options.handler(stream)
        if not scope.cancelled_caught:
            await end_gracefully(stream)

    def _log(
        self, exc: Exception, stream: SocketTLSStream, peer: str, *, handshaken: bool
    ) -> None:
        if not handshaken:
            log_failed_handshake(peer, exc)
        elif stream.report.error is not None and _is_broken(exc):
            # A peer that vanished is no bug of the handler's.
            LOGGER.warning("connection of %s: %s", peer, stream.report.error)
        else:
            LOGGER.error("the handler of %s failed", peer, exc_info=exc)

    def _tell(self, exc: Exception, stream: SocketTLSStream) -> None:
        if self._options.on_error is not None:
            try:
                self._options.on_error(exc, stream)
            except Exception:  # noqa: BLE001 - nor does this
                LOGGER.exception("on_error failed")

    def _ended(self, stream: SocketTLSStream, outcome: ShutdownOutcome) -> None:
        self._tally[outcome] += 1
        self._streams.discard(stream)
        if self._options.slots is not None:
            self._options.slots.release()
        self._check_over()

    # Ending:

    async def drain(self, *, grace: float | None = None) -> DrainReport:
        """Accept nothing more, let handlers finish, close every connection.

        The listeners are closed and `draining` is set. A wait in `cancel_on_drain`
        is cut short at once; a handshake is aborted. Handlers have *grace* seconds;
        then they are cancelled, and their connections aborted. Each connection ends
        as it always does: all is over within *grace* and the ``timeout`` and
        ``linger_timeout`` of the policy, together.

        It can be called again, by other tasks too: the shortest grace counts.

        Args:
          grace: Seconds for the handlers; `math.inf` waits for all of them.
            Default: ``policy.timeout``.

        Cancellation:
          No more connections are accepted, and handlers go on without a limit. Call
          it again to set one.

        Raises:
          TypeError: *grace* is not a number.
          ValueError: it is negative, or NaN.
        """
        if grace is None:
            grace = self._options.policy.timeout
        check_seconds("grace", grace)
        began = trio.current_time()
        before = self.tally
        cancelled_before = self._handlers_cancelled
        self._begin_drain()
        # Those who leave by themselves do, even if there is no grace.
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        with trio.move_on_after(grace):
            await self._over.wait()
        self._handlers_cancelled += self._handlers.cancel()
        await self._over.wait()
        return DrainReport(
            tally=self.tally - before,
            handlers_cancelled=self._handlers_cancelled - cancelled_before,
            elapsed=trio.current_time() - began,
        )

    def _begin_drain(self) -> None:
        for listener in self._sockets:
            listener.socket.close()
        self.draining.set()
        self._handshakes.cancel()
        self._idle.cancel()

    def _check_over(self) -> None:
        if not self._accepting and not self._streams:
            self._over.set()


def _is_broken(error: Exception) -> bool:
    # A handler that has a nursery raises a group.
    _, others = ExceptionGroup("", [error]).split(trio.BrokenResourceError)
    return others is None
