"""The stream."""

from __future__ import annotations

import inspect
import operator
import ssl
import sys
from typing import TYPE_CHECKING, Final, Generic, TypeVar, cast, final

import trio

from ._check import check_type
from ._conflict import ConflictDetector
from ._connection import Connection
from ._errors import HalfCloseUnsupportedError, TruncatedError, UnreadDataError
from ._facts import SessionFacts
from ._peer import PeerState
from ._shutdown import ShutdownOutcome, ShutdownPolicy, ShutdownReport
from ._state import Event, Receiving, Sending
from ._turn import Turn

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ._trace import TraceEvent

T_Stream = TypeVar("T_Stream", bound=trio.abc.Stream)

READER_CHECK: Final = 0.1  # seconds


class _Exchange(Turn):
    """One run of `TLSStream.shutdown`, for other tasks that call it meanwhile."""

    __slots__ = ("report", "waits")

    def __init__(self, *, waits: bool) -> None:
        super().__init__()
        self.waits = waits
        self.report: ShutdownReport | None = None


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
      server_hostname: The server's name, for SNI and to check the certificate. A
        final dot or a zone are left out: they belong to the lookup. For a client.
        Required when the context checks host names.
      server_side: Whether this is the server's end. Default: False.
      https_compatible: Do not send close_notify when closing, and return
        ``b""`` when the peer's transport ends at a record boundary without one
        (the report still says TRUNCATED). For HTTP/1.1 and other protocols
        that know by themselves when a message is whole. Default: False.
      policy: What an ending may cost.
      trace: Called with a `TraceEvent` for each thing that happens. It must
        not raise.
      initial_bytes: Ciphertext that was read from the transport already, such as
        the ClientHello that told that a client speaks TLS. Not for what came in
        clear text behind a STARTTLS: that may be an attacker's, and has to be
        refused. Default: nothing.

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
        initial_bytes: bytes | bytearray | memoryview = b"",
    ) -> None:
        check_type("transport_stream", transport_stream, trio.abc.Stream)
        check_type("ssl_context", ssl_context, ssl.SSLContext)
        check_type("policy", policy, ShutdownPolicy)
        if server_hostname is not None:
            if server_side:
                raise ValueError("server_hostname is for clients: a server has none")
        elif not server_side and ssl_context.check_hostname:
            # OpenSSL would check nothing then, and say nothing.
            raise ValueError("the context checks host names: give server_hostname")
        check_type("initial_bytes", initial_bytes, bytes | bytearray | memoryview)
        if trace is not None and not callable(trace):
            raise TypeError(f"trace must be callable, not {trace!r}")

        self._transport_stream: T_Stream | None = transport_stream
        self._https_compatible = https_compatible
        self._connection = Connection(
            transport_stream,
            ssl_context,
            server_hostname=server_hostname,
            server_side=server_side,
            policy=policy,
            trace=trace,
            initial_bytes=bytes(initial_bytes),
        )
        self._state = self._connection.state
        self._engine = self._connection.engine

        self._send_guard = ConflictDetector("sending data on")
        self._wait_guard = ConflictDetector("waiting to send data on")
        self._receive_guard = ConflictDetector("receiving data on")
        self._reader: trio.lowlevel.Task | None = None
        self._exchange: _Exchange | None = None
        self._closing: Turn | None = None

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
        return self._connection.report()

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
        self._connection.check_open()
        if self._state.handshaken:
            await trio.lowlevel.checkpoint()
        else:
            await self._connection.ensure_handshake()

    # Sending:

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt *data* and send it.

        Cancellation:
          Before *data* was encrypted, as while another task sends an alert,
          nothing is broken, and nothing of it will be sent. Afterwards nothing
          can be sent any more, not even close_notify, so that the peer sees a
          cut, even if the transport had no room for the first byte; receiving
          goes on.

        Raises:
          trio.BusyResourceError: another task is sending.
          trio.ClosedResourceError: this side has closed, or half-closed.
          TransportBrokenError: the transport failed. What the peer sent before
            can still be received.
          TLSFailedError: the session failed.
        """
        octets = data if isinstance(data, bytes) else memoryview(data).cast("B")
        self._wait_guard.check()
        with self._send_guard:
            if not self._state.can_send:
                await self._connection.get_ready_to_send()
            await trio.lowlevel.checkpoint_if_cancelled()
            if octets:
                try:
                    await self._connection.send(octets)
                except ssl.SSLWantReadError:
                    await self._connection.send_when_heard(octets)
            else:
                await trio.lowlevel.cancel_shielded_checkpoint()
            if not self._state.can_send:
                self._connection.check_can_send()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the transport might take data.

        It may return early, as when another task ends the connection.

        Cancellation:
          Nothing is lost.

        Raises:
          trio.BusyResourceError: another task is sending, or waits to.
          trio.ClosedResourceError: this side has closed, or half-closed.
          TransportBrokenError: the transport failed.
          TLSFailedError: the session failed.
        """
        self._send_guard.check()
        with self._wait_guard:
            self._connection.check_open()
            self._check_can_send()
            await self._connection.wire.wait_send_all_might_not_block()
            self._check_can_send()

    def _check_can_send(self) -> None:
        if self._state.sending is not Sending.HANDSHAKING:
            self._connection.check_can_send()

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
        self._connection.check_open()
        if self._state.close_notify_sent:
            await trio.lowlevel.checkpoint()
            return
        self._wait_guard.check()
        with self._send_guard:
            await self._connection.ensure_handshake()
            version = self.version()
            if not allow_tls12 and version != "TLSv1.3":
                raise HalfCloseUnsupportedError(version)
            self._connection.begin_ending()
            await self._connection.send_close_notify()
        if not self._state.close_notify_sent:
            self._connection.check_can_send()

    async def _send_close_notify(self) -> None:
        with self._send_guard:
            await self._connection.ensure_handshake()
            await self._connection.send_close_notify()

    # Receiving:

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive some data.

        Args:
          max_bytes: At most so many, at least 1. Default: what is there.

        Returns:
          Data; ``b""`` after the peer's close_notify, and only then (but see
          *https_compatible*).

        Cancellation:
          Nothing is lost. (During the handshake: see `do_handshake`. While it
          sends an answer of the TLS layer, such as a KeyUpdate, sending breaks as
          of `send_all`.)

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
            self._connection.check_open()
            self._reader = trio.lowlevel.current_task()
            if not self._state.handshaken:
                try:
                    await self._connection.ensure_handshake()
                except TruncatedError:
                    if not self._https_compatible:
                        raise
                    await trio.lowlevel.checkpoint()
                    return b""
            if self._engine.unread or not self._state.can_receive:
                await trio.lowlevel.checkpoint_if_cancelled()
                await trio.lowlevel.cancel_shielded_checkpoint()
                self._connection.check_open()
            while not self._engine.unread:
                if not self._state.can_receive:
                    return self._end_of_input()
                await self._connection.fill()
            # From here on nothing awaits: what is taken is delivered.
            return self._connection.take(most)

    def peer_state_nowait(self) -> PeerState:
        """What the peer has done, without waiting: for pools of connections.

        What has come is taken in, so session tickets do not look like data. It is
        safe while another task is receiving: then it tells what is known.

        Raises:
          trio.ClosedResourceError: this side has closed.
          trio.NeedHandshakeError: there was no handshake yet.
        """
        self._connection.check_open()
        self._after_handshake("peer_state_nowait()")
        return self._connection.peer_state_nowait()

    def _end_of_input(self) -> bytes:
        match self._state.receiving:
            case Receiving.CLOSED:
                return b""
            case Receiving.TRUNCATED:
                if self._https_compatible and not self._connection.wire.mid_record:
                    return b""
                raise TruncatedError(mid_record=self._connection.wire.mid_record)
            case _:
                error = self._connection.error()
                assert error is not None
                raise error

    # Ending:

    async def shutdown(self, *, wait: bool = True) -> ShutdownReport:
        """Exchange close_notify with the peer; the transport stays open.

        Sends ours, then waits for the peer's, all within ``policy.timeout``.
        What the peer still sends can be received by any task meanwhile or
        afterwards. Up to ``policy.max_unread`` bytes are kept for that; then
        shutdown gives up, unless another task that has been receiving still
        runs: then it waits for that.

        Any number of tasks may call it together: they share the result. So
        ``wait=False`` beside a call that waits is as long as that one.

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
          Exception: whatever a transport raises that is not of Trio's kind.
        """
        self._connection.check_open()
        while (running := self._exchange) is not None:
            await running.wait_over()
            if running.report is not None and (running.waits or not wait):
                return running.report
            self._connection.check_open()
        if not self._state.close_notify_sent:
            self._send_guard.check()
            self._wait_guard.check()
        exchange = self._exchange = _Exchange(waits=wait)
        try:
            with exchange:
                exchange.report = await self._shutdown(wait=wait)
                return exchange.report
        finally:
            self._exchange = None

    async def _shutdown(self, *, wait: bool) -> ShutdownReport:
        self._state.note(Event.RESUMED)
        self._connection.begin_ending()
        try:
            if not await self._shut_down_at_once(wait=wait):
                with self._connection.deadline() as scope:
                    if not self._state.close_notify_sent:
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

    async def _shut_down_at_once(self, *, wait: bool) -> bool:
        await trio.lowlevel.checkpoint_if_cancelled()
        # A deadline costs a quarter of a shutdown whose peer answers at once, and
        # costs nothing while one has to wait.
        if not self._state.close_notify_sent and not (
            self._state.handshaken and self._connection.send_close_notify_nowait()
        ):
            return False
        await trio.lowlevel.checkpoint()
        if not wait or self._closing is not None:
            return True
        return self._connection.peer_state_nowait() is PeerState.CLOSED

    async def _wait_for_close_notify(self) -> None:
        # Also when our alert could not be sent: how the input ends tells whether
        # the peer cut the connection, or had said goodbye before it went.
        while (
            self._state.can_receive
            and self._state.sending is not Sending.LOST
            and self._closing is None
        ):
            if not self._connection.crowded:
                await self._connection.fill()
            elif self._has_reader():
                # It has the time that the policy allows.
                await self._wait_for_reader()
            else:
                self._give_up()
                return
        while (
            self._engine.unread and self._receive_guard.busy and self._closing is None
        ):
            await self._wait_for_reader()  # who is about to take it

    async def _wait_for_reader(self) -> None:
        # That it was cancelled, or has ended, is told by nobody: look again.
        with trio.move_on_after(READER_CHECK):
            await self._connection.wait_taken()

    def _give_up(self) -> None:
        if not self._state.outcome.final:
            self._state.note(Event.GIVEN_UP)

    def _has_reader(self) -> bool:
        # Another task that has been receiving, and still runs, may just be busy
        # with what it got.
        return (
            self._reader is not None
            and self._reader is not trio.lowlevel.current_task()
            and inspect.getcoroutinestate(self._reader.coro) != inspect.CORO_CLOSED
        )

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
        self._connection.check_open()
        self._check_nothing_unread()
        report = await self.shutdown()
        self._connection.check_open()
        if report.outcome is not ShutdownOutcome.COMPLETE:
            raise report.error or trio.BrokenResourceError(
                "the two close_notify alerts did not cross within the limits of the "
                f"policy: {report.outcome.value}"
            )
        self._check_nothing_unread()
        self._state.move(Event.UNWRAPPED)
        transport_stream, self._transport_stream = self.transport_stream, None
        return transport_stream, self._engine.trailing()

    async def aclose(self) -> None:
        """Send our close_notify, and close the transport.

        It does not wait for the peer's application. The handshake that this
        needs, if there was none, and the sending are bounded by
        ``policy.timeout``. There is no close_notify with *https_compatible*,
        nor while another task is sending. A task that is receiving gets
        `trio.ClosedResourceError`.

        A TCP socket is kept for up to ``policy.linger_timeout`` until the peer's
        kernel has acknowledged what was sent, unless it has already and nothing
        is unread: else an RST could destroy it. If the peer sends something
        meanwhile, until the peer ends. That the peer's *application* has all of
        it is proven by its answer only.

        Cancellation:
          The transport is closed at once: `trio.aclose_forcefully` is the way
          to abort.

        Raises:
          TLSFailedError: closing began with the handshake, and that failed. The
            same goes for TruncatedError and TransportBrokenError. The
            transport is closed all the same.
        """
        if self._transport_stream is None:
            await trio.lowlevel.checkpoint()  # it was handed back by unwrap()
            return
        if self._closing is not None:
            try:
                await self._closing.wait()
                await trio.lowlevel.checkpoint()
            except trio.Cancelled:
                self._connection.closing()
                await trio.aclose_forcefully(self._connection.wire.transport)
                raise
            return
        self._closing = Turn()
        with self._closing:
            await self._close()

    async def _close(self) -> None:
        self._connection.begin_ending()
        failure: trio.BrokenResourceError | None = None
        graceful = False
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            should_linger = self._connection.should_linger()
            graceful = (
                self._state.close_notify_sent
                or await self._say_goodbye()
                or self._https_compatible
            )
            self._connection.closing()
            if graceful and should_linger:
                await self._connection.linger()
        except trio.BrokenResourceError as exc:
            failure = exc  # of the handshake that this started
        except trio.ClosedResourceError:
            pass  # another task was faster
        except BaseException:
            self._connection.closing()
            await trio.aclose_forcefully(self._connection.wire.transport)
            raise
        self._connection.closing()
        if graceful:
            await self._connection.wire.transport.aclose()
        else:
            await trio.aclose_forcefully(self._connection.wire.transport)
        if failure is not None:
            raise failure

    async def _say_goodbye(self) -> bool:
        if not self._can_say_goodbye():
            return False
        if self._state.handshaken and self._connection.send_close_notify_nowait():
            return True
        with self._connection.deadline() as scope:
            await self._send_close_notify()
        return not scope.cancelled_caught

    def _can_say_goodbye(self) -> bool:
        if self._https_compatible:
            return False
        if self._send_guard.busy:
            # Its data would end in the middle.
            return False
        if not self._state.handshaken:
            # A handshake of another task will be aborted; a failed one is over.
            return not self._connection.handshake_has_begun
        return True

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

    def _check_nothing_unread(self) -> None:
        if self._engine.unread:
            raise UnreadDataError(self._engine.unread)
