"""Trio streams over engine and wire."""

from __future__ import annotations

import operator
import ssl
import sys
from typing import TYPE_CHECKING, Final, Generic, TypeVar, cast, final

import attrs
import trio

from ._conflict import ConflictDetector
from ._engine import Engine, EngineContext
from ._errors import (
    HalfCloseUnsupportedError,
    TLSFailedError,
    TransportBrokenError,
    TruncatedError,
    UnreadDataError,
)
from ._facts import SessionFacts
from ._shutdown import ShutdownOutcome, ShutdownPolicy, ShutdownReport
from ._state import ConnectionState, Event, Receiving, Sending
from ._trace import TraceEvent, TraceKind
from ._wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

T_Stream = TypeVar("T_Stream", bound=trio.abc.Stream)

# Bytes of plaintext that one trip to the transport encrypts, so that a big
# send_all needs little memory beside the data itself.
SLICE: Final = 2**18

TRACED: Final[Mapping[Event, TraceKind]] = {
    Event.HANDSHAKE_DONE: TraceKind.HANDSHAKE_DONE,
    Event.CLOSE_NOTIFY_SENT: TraceKind.CLOSE_NOTIFY_SENT,
    Event.CLOSE_NOTIFY_RECEIVED: TraceKind.CLOSE_NOTIFY_RECEIVED,
    Event.SENDING_RESET: TraceKind.RESET_RECEIVED,
    Event.RECEIVING_RESET: TraceKind.RESET_RECEIVED,
    Event.FAILED: TraceKind.TLS_FAILED,
    Event.GIVEN_UP: TraceKind.CANCELLED,
    Event.CLOSED: TraceKind.TRANSPORT_CLOSED,
}
# How an ending begins, if not by a call of ours.
BEGINNINGS: Final = frozenset(
    {
        Event.CLOSE_NOTIFY_RECEIVED,
        Event.TRUNCATED,
        Event.SENDING_RESET,
        Event.RECEIVING_RESET,
        Event.FAILED,
    }
)


@attrs.define(eq=False)
class _Exchange:
    """One run of `TLSStream.shutdown`, for other tasks that call it meanwhile."""

    waits: bool
    over: trio.Event = attrs.field(factory=trio.Event)
    report: ShutdownReport | None = None


