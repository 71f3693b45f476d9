"""How a stream ends: each way to end it, what that waits for, and what bounds the wait.

| call | our last word | waits for | within |
|---|---|---|---|
| `shutdown` | close_notify | the handshake, room to send | ``policy.timeout`` |
| | | the peer's close_notify, or a reader | the same |
| `aclose` | close_notify | the handshake, room to send | ``policy.timeout`` |
| | | the peer's kernel to acknowledge all | ``policy.linger_timeout``, 8 MiB |
| `aclose`, *https_compatible* | none, by agreement | the same | the same |
| `aclose` after TLS failed | a fatal alert | room to send | ``policy.timeout`` |
| | | the peer's FIN | ``policy.linger_timeout``, 8 MiB |
| `aclose` while a task sends | none: abort | nothing | |
| `abort` | none: TCP is reset | nothing | |

A transport that is no socket may itself wait when it is closed, as another TLS stream
does; that is bounded by what bounds it there.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from trio_tlsdown._core.state import Event, Sending

from .sync import InProgress

if TYPE_CHECKING:
    from trio_tlsdown._core.report import ShutdownReport

    from .connection import Connection
    from .sync import ConflictDetector, SendConflictDetector


class _SharedShutdown(InProgress):
    """A running `shutdown` that other callers join."""

    __slots__ = ("began", "report", "waits")

    def __init__(self, *, began: float, waits: bool) -> None:
        super().__init__()
        self.began = began
        self.waits = waits
        self.report: ShutdownReport | None = None


def _cancelled_at_once(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.SUCCEEDED


class Closer:
    """Ends one connection.

    Args:
      connection: The connection.
      sends: Knows whether a task is sending.
      waits: Knows whether a task is waiting for room to send.
      receives: Knows whether a task is receiving.
      https_compatible: Whether to close without close_notify.

    Attributes:
      reader_seen: Whether a task has called `TLSStream.receive_some` since the shutdown
        began, or was in it then, and did not give up.
    """

    __slots__ = (
        "_closing",
        "_connection",
        "_https_compatible",
        "_receives",
        "_refused",
        "_sends",
        "_shutdown",
        "_waits",
        "reader_seen",
    )

    def __init__(
        self,
        connection: Connection,
        *,
        sends: SendConflictDetector,
        waits: ConflictDetector,
        receives: ConflictDetector,
        https_compatible: bool,
    ) -> None:
        self._connection = connection
        self._sends = sends
        self._waits = waits
        self._receives = receives
        self._https_compatible = https_compatible
        self._shutdown: _SharedShutdown | None = None
        self._closing: InProgress | None = None
        self._refused = False
        self.reader_seen = False

    # Shutdown:

    async def shutdown(self, *, wait: bool) -> ShutdownReport:
        """As `TLSStream.shutdown`."""
        self._connection.check_open()
        began = trio.current_time()
        while (running := self._shutdown) is not None:
            await running.wait_released()
            if running.report is not None and (running.waits or not wait):
                return running.report
            self._connection.check_open()
            # Taken over, it has no more time: all who have joined it wait for that.
            began = min(began, running.began)
        if not self._connection.state.close_notify_sent:
            self._sends.check_sending()
            self._waits.check()
        self._shutdown = shared = _SharedShutdown(began=began, waits=wait)
        try:
            with shared:
                shared.report = await self._exchange(began, wait=wait)
                return shared.report
        finally:
            self._shutdown = None

    async def _exchange(self, began: float, *, wait: bool) -> ShutdownReport:
        state = self._connection.state
        state.process_event_if_legal(Event.RESUMED)
        self._connection.start_shutdown_clock()
        self.reader_seen = self._receives.busy
        try:
            if not await self._exchange_at_once(wait=wait):
                with self._connection.deadline(began) as scope:
                    if not state.close_notify_sent:
                        await self.send_close_notify()
                    if wait:
                        await self._wait_for_close_notify()
                if scope.cancelled_caught:
                    self._give_up()
        except trio.Cancelled:
            self._give_up()
            raise
        except trio.BrokenResourceError:
            pass  # it is in the report
        except trio.ClosedResourceError:
            if not state.closed:
                raise  # the transport was closed by someone else
        state.settle()
        return self._connection.report()

    async def _exchange_at_once(self, *, wait: bool) -> bool:
        await trio.lowlevel.checkpoint_if_cancelled()
        # Without a deadline: it would be a quarter of the cost of a shutdown whose peer
        # answers at once. If we have to wait anyway it costs nothing.
        state = self._connection.state
        if not state.close_notify_sent and not (
            state.handshaken and self._connection.send_close_notify_nowait()
        ):
            return False
        await trio.lowlevel.checkpoint()
        if not wait or self._closing is not None:
            return True
        self._connection.receive_nowait()
        return state.close_notify_received and not self._connection.engine.unread

    async def send_close_notify(self) -> None:
        """Send our close_notify, after the handshake if it has not been done.

        Raises:
          trio.BusyResourceError: a task is sending data.
          TLSFailedError: the handshake failed. Likewise TruncatedError and
            TransportBrokenError.
        """
        with self._sends.ending():
            await self._connection.ensure_handshake()
            await self._connection.send_close_notify()

    async def _wait_for_close_notify(self) -> None:
        connection = self._connection
        # Also if our alert could not be sent: how the input ends tells whether the peer
        # cut the connection or had sent close_notify before.
        while (
            connection.state.can_receive
            and connection.state.sending is not Sending.BROKEN
            and self._closing is None
        ):
            if not connection.unread_limit_exceeded:
                await connection.receive_once()
            elif self.reader_seen:
                await connection.wait_buffer_drained()
            else:
                self._give_up()
                return
        # A parked reader is about to take what has arrived.
        while (
            connection.engine.unread and self._receives.busy and self._closing is None
        ):
            await connection.wait_buffer_drained()

    def _give_up(self) -> None:
        if not self._connection.state.outcome.final:
            self._connection.state.process_event_if_legal(Event.GIVEN_UP)

    # Closing:

    @property
    def over(self) -> bool:
        """Whether `aclose` was called, and the transport did not refuse to be closed."""
        return (
            self._closing is not None and not self._closing.locked and not self._refused
        )

    async def aclose(self) -> None:
        """As `TLSStream.aclose`."""
        if self._closing is None:
            self._closing = InProgress()
            with self._closing:
                try:
                    await self._close()
                except trio.BrokenResourceError:
                    raise  # of the handshake: it is closed
                except Exception:
                    self._refused = True
                    raise
            return
        try:
            if self._closing.locked:
                await self._closing.wait_released()
            await trio.lowlevel.checkpoint()
        except trio.Cancelled:
            await self._abort()  # noqa: ASYNC102 - does not wait
            raise

    async def _close(self) -> None:
        connection = self._connection
        failure: trio.BrokenResourceError | None = None
        connection.start_shutdown_clock()
        if trio.current_effective_deadline() == -math.inf:
            # The usual abort, and half the cost of checkpoint_if_cancelled().
            await self._abort()
            await trio.lowlevel.wait_task_rescheduled(_cancelled_at_once)
        try:
            exposed = connection.should_linger()
            # With a close_notify, part of another task's data would look complete.
            cut = self._sends.sending or connection.state.sending is Sending.BROKEN
            if not cut and not connection.state.close_notify_sent:
                try:
                    exposed |= await self._send_last_word()
                except trio.BrokenResourceError as exc:
                    failure = exc  # of the handshake that closing began
            connection.mark_closed(keep_unread=not cut)
            graceful = connection.last_word_sent or (self._https_compatible and not cut)
            if graceful and (exposed or connection.records.alert_sent):
                await connection.linger()
        except trio.ClosedResourceError:
            graceful = False  # the transport was closed by someone else
        except BaseException:
            await self._abort()  # noqa: ASYNC102 - does not wait
            raise
        try:
            if graceful:
                await connection.records.transport.aclose()
            else:
                await self._abort()
                await trio.lowlevel.checkpoint()
            if failure is not None:
                raise failure
        finally:
            del failure  # breaks a cycle: its traceback refers to this frame

    async def _send_last_word(self) -> bool:
        """Send close_notify or the pending alert; return whether that had to wait."""
        connection = self._connection
        state = connection.state
        if not state.failed:
            if self._https_compatible:
                return False
            # Another task's handshake is aborted; a failed one cannot be continued.
            if not state.handshaken and connection.handshake_has_begun:
                return False
        with self._sends.ending():
            # What the kernel accepts at once needs no deadline.
            ready = state.handshaken or state.failed
            if ready and connection.send_close_notify_nowait():
                return False
            with connection.deadline():
                if not state.failed:
                    await connection.ensure_handshake()
                await connection.send_close_notify()
            return True

    async def abort(self) -> None:
        """As `trio.aclose_forcefully`, for a stream on a socket.

        That one has to cancel `aclose`, which costs more than all the rest. This one
        is no cancellation point: what made the caller abort goes on.
        """
        self._connection.start_shutdown_clock()
        if self._closing is None:
            self._closing = InProgress()
        await self._abort()
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def _abort(self) -> None:
        await self._connection.abort()
