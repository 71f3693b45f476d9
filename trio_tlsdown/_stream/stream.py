"""TLSStream: trio.SSLStream's interface, plus half-close, shutdown and a report."""

from __future__ import annotations

import operator
import ssl
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Generic, TypeVar, cast, final

import trio

from trio_tlsdown._core.report import ShutdownOutcome, ShutdownPolicy, ShutdownReport
from trio_tlsdown._core.state import Event, Receiving, Sending
from trio_tlsdown._errors import (
    HalfCloseUnsupportedError,
    TruncatedError,
    UnreadDataError,
    at_address,
)
from trio_tlsdown._util import as_octets, check_type

from .closing import Closer
from .connection import Connection
from .session_info import SessionInfo
from .sync import ConflictDetector, SendConflictDetector

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from trio_tlsdown._core.report import PeerState, TraceEvent

T_Stream = TypeVar("T_Stream", bound=trio.abc.Stream)

# Ctrl-C may come between any two steps, such as when ciphertext has left its buffer and
# not yet reached the kernel. In here it waits for the next wait, and looks like a
# cancellation.
_without_interrupts: Final = trio.lowlevel.enable_ki_protection


@final
class TLSStream(SessionInfo, trio.abc.HalfCloseableStream, Generic[T_Stream]):
    """TLS over any Trio stream, that can half-close and tells how it ended.

    It takes the place of `trio.SSLStream`, and is one to `isinstance`: what that has
    is here and behaves the same. It adds `send_eof`, `shutdown` and `report`, and
    never takes a cut connection for a whole one.

    Leaving an ``async with`` block normally is `aclose`; leaving it by an
    exception or a cancellation aborts, as `trio.aclose_forcefully` does: it closes
    at once, without close_notify, and TCP is reset (unless the policy says
    otherwise), so that half an answer never ends as if it were whole.

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

        self._send_guard = SendConflictDetector()
        self._wait_guard = ConflictDetector("waiting to send data on")
        self._receive_guard = ConflictDetector("receiving data on")
        self._closer = Closer(
            self._connection,
            sends=self._send_guard,
            waits=self._wait_guard,
            receives=self._receive_guard,
            https_compatible=https_compatible,
        )

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

    @_without_interrupts
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

    @_without_interrupts
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
          trio.ClosedResourceError: this side has closed, or half-closed, or is
            about to, in another task.
          TransportBrokenError: the transport failed. What the peer sent before
            can still be received.
          TLSFailedError: the session failed.
        """
        octets = data if isinstance(data, bytes) else as_octets("data", data)
        self._wait_guard.check()
        with self._send_guard:
            if not self._state.can_send:
                await self._connection.ensure_can_send()
            await trio.lowlevel.checkpoint_if_cancelled()
            if octets:
                await self._connection.send(octets)
            else:
                await trio.lowlevel.cancel_shielded_checkpoint()
            if not self._state.can_send:
                self._connection.check_can_send()

    @_without_interrupts
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
            await self._connection.records.wait_send_all_might_not_block()
            self._check_can_send()

    def _check_can_send(self) -> None:
        if self._state.sending is not Sending.HANDSHAKING:
            self._connection.check_can_send()

    @_without_interrupts
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
        with self._send_guard.ending():
            await self._connection.ensure_handshake()
            version = self.version()
            if not allow_tls12 and version != "TLSv1.3":
                raise at_address(
                    HalfCloseUnsupportedError(version), self._connection.address
                )
            self._connection.start_shutdown_clock()
            await self._connection.send_close_notify()
        if not self._state.close_notify_sent:
            self._connection.check_can_send()

    # Receiving:

    @_without_interrupts
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
          trio.ClosedResourceError: this side has closed. (What came before the
            peer's end can be received nevertheless; see `aclose`.)
        """
        most = sys.maxsize if max_bytes is None else operator.index(max_bytes)
        if most < 1:
            raise ValueError("max_bytes must be >= 1")
        with self._receive_guard:
            self._check_readable()
            self._closer.reader_seen = True
            try:
                if not self._state.handshaken:
                    try:
                        await self._connection.ensure_handshake()
                    except TruncatedError as exc:
                        if exc.mid_record or not self._https_compatible:
                            raise
                        await trio.lowlevel.checkpoint()
                        return b""
                if self._engine.output.pending:
                    await self._connection.flush_answers()
                if self._engine.unread or not self._state.can_receive:
                    await trio.lowlevel.checkpoint_if_cancelled()
                    await trio.lowlevel.cancel_shielded_checkpoint()
                    self._check_readable()
                while not self._engine.unread:
                    if not self._state.can_receive:
                        return self._end_of_input()
                    self._connection.check_open()
                    await self._connection.receive_once()
                # From here on nothing awaits: what is taken is delivered.
                return self._connection.take(most)
            except BaseException:
                # A shutdown may be waiting for us to make room.
                self._closer.reader_seen = False
                self._connection.wake_up()
                raise

    def _check_readable(self) -> None:
        if self._state.closed and not self._connection.keeps_unread:
            self._connection.check_open()

    @_without_interrupts
    def peer_state_nowait(self) -> PeerState:
        """What the peer has done, without waiting: for pools of connections.

        What has come is taken in, so session tickets do not look like data. It is
        safe while another task is receiving: then it tells what is known.

        It needs a `trio.SocketStream`, or a transport with a method
        ``receive_some_nowait(max_bytes)``. That is ``receive_some`` without waiting:
        it raises `trio.WouldBlock` if nothing has come, and NotImplementedError if it
        cannot tell. Over other transports, the state of a peer of which nothing is
        known to be unread is `PeerState.UNKNOWN`.

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
                if self._https_compatible and not self._connection.records.mid_record:
                    return b""
                raise at_address(
                    TruncatedError(mid_record=self._connection.records.mid_record),
                    self._connection.address,
                )
            case _:
                # No variable for it: its traceback will refer to this frame.
                raise self._connection.error() or trio.BrokenResourceError

    # Ending:

    @_without_interrupts
    async def shutdown(self, *, wait: bool = True) -> ShutdownReport:
        """Exchange close_notify with the peer; the transport stays open.

        Sends ours, then waits for the peer's, all within ``policy.timeout``.
        What the peer still sends can be received by any task meanwhile or
        afterwards. Up to ``policy.max_unread`` bytes are kept for that; then
        shutdown gives up, unless a task was receiving when it began, or has
        received since: for that it waits.

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
        return await self._closer.shutdown(wait=wait)

    @_without_interrupts
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
        self._state.process_event(Event.UNWRAPPED)
        transport_stream, self._transport_stream = self.transport_stream, None
        trailing = self._engine.trailing() + self._connection.records.trailing()
        return transport_stream, trailing

    @_without_interrupts
    async def aclose(self) -> None:
        """Send our close_notify, and close the transport.

        It does not wait for the peer's application. The handshake that this
        needs, if there was none, and the sending are bounded by
        ``policy.timeout``. There is no close_notify with *https_compatible*.
        While another task is sending this is an abort, and that task gets
        `trio.ClosedResourceError`. So does a task that is receiving, unless the
        peer's direction has ended already. What came before that end can still be
        received.

        A TCP socket is kept for up to ``policy.linger_timeout`` until the peer's
        kernel has acknowledged what was sent, unless it has already and nothing
        is unread: else an RST could destroy it. If the peer sends something
        meanwhile, or TLS has failed and our alert has left, until the peer ends;
        up to 8 MiB are thrown away. That the peer's *application* has all of it is
        proven by its answer only.

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
        await self._closer.aclose()

    @_without_interrupts
    async def __anext__(self) -> bytes:
        """Receive: ``async for`` ends with the peer's close_notify, and only with it.

        Raises:
          Exception: as `receive_some`.
        """
        if data := await self.receive_some():
            return data
        raise StopAsyncIteration

    @_without_interrupts
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close: gracefully if the block ended normally, else at once."""
        # Once TLS has failed there is no close_notify that could make a part look
        # whole, but an alert that the peer has to hear.
        if exc_type is None or self._state.failed:
            await self.aclose()
        else:
            await trio.aclose_forcefully(self)

    # Parts:

    def _check_nothing_unread(self) -> None:
        if self._engine.unread:
            raise at_address(
                UnreadDataError(self._engine.unread), self._connection.address
            )

    def __repr__(self) -> str:
        side = "server" if self.server_side else "client"
        version = self._engine.version() or "no handshake,"
        state = self._state.outcome.value
        if self._transport_stream is None:
            state = "unwrapped"
        elif self._state.closed:
            state = f"closed: {state}"
        return f"<TLSStream {side} {self._whereabouts()} {version} {state}>"

    def _whereabouts(self) -> str:
        transport = self._connection.records.transport
        address: object = self._connection.address
        if address is None and isinstance(transport, trio.SocketStream):
            with suppress(Exception):  # it has gone, or is no socket of the kernel's
                address = transport.socket.getpeername()
        return f"of {address!r}" if address else f"over {type(transport).__name__}"


def connected_to(stream: TLSStream[T_Stream], host: str | bytes, port: int) -> None:
    """Have *stream* say in its errors with whom it was connected."""
    # Of this module: no user needs it.
    connection = stream._connection  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    connection.address = host, port


def is_over(stream: TLSStream[trio.SocketStream]) -> bool:
    """Whether *stream* has no open transport any more: closed, by whomever, or unwrapped.

    Not while it still lingers.
    """
    handed_back = stream._transport_stream is None  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return handed_back or stream._connection.records.closed  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


# It has the whole interface, and programs ask by isinstance().
trio.SSLStream.register(TLSStream)