@final
class TLSStream(SessionFacts, trio.abc.HalfCloseableStream, Generic[T_Stream]):
    """TLS over any Trio stream, that can half-close and tells how it ended.

    It takes the place of `trio.SSLStream`: what that has is here and behaves
    the same. It adds `send_eof`, `shutdown` and `report`, and never takes a cut
    connection for a whole one.

    Leaving an ``async with`` block normally is `aclose`; leaving it by an
    exception or a cancellation closes at once, without close_notify, so that
    half an answer never ends as if it were whole.

    Args:
      transport_stream: The stream that carries the ciphertext.
      ssl_context: The context, as for `trio.SSLStream`. It is never changed.
      server_hostname: The server's name, for SNI and to check the certificate.
        Required when the context checks host names.
      server_side: Whether this is the server's end. Default: False.
      https_compatible: Do not send close_notify when closing, and return
        ``b""`` when the peer's transport ends at a record boundary without one
        (the report still says TRUNCATED). For HTTP/1.1 and other protocols
        that know by themselves when a message is whole. Default: False.
      policy: What an ending may cost.
      trace: Called with a `TraceEvent` for each thing that happens. It must
        not raise.

    Raises:
      TypeError: an argument has the wrong type.
      ValueError: the context checks host names, and there is none.
    """

    def __init__(
        self,
        transport_stream: T_Stream,
        ssl_context: ssl.SSLContext,
        *,
        server_hostname: str | bytes | None = None,
        server_side: bool = False,
        https_compatible: bool = False,
        policy: ShutdownPolicy = ShutdownPolicy(),
        trace: Callable[[TraceEvent], object] | None = None,
    ) -> None:
        _check_type("transport_stream", transport_stream, trio.abc.Stream)
        _check_type("ssl_context", ssl_context, ssl.SSLContext)
        _check_type("policy", policy, ShutdownPolicy)
        if server_hostname is not None:
            _check_type("server_hostname", server_hostname, str | bytes)
        elif not server_side and ssl_context.check_hostname:
            # OpenSSL would check nothing then, and say nothing.
            raise ValueError("the context checks host names: give server_hostname")
        if trace is not None and not callable(trace):
            raise TypeError(f"trace must be callable, not {trace!r}")

        self._transport_stream: T_Stream | None = transport_stream
        self._https_compatible = https_compatible
        self._policy = policy
        self._trace_callback = trace
        self._ending_began: float | None = None
        self._ending_over: float | None = None

        self._state = ConnectionState(self._moved)
        self._wire = Wire(transport_stream, self._state, self._trace)
        adapter = EngineContext(ssl_context, self._state)
        self._ssl_stream = trio.SSLStream(
            self._wire,
            cast("ssl.SSLContext", adapter),
            server_hostname=server_hostname,
            server_side=server_side,
        )
        self._engine: Engine = adapter.engine

        self._send_guard = ConflictDetector("sending data on")
        self._receive_guard = ConflictDetector("receiving data on")
        self._handshake: trio.Event | None = None
        self._handshake_error: Exception | None = None
        self._filling: trio.Event | None = None
        self._taken: trio.Event | None = None
        self._receive_calls = 0
        self._exchange: _Exchange | None = None
        self._closing: trio.Event | None = None

    @property
    def transport_stream(self) -> T_Stream:
        """The caller's transport; None after `unwrap`."""
        # As in trio.SSLStream: whoever unwraps knows about the None.
        return cast("T_Stream", self._transport_stream)

    @property
    def https_compatible(self) -> bool:
        """What was given at construction."""
        return self._https_compatible

    @property
    def report(self) -> ShutdownReport:
        """How the connection ended, or stands now. Never None."""
        elapsed = 0.0
        if self._ending_began is not None:
            over = self._ending_over
            elapsed = (trio.current_time() if over is None else over) - (
                self._ending_began
            )
        return ShutdownReport(
            outcome=self._state.outcome,
            close_notify_sent=self._state.close_notify_sent,
            close_notify_received=self._state.close_notify_received,
            first=self._state.first,
            discarded=self._engine.unread,
            elapsed=elapsed,
            error=self._error(),
        )

    # Opening:

    async def do_handshake(self) -> None:
        """Make sure that the handshake has been done.

        The other methods do so by themselves.

        Cancellation:
          The stream is broken: later calls raise `trio.BrokenResourceError`,
          also in tasks that wait for this handshake.

        Raises:
          TLSFailedError: refused, by either side. Our alert has been sent.
          TruncatedError: the peer's transport ended first.
          TransportBrokenError: the transport failed.
        """
        self._check_open()
        await self._ensure_handshake()
        await trio.lowlevel.checkpoint()

    async def _ensure_handshake(self) -> None:
        if self._state.handshaken:
            return
        if self._handshake is not None:
            await self._handshake.wait()
        else:
            self._handshake = trio.Event()
            try:
                await self._ssl_stream.do_handshake()
                if self._engine.error is not None:
                    await self._flush()
            except BaseException as exc:
                if isinstance(exc, Exception):
                    self._handshake_error = exc
                if self._state.can(Event.SENDING_LOST):
                    self._state.move(Event.SENDING_LOST)
                raise
            finally:
                # SSLStream would leave the tasks that wait hanging.
                self._handshake.set()
        if not self._state.handshaken:
            self._check_open()
            error = self._error()
            if error is None:
                error = trio.BrokenResourceError("the handshake was cut short")
                error.__cause__ = self._handshake_error
            raise error

    # Sending:

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt *data* and send it.

        Cancellation:
          If nothing of *data* has left, nothing is broken. Otherwise nothing
          can be sent any more, not even close_notify, so that the peer sees a
          cut; receiving goes on.

        Raises:
          trio.BusyResourceError: another task is sending.
          trio.ClosedResourceError: this side has closed, or half-closed.
          TransportBrokenError: the transport failed. What the peer sent before
            can still be received.
          TLSFailedError: the session failed.
        """
        with memoryview(data) as view, view.cast("B") as octets:
            with self._send_guard:
                self._check_open()
                await self._ensure_handshake()
                self._check_can_send()
                if not octets:
                    await trio.lowlevel.checkpoint()
                    return
                await trio.lowlevel.checkpoint_if_cancelled()
                try:
                    for start in range(0, len(octets), SLICE):
                        await self._send_slice(octets[start : start + SLICE])
                        self._check_can_send()
                except BaseException:
                    if len(octets) > SLICE and self._state.can(Event.SENDING_LOST):
                        # A part of the data may have left: a close_notify behind
                        # it would make it look like the whole.
                        self._state.move(Event.SENDING_LOST)
                    raise

    async def _send_slice(self, data: memoryview) -> None:
        while True:
            try:
                self._engine.encrypt(data)
            except ssl.SSLWantReadError:
                # TLS 1.2: the peer renegotiates, and has to be heard first.
                await self._flush()
                if self._state.receiving is not Receiving.OPEN:
                    self._state.move(Event.SENDING_LOST)
                    return
                await self._fill()
            else:
                await self._flush()
                return

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the transport might take data.

        Cancellation:
          Nothing is lost.

        Raises:
          trio.BusyResourceError: another task is sending.
          trio.ClosedResourceError: this side has closed, or half-closed.
        """
        with self._send_guard:
            self._check_open()
            if self._state.sending is not Sending.HANDSHAKING:
                self._check_can_send()
            await self._wire.wait_send_all_might_not_block()

    async def send_eof(self, *, allow_tls12: bool = False) -> None:
        """Half-close: send our close_notify, and nothing else.

        Receiving goes on, in any task, undisturbed and without loss; the peer
        can say what it still has to say. Calling it again does nothing.
        See `RFC 9846 section 6.1
        <https://www.rfc-editor.org/rfc/rfc9846#section-6.1>`__.

        Args:
          allow_tls12: Also on TLS 1.2 and older, where a conforming peer
            discards its answer. Default: False.

        Cancellation:
          As of `send_all`. `report` tells whether the alert has left; if it
          did not, and nothing broke, another call sends it.

        Raises:
          HalfCloseUnsupportedError: TLS 1.2 or older, and not *allow_tls12*.
          trio.BusyResourceError: another task is sending.
          trio.ClosedResourceError: this side has closed.
          TransportBrokenError: the transport failed.
          TLSFailedError: the session failed.
        """
        self._check_open()
        if self._state.close_notify_sent:
            await trio.lowlevel.checkpoint()
            return
        with self._send_guard:
            await self._ensure_handshake()
            version = self.version()
            if not allow_tls12 and version != "TLSv1.3":
                raise HalfCloseUnsupportedError(version)
            self._begin_ending()
            self._engine.encrypt_close_notify()
            await self._flush()
        if not self._state.close_notify_sent:
            self._check_can_send()

    async def _send_close_notify(self) -> None:
        with self._send_guard:
            await trio.lowlevel.checkpoint_if_cancelled()
            if not self._state.handshaken:
                await self._ensure_handshake()
            self._engine.encrypt_close_notify()
            await self._flush()

    async def _flush(self) -> None:
        if self._engine.error is None:
            await self._wire.flush(self._engine.output)
        else:
            # The alert. A peer that takes nothing in must not keep us from
            # saying what went wrong.
            with self._deadline():
                await self._wire.flush(self._engine.output)

    # Receiving:

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive some data.

        Args:
          max_bytes: At most so many, at least 1. Default: what is there.

        Returns:
          Data; ``b""`` after the peer's close_notify, and only then (but see
          *https_compatible*).

        Cancellation:
          Nothing is lost. (During the handshake: see `do_handshake`.)

        Raises:
          TruncatedError: the transport ended without close_notify. Sending
            may still work.
          TransportBrokenError: the transport failed.
          TLSFailedError: a bad record, or the peer's fatal alert.
          trio.BusyResourceError: another task is receiving.
          trio.ClosedResourceError: this side has closed.
        """
        most = sys.maxsize if max_bytes is None else operator.index(max_bytes)
        if most < 1:
            raise ValueError("max_bytes must be >= 1")
        with self._receive_guard:
            self._check_open()
            self._receive_calls += 1
            if not self._state.handshaken:
                try:
                    await self._ensure_handshake()
                except TruncatedError:
                    if not self._https_compatible:
                        raise
                    await trio.lowlevel.checkpoint()
                    return b""
            if self._engine.unread or self._state.receiving is not Receiving.OPEN:
                await trio.lowlevel.checkpoint_if_cancelled()
                await trio.lowlevel.cancel_shielded_checkpoint()
                self._check_open()
            while not self._engine.unread:
                if self._state.receiving is not Receiving.OPEN:
                    return self._end_of_input()
                await self._fill()
            if self._taken is not None:
                self._taken.set()
            # From here on nothing awaits: what is taken is delivered.
            return self._engine.take(most)

    async def _fill(self) -> None:
        """Have one task receive; the others wait for what it brings."""
        if self._filling is not None:
            await self._filling.wait()
            return
        self._filling = trio.Event()
        try:
            ciphertext = await self._wire.receive_some()
            self._check_open()
            self._engine.feed(ciphertext)
        finally:
            self._filling.set()
            self._filling = None
        if self._engine.output.pending:  # an answer of the TLS layer, or an alert
            await self._flush()

    def _end_of_input(self) -> bytes:
        match self._state.receiving:
            case Receiving.CLOSED:
                return b""
            case Receiving.TRUNCATED:
                if self._https_compatible and not self._wire.mid_record:
                    return b""
                raise TruncatedError(mid_record=self._wire.mid_record)
            case _:
                error = self._error()
                assert error is not None
                raise error

    # Ending:

    async def shutdown(self, *, wait: bool = True) -> ShutdownReport:
        """Exchange close_notify with the peer; the transport stays open.

        Sends ours, then waits for the peer's, all within ``policy.timeout``.
        What the peer still sends can be received by any task meanwhile or
        afterwards; while nobody does, up to ``policy.max_unread`` bytes are
        kept. Any number of tasks may call it together: they share the result.

        Args:
          wait: Wait for the peer's close_notify. Default: True.

        Returns:
          What happened. Endings are outcomes here, not exceptions. After SENT
          or ABORTED another call goes on where this one stopped.

        Cancellation:
          `report` says ABORTED, and whether our alert had left. Nothing that
          was received is lost.

        Raises:
          trio.BusyResourceError: another task is sending.
          trio.ClosedResourceError: this side has closed.
        """
        self._check_open()
        while (running := self._exchange) is not None:
            await running.over.wait()
            if running.report is not None and (running.waits or not wait):
                return running.report
            self._check_open()
        if not self._state.close_notify_sent:
            self._send_guard.check()
        exchange = self._exchange = _Exchange(wait)
        try:
            exchange.report = await self._shutdown(wait=wait)
            return exchange.report
        finally:
            self._exchange = None
            exchange.over.set()

    async def _shutdown(self, *, wait: bool) -> ShutdownReport:
        if self._state.can(Event.RESUMED):
            self._state.move(Event.RESUMED)
        self._begin_ending()
        try:
            with self._deadline() as scope:
                await self._send_close_notify()
                if wait:
                    await self._wait_for_close_notify()
            if scope.cancelled_caught:
                self._give_up()
        except trio.Cancelled:
            self._give_up()
            raise
        except trio.BrokenResourceError:
            pass  # the report has it
        except trio.ClosedResourceError:
            if not self._state.closed:
                raise  # not by us: somebody closed the transport under us
        return self.report

    async def _wait_for_close_notify(self) -> None:
        calls_before = self._receive_calls
        # Also when our alert could not be sent: how the input ends tells whether
        # the peer cut the connection, or had said goodbye before it went.
        while (
            self._state.receiving is Receiving.OPEN
            and self._state.sending is not Sending.LOST
        ):
            if self._engine.unread <= self._policy.max_unread:
                await self._fill()
            elif self._receive_guard.busy or self._receive_calls != calls_before:
                # There is a reader: it has the time that the policy allows.
                self._taken = trio.Event()
                await self._taken.wait()
            else:
                self._give_up()
                return

    async def unwrap(self) -> tuple[T_Stream, bytes]:
        """Shut TLS down and hand the bare transport back.

        Returns:
          The transport, and what came in clear text behind the peer's
          close_notify: treat it as if it was received from the transport.

        Cancellation:
          As of `shutdown`; the transport stays with this stream.

        Raises:
          UnreadDataError: application data is waiting. It is not lost: receive
            until ``b""``, then unwrap.
          TruncatedError: the transport ended instead.
          trio.BrokenResourceError: the exchange did not complete otherwise;
            `report` tells how.
          trio.BusyResourceError: another task is sending.
          trio.ClosedResourceError: this side has closed.
        """
        self._check_open()
        self._check_nothing_unread()
        report = await self.shutdown()
        self._check_open()
        if report.outcome is not ShutdownOutcome.COMPLETE:
            raise report.error or trio.BrokenResourceError(
                "the peer did not answer our close_notify in time, or still sends: "
                f"{report}"
            )
        self._check_nothing_unread()
        self._state.move(Event.CLOSED)
        self._closing = trio.Event()
        self._closing.set()
        transport_stream, self._transport_stream = self.transport_stream, None
        return transport_stream, self._engine.trailing()

    async def aclose(self) -> None:
        """Send our close_notify, and close the transport.

        It does not wait for the peer's application. The handshake that this
        needs, if there was none, and the sending are bounded by
        ``policy.timeout``. There is no close_notify with *https_compatible*,
        nor while another task is sending. A task that is receiving gets
        `trio.ClosedResourceError`.

        Cancellation:
          The transport is closed at once: `trio.aclose_forcefully` is the way
          to abort.

        Raises:
          TLSFailedError: closing began with the handshake, and that failed. The
            same goes for TruncatedError and TransportBrokenError. The
            transport is closed all the same.
        """
        if self._closing is not None:
            try:
                await self._closing.wait()
            except trio.Cancelled:
                await self._close_transport(forcefully=True)
                raise
            return
        self._closing = trio.Event()
        try:
            await self._close()
        finally:
            self._closing.set()

    async def _close(self) -> None:
        self._begin_ending()
        failure: trio.BrokenResourceError | None = None
        said_goodbye = False
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            if self._can_say_goodbye():
                said_goodbye = self._send_close_notify_nowait()
                if not said_goodbye:
                    with self._deadline():
                        await self._send_close_notify()
                        said_goodbye = True
        except trio.BrokenResourceError as exc:
            failure = exc  # of the handshake that this started
        except trio.ClosedResourceError:
            pass  # another task was faster
        except BaseException:
            await self._close_transport(forcefully=True)
            raise
        graceful = said_goodbye or self._https_compatible
        await self._close_transport(forcefully=not graceful)
        if failure is not None:
            raise failure

    def _can_say_goodbye(self) -> bool:
        if self._https_compatible:
            return False
        if self._send_guard.busy:
            # Its data would end in the middle.
            return False
        if not self._state.handshaken:
            # A handshake of another task will be aborted; a failed one is over.
            return self._handshake is None
        return True

    def _send_close_notify_nowait(self) -> bool:
        if not self._state.handshaken:
            return False
        self._engine.encrypt_close_notify()
        return self._wire.flush_nowait(self._engine.output)

    async def _close_transport(self, *, forcefully: bool) -> None:
        if not self._state.closed:
            handshaking = self._handshake is not None and not self._handshake.is_set()
            if handshaking and self._state.can(Event.FAILED):
                self._state.move(Event.FAILED)
            self._state.move(Event.CLOSED)
        if forcefully:
            await trio.aclose_forcefully(self._wire)
        else:
            await self._wire.aclose()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close: gracefully if the block ended normally, else at once."""
        if exc_type is None:
            await self.aclose()
        else:
            await trio.aclose_forcefully(self)

    # Parts:

    def _check_open(self) -> None:
        if self._state.closed:
            raise trio.ClosedResourceError("this TLSStream was closed")

    def _check_can_send(self) -> None:
        match self._state.sending:
            case Sending.OPEN:
                return
            case Sending.ENCRYPTED | Sending.CLOSED:
                raise trio.ClosedResourceError(
                    "close_notify was sent: nothing can follow it"
                )
            case _:
                self._check_open()
                raise self._error() or trio.BrokenResourceError(
                    "an earlier send was cancelled half-way: nothing can follow it"
                )

    def _check_nothing_unread(self) -> None:
        if self._engine.unread:
            raise UnreadDataError(self._engine.unread)

    def _error(self) -> trio.BrokenResourceError | None:
        """What broke the connection, made anew for each who is told."""
        match self._state.outcome:
            case ShutdownOutcome.TRUNCATED:
                return TruncatedError(mid_record=self._wire.mid_record)
            case ShutdownOutcome.RESET:
                assert self._wire.error is not None
                return TransportBrokenError(self._wire.error)
            case ShutdownOutcome.FAILED:
                return TLSFailedError(
                    self._engine.error, during_handshake=not self._state.handshaken
                )
            case _:
                return None

    def _give_up(self) -> None:
        if not self._state.outcome.final and self._state.can(Event.GIVEN_UP):
            self._state.move(Event.GIVEN_UP)

    def _deadline(self) -> trio.CancelScope:
        # What move_on_after() makes, without its cost: each close needs one.
        return trio.CancelScope(deadline=trio.current_time() + self._policy.timeout)

    def _begin_ending(self) -> None:
        if self._ending_began is None:
            self._ending_began = trio.current_time()

    def _moved(self, event: Event) -> None:
        if self._trace_callback is not None and event in TRACED:
            self._trace(TRACED[event], 0)
        if event in BEGINNINGS:
            self._begin_ending()
        elif event is Event.CLOSED:
            self._ending_over = trio.current_time()

    def _trace(self, kind: TraceKind, size: int) -> None:
        if self._trace_callback is not None:
            side: Final = "server" if self.server_side else "client"
            self._trace_callback(TraceEvent(trio.current_time(), side, kind, size))


