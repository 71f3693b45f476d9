"""One TLS session over one transport: it moves the bytes and keeps the state.

This is the part of `TLSStream` below the stream interface. It does not detect
conflicting tasks and does not decide how to end; see `closing` for that.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final, TypeVarTuple

import trio

from trio_tlsdown._core.engine import Engine
from trio_tlsdown._core.report import (
    PeerState,
    ShutdownOutcome,
    ShutdownPolicy,
    ShutdownReport,
    TraceEvent,
    TraceKind,
)
from trio_tlsdown._core.state import BREAKS, ConnectionState, Event, Receiving, Sending
from trio_tlsdown._errors import (
    TLSFailedError,
    TransportBrokenError,
    TruncatedError,
    at_address,
)
from trio_tlsdown._names import certificate_name

from .linger import (
    all_acknowledged_and_read,
    linger,
    over_kernel_socket,
    over_tcp,
    reset_when_closed,
)
from .sync import InProgress
from .transport import ReceiveInterruptedError, RecordTransport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

Arguments = TypeVarTuple("Arguments")

# Bytes of plaintext encrypted per write to the transport, so that a big send_all needs
# little memory besides the data itself.
MAX_PLAINTEXT_PER_SEND: Final = 2**18

TRACED: Final[Mapping[Event, TraceKind]] = {
    Event.HANDSHAKE_DONE: TraceKind.HANDSHAKE_DONE,
    Event.CLOSE_NOTIFY_SENT: TraceKind.CLOSE_NOTIFY_SENT,
    Event.CLOSE_NOTIFY_RECEIVED: TraceKind.CLOSE_NOTIFY_RECEIVED,
    Event.SENDING_RESET: TraceKind.RESET_RECEIVED,
    Event.RECEIVING_RESET: TraceKind.RESET_RECEIVED,
    Event.FAILED: TraceKind.TLS_FAILED,
    Event.GIVEN_UP: TraceKind.CANCELLED,
    Event.UNWRAPPED: TraceKind.UNWRAPPED,
    Event.CLOSED: TraceKind.TRANSPORT_CLOSED,
}

# Bounds a nonblocking read against a peer that sends endless records without
# application data; each read takes in up to MAX_RECORDS_PER_READ.
MAX_NOWAIT_READS: Final = 4

# Bytes of TLS-layer answers (to KeyUpdates, say) that may pile up while another task's
# send is stuck. Above that, receiving waits until they are sent.
MAX_ANSWERS: Final = 2**16


def error_of(
    outcome: ShutdownOutcome | None,
    *,
    handshaken: bool,
    mid_record: bool | None,
    transport_error: trio.BrokenResourceError | None,
    tls_error: ssl.SSLError | None,
    server_side: bool,
) -> TruncatedError | TransportBrokenError | TLSFailedError | None:
    """The exception for what broke a connection or a direction; None if nothing did."""
    match outcome:
        case ShutdownOutcome.TRUNCATED:
            return TruncatedError(mid_record=mid_record)
        case ShutdownOutcome.RESET:
            assert transport_error is not None
            return TransportBrokenError(transport_error)
        case ShutdownOutcome.FAILED:
            return TLSFailedError(
                tls_error,
                during_handshake=not handshaken,
                server_side=server_side,
            )
        case _:
            return None


class Connection:
    """Engine, transport and state of one connection.

    Args:
      transport: The caller's stream.
      context: The caller's context.
      server_hostname: As for `TLSStream`.
      server_side: As for `TLSStream`.
      policy: Limits on ending the connection.
      trace: Called with each `TraceEvent`.
      initial_bytes: As for `TLSStream`.

    Attributes:
      address: Host and port, for error messages; None if unknown.
    """

    __slots__ = (
        "_buffer_drained",
        "_ending_began",
        "_ending_over",
        "_handshake",
        "_handshake_error",
        "_policy",
        "_receiving",
        "_trace_callback",
        "address",
        "engine",
        "keeps_unread",
        "records",
        "state",
    )

    def __init__(
        self,
        transport: trio.abc.Stream,
        context: ssl.SSLContext,
        *,
        server_hostname: str | bytes | None,
        server_side: bool,
        policy: ShutdownPolicy,
        trace: Callable[[TraceEvent], object] | None,
        initial_bytes: bytes,
    ) -> None:
        self._policy = policy
        self._trace_callback = trace
        self._ending_began: float | None = None
        self._ending_over: float | None = None
        self._handshake: trio.Event | None = None
        self._handshake_error: Exception | None = None
        self._receiving = InProgress()
        self._buffer_drained: trio.Event | None = None
        self.keeps_unread = False
        self.address: tuple[str | bytes, int] | None = None
        self.state = ConnectionState(self._on_transition)
        self.engine = Engine(
            context,
            self.state,
            server_side=server_side,
            server_hostname=(
                None if server_hostname is None else certificate_name(server_hostname)
            ),
        )
        self.records = RecordTransport(
            transport,
            initial_bytes,
            self.engine.output,
            self.state,
            None if trace is None else self._trace,
        )

    # Opening:

    @property
    def handshake_has_begun(self) -> bool:
        """Whether a handshake was started; it may be running, done or failed."""
        return self._handshake is not None

    async def ensure_handshake(self) -> None:
        """Do the handshake, or wait for the task that is doing it."""
        if self.state.handshaken:
            return
        if self._handshake is not None:
            await self._handshake.wait()
        else:
            self._handshake = trio.Event()
            try:
                await self._do_handshake()
            except BaseException as exc:
                if isinstance(exc, Exception):
                    self._handshake_error = exc
                if not self.state.handshaken:
                    # Otherwise only our last flight is pending, and the next send
                    # flushes it.
                    self.state.process_event_if_legal(Event.SENDING_BROKEN)
                raise
            finally:
                self._handshake.set()
        if not self.state.handshaken:
            self.check_open()
            # Not kept in a variable: its traceback will refer to this frame.
            raise self.error(self.state.broken_by) or self._cut_short()

    def _cut_short(self) -> trio.BrokenResourceError:
        error = trio.BrokenResourceError("the handshake was cut short")
        error.__cause__ = self._handshake_error
        return error

    async def _do_handshake(self) -> None:
        self.engine.do_handshake()
        await self.flush()
        while (
            self.state.sending is Sending.HANDSHAKING
            and self.state.receiving is Receiving.HANDSHAKING
        ):
            self.engine.feed(await self.records.receive_some())
            if self.engine.output.pending:
                await self.flush()

    # Sending:

    async def ensure_can_send(self) -> None:
        """Do the handshake if needed; raise if this side cannot send."""
        self.check_open()
        await self.ensure_handshake()
        self.check_can_send()

    def send(self, data: bytes | memoryview) -> Awaitable[None]:
        """Encrypt and send *data*. The caller has checked for cancellation."""
        if len(data) > MAX_PLAINTEXT_PER_SEND:
            return self._send_slices(memoryview(data))
        if not self.records.lock.locked:
            # The fast path of flush(), without its coroutine: small sends are common.
            try:
                self.engine.encrypt(data)
            except ssl.SSLWantReadError:
                pass
            else:
                return self.records.flush_uncontended()
        return self._send(self.engine.encrypt, data)

    async def _send_slices(self, data: memoryview) -> None:
        start = 0
        try:
            for start in range(0, len(data), MAX_PLAINTEXT_PER_SEND):
                await self._send(
                    self.engine.encrypt, data[start : start + MAX_PLAINTEXT_PER_SEND]
                )
                self.check_can_send()
        except BaseException:
            if start:
                # Part of the data was sent: a close_notify after it would make it
                # look complete.
                self.state.process_event_if_legal(Event.SENDING_BROKEN)
            raise

    def send_close_notify(self) -> Awaitable[None]:
        """Send our close_notify, after everything that is pending."""
        return self._send(self.engine.encrypt_close_notify)

    async def _send(
        self, encrypt: Callable[[*Arguments], None], *arguments: *Arguments
    ) -> None:
        while True:
            try:
                await self.flush(encrypt, *arguments)
            except ssl.SSLWantReadError:
                # OpenSSL must read more from the peer first (a TLS 1.2 renegotiation,
                # half a session ticket). Retry after each wait: another task may have
                # received it.
                if self.engine.output.pending:
                    await self.flush()
                elif not self.state.can_receive:
                    self.state.process_event_if_legal(Event.SENDING_BROKEN)
                    return
                elif self.unread_limit_exceeded and not self.state.closed:
                    await self.wait_buffer_drained()
                else:
                    await self.receive_once()
            else:
                return

    def send_close_notify_nowait(self) -> bool:
        """The same without waiting; return False if that is not possible."""
        try:
            return self.records.flush_nowait(self.engine.encrypt_close_notify)
        except ssl.SSLWantReadError:
            return False

    def flush(
        self,
        encrypt: Callable[[*Arguments], None] | None = None,
        *arguments: *Arguments,
    ) -> Awaitable[None]:
        """Send pending ciphertext, and what *encrypt* adds to it."""
        if self.engine.error is None:
            return self.records.flush(encrypt, *arguments)
        return self._flush_alert()

    async def _flush_alert(self) -> None:
        # Bounded: the peer may have stopped reading. What the kernel accepts at once
        # needs no time.
        if self.records.flush_nowait():
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        with self.deadline():
            await self.records.flush()

    def check_can_send(self) -> None:
        """Raise if this side cannot send."""
        if self.state.can_send:
            return
        match self.state.sending:
            case Sending.ENCRYPTED | Sending.CLOSED:
                raise trio.ClosedResourceError(
                    "close_notify was sent: nothing can follow it"
                )
            case _:
                self.check_open()
                self.state.settle()
                raise self.error(
                    BREAKS.get(self.state.sending)
                ) or trio.BrokenResourceError(
                    "an earlier send failed or was cancelled half-way: "
                    "nothing can follow it"
                )

    # Receiving:

    async def receive_once(self) -> None:
        """Receive once, if not interrupted. One task does it; others wait for its result.

        Cancellation:
          Nothing is lost.
        """
        if self._receiving.locked:
            await self._receiving.wait_released()
            return
        with self._receiving:
            try:
                ciphertext = await self.records.receive_some()
            except ReceiveInterruptedError:
                return
            self.check_open()
            self.engine.feed(ciphertext)
        if self.engine.output.pending:
            await self.flush_answers()

    async def flush_answers(self) -> None:
        """Send the TLS layer's answers to what was received, or its alert.

        A reader never blocks on this while it has data to return, or while more may
        come: a peer that writes everything before it reads would deadlock with us.
        What stays pending goes out with the next send of any task, or while the next
        receive waits for input.
        """
        records = self.records
        if records.flush_nowait() or self.engine.unread:
            return
        if self.engine.output.pending > MAX_ANSWERS or not (
            records.busy or (records.answers_while_waiting and self.state.can_receive)
        ):
            await self.flush()

    def receive_nowait(self) -> bool:
        """Receive what has arrived, without waiting.

        Returns:
          Whether that was all. False if the transport cannot tell, or there is too
          much that is not application data.
        """
        for _ in range(MAX_NOWAIT_READS):
            if self.engine.unread or not self.state.can_receive:
                return True
            if self._receiving.locked:
                return True  # the task that is receiving gets it
            if self.engine.output.pending > MAX_ANSWERS:
                self.records.flush_nowait()
                if self.engine.output.pending > MAX_ANSWERS:
                    return False
            try:
                ciphertext = self.records.receive_nowait()
            except NotImplementedError:
                return False
            if ciphertext is None:
                return True
            self.engine.feed(ciphertext)
        return False

    async def wait_peer_ended(self) -> None:
        """Take in what comes, within the limit of the policy, until the peer has ended."""
        while self.state.can_receive:
            self.check_open()
            if self.unread_limit_exceeded:
                await self.wait_buffer_drained()
            else:
                await self.receive_once()

    def peer_state_nowait(self) -> PeerState:
        """As `TLSStream.peer_state_nowait`."""
        all_told = self.receive_nowait()
        if self.engine.output.pending:
            self.records.flush_nowait()
        match self.state.receiving:
            case _ if self.engine.unread:
                return PeerState.DATA_WAITING
            case Receiving.CLOSED:
                return PeerState.CLOSED
            case Receiving.OPEN if not all_told:
                return PeerState.UNKNOWN
            case Receiving.OPEN if not self.state.sending.broken:
                return PeerState.IDLE
            case _:
                return PeerState.BROKEN

    def take(self, max_bytes: int) -> bytes:
        """Return up to *max_bytes* of received data; ``b""`` if there is none."""
        if self._buffer_drained is not None:
            self.wake_up()
        return self.engine.take(max_bytes)

    @property
    def unread_limit_exceeded(self) -> bool:
        """Whether more is unread than ``policy.max_unread``."""
        return self.engine.unread > self._policy.max_unread

    async def wait_buffer_drained(self) -> None:
        """Wait until a reader takes data or gives up, or this side closes."""
        if self._buffer_drained is None:
            self._buffer_drained = trio.Event()
        await self._buffer_drained.wait()

    def wake_up(self) -> None:
        """Wake the tasks in `wait_buffer_drained`."""
        if self._buffer_drained is not None:
            self._buffer_drained.set()
            self._buffer_drained = None

    # Ending:

    def deadline(self, began: float | None = None) -> trio.CancelScope:
        """A cancel scope that lasts ``policy.timeout``, from *began* or from now on."""
        if began is None:
            began = trio.current_time()
        # Half the cost of move_on_after().
        return trio.CancelScope(deadline=began + self._policy.timeout)

    def start_shutdown_clock(self) -> None:
        """Record the time of the first sign of an ending."""
        if self._ending_began is None:
            self._ending_began = trio.current_time()

    def mark_closed(self, *, keep_unread: bool = False) -> None:
        """Record that this side is about to close the transport.

        Args:
          keep_unread: Whether data that the peer sent before its own end can still
            be received. Default: False.
        """
        if self.state.closed:
            return
        if self._handshake is not None and not self._handshake.is_set():
            self.state.process_event_if_legal(Event.FAILED)
        if self.state.handshaken and not self.state.session_ended:
            self.engine.end_session()
        self.engine.output.read()  # too late for what is still pending
        self.keeps_unread = (
            keep_unread and self.engine.unread > 0 and not self.state.can_receive
        )
        self._handshake_error = None  # its traceback refers to this object
        self.state.process_event(Event.CLOSED)
        self.wake_up()

    def should_linger(self) -> bool:
        """Whether closing the transport now could destroy data that was sent.

        Ask before sending close_notify, which takes a moment to be acknowledged.
        """
        transport = self.records.transport
        return (
            over_kernel_socket(transport)
            and not all_acknowledged_and_read(transport)
            and over_tcp(transport)
        )

    async def linger(self) -> None:
        """Wait until the peer's kernel has everything. Call `mark_closed` first.

        After a fatal alert the peer may still be sending, so read up to its FIN.
        """
        transport = self.records.transport
        if self._policy.linger_timeout > 0 and over_tcp(transport):
            await linger(
                transport,
                self._policy.linger_timeout,
                until_fin=self.records.alert_sent,
            )

    async def abort(self) -> None:
        """Close the transport at once. A socket is closed without a checkpoint.

        Many peers take a FIN without close_notify for a proper end, so TCP is reset
        unless our close_notify or alert was sent.
        """
        self.mark_closed()
        transport = self.records.transport
        if not isinstance(transport, trio.SocketStream):
            await trio.aclose_forcefully(transport)
            return
        if (
            self._policy.reset_on_abort
            and self.state.handshaken
            and not self.last_word_sent
        ):
            reset_when_closed(transport)
        transport.socket.close()

    @property
    def last_word_sent(self) -> bool:
        """Whether our close_notify was sent, or the alert of a failed session."""
        return self.state.close_notify_sent or self.records.alert_sent

    def check_open(self) -> None:
        """Raise `trio.ClosedResourceError` if this side has closed."""
        if self.state.closed:
            raise trio.ClosedResourceError("this TLSStream was closed, or unwrapped")

    # Reporting:

    def report(self) -> ShutdownReport:
        """The report as of now."""
        elapsed = 0.0
        if self._ending_began is not None:
            elapsed = self._until() - self._ending_began
        return ShutdownReport(
            outcome=self.state.outcome,
            close_notify_sent=self.state.close_notify_sent,
            close_notify_received=self.state.close_notify_received,
            first=self.state.first,
            discarded=self.engine.unread,
            elapsed=elapsed,
            error=self.error(self.state.broken_by),
        )

    def _until(self) -> float:
        if self._ending_over is not None:
            return self._ending_over
        try:
            return trio.current_time()
        except RuntimeError:  # outside trio.run(), of a stream that was never closed
            return self._ending_began or 0.0

    def error(
        self, outcome: ShutdownOutcome | None
    ) -> TruncatedError | TransportBrokenError | TLSFailedError | None:
        """A new exception for what broke the connection, or one direction of it."""
        if outcome is None:
            return None
        error = error_of(
            outcome,
            handshaken=self.state.handshaken,
            mid_record=self.records.mid_record,
            transport_error=self.records.error,
            tls_error=self.engine.error,
            server_side=self.engine.server_side,
        )
        return None if error is None else at_address(error, self.address)

    def _on_transition(self, event: Event) -> None:
        if self._trace_callback is not None and event in TRACED:
            kind = TRACED[event]
            if kind is not TraceKind.RESET_RECEIVED or not self._reset_both_ways():
                self._trace(kind, 0)
        if event.begins_ending:
            self.start_shutdown_clock()
        elif self.state.closed:
            self._ending_over = trio.current_time()
            # A task may still be receiving from a transport that takes long to close.
            self.records.stop_tracing()

    def _reset_both_ways(self) -> bool:
        # One RST shows in each direction separately, at its next use.
        return (
            self.state.sending is Sending.RESET
            and self.state.receiving is Receiving.RESET
        )

    def _trace(self, kind: TraceKind, size: int) -> None:
        assert self._trace_callback is not None
        side: Final = "server" if self.engine.server_side else "client"
        self._trace_callback(TraceEvent(trio.current_time(), side, kind, size))