@final
class TLSListener(trio.abc.Listener[TLSStream[T_Stream]]):
    """Wraps what another listener accepts in server-side `TLSStream`.

    Takes the place of `trio.SSLListener`. The handshake is not done in
    `accept`, but by the stream's first use.

    Args:
      transport_listener: Where connections come from.
      ssl_context: The server's context.
      https_compatible: As for `TLSStream`. Default: False.
      policy: As for `TLSStream`.
    """

    def __init__(
        self,
        transport_listener: trio.abc.Listener[T_Stream],
        ssl_context: ssl.SSLContext,
        *,
        https_compatible: bool = False,
        policy: ShutdownPolicy = ShutdownPolicy(),
    ) -> None:
        _check_type("transport_listener", transport_listener, trio.abc.Listener)
        _check_type("ssl_context", ssl_context, ssl.SSLContext)
        _check_type("policy", policy, ShutdownPolicy)
        self.transport_listener = transport_listener
        self._ssl_context = ssl_context
        self._https_compatible = https_compatible
        self._policy = policy

    async def accept(self) -> TLSStream[T_Stream]:
        """Accept a connection.

        Cancellation:
          Nothing is lost.
        """
        return TLSStream(
            await self.transport_listener.accept(),
            self._ssl_context,
            server_side=True,
            https_compatible=self._https_compatible,
            policy=self._policy,
        )

    async def aclose(self) -> None:
        """Close the transport listener; accepted streams stay open."""
        await self.transport_listener.aclose()


def _check_type(name: str, value: object, expected: type | object) -> None:
    if not isinstance(value, expected):  # type: ignore[arg-type]
        wanted = getattr(expected, "__name__", str(expected))
        raise TypeError(f"{name} must be a {wanted}, not {value!r}")
