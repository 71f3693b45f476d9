"""TLSStream: trio.SSLStream's interface, plus half-close, shutdown and a report."""

from __future__ import annotations

import operator
import ssl
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Generic, TypeVar, cast, final

import trio

from trio_tlsdown._core.report import ShutdownOutcome, ShutdownPolicy, ShutdownReport
from trio_tlsdown._core.state import BREAKS, Event, Receiving, Sending
from trio_tlsdown._errors import (
    HalfCloseUnsupportedError,
    TruncatedError,
    UnreadDataError,
    at_address,
)
from trio_tlsdown._util import as_bytes, check_context, check_type

from .closing import Closer
from .connection import Connection
from .session_info import SessionInfo
from .sync import ConflictDetector, SendConflictDetector
from .transport import ReceiveInterruptedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from trio_tlsdown._core.report import PeerState, TraceEvent

T_Stream = TypeVar("T_Stream", bound=trio.abc.Stream)

# Ctrl-C could strike between any two steps, such as when ciphertext has left its buffer
# but not reached the kernel. Protected, it is delivered at the next checkpoint, like a
# cancellation.
_without_interrupts: Final = trio.lowlevel.enable_ki_protection


@final
class TLSStream(SessionInfo, trio.abc.HalfCloseableStream, Generic[T_Stream]):
    """A TLS stream over any Trio stream that can half-close and reports how it ended.

    A replacement for `trio.SSLStream`, and an instance of it to `isinstance`: it has
    the same interface and behaviour. It adds `send_eof`, `shutdown` and `report`, and
    never takes a cut connection for a complete one.

    Leaving an ``async with`` block normally calls `aclose`. Leaving it by an exception
    or a cancellation aborts, like `trio.aclose_forcefully`: it closes at once without
    close_notify and resets TCP (unless the policy says otherwise), so that the peer
    cannot take half an answer for a complete one.

    Args:
      transport_stream: The stream that carries the ciphertext.
      ssl_context: The context, as for `trio.SSLStream`. It is never changed.
      server_hostname: For clients: the server's name, for SNI and certificate
        verification. A trailing dot or a zone is ignored. Required if the context
        checks host names.
      server_side: Whether this is the server's end. Default: False.
      https_compatible: Do not send close_notify when closing, and return ``b""`` if
        the peer's transport ends at a record boundary without one (the report still
        says TRUNCATED). For HTTP/1.1 and other protocols whose messages have their
        own framing. Default: False.
      policy: Limits on ending the connection.
      trace: Called with each `TraceEvent`. It must not raise.
      initial_bytes: Ciphertext that was already read from the transport, such as the
        ClientHello by which a server recognised TLS. Never pass what arrived in clear
        text after a STARTTLS command: an attacker may have injected it, so it must be
        refused. Default: none.

    Raises:
      TypeError: an argument has the wrong type.
      ValueError: *server_hostname* is missing or invalid.
      ssl.SSLError: *ssl_context* is for the other side.
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
        check_type("server_side", server_side, bool)
        check_context(ssl_context, server_side=server_side)
        check_type("https_compatible", https_compatible, bool)
        check_type("policy", policy, ShutdownPolicy)
        if server_hostname is not None:
            if server_side:
                raise ValueError("server_hostname is for clients, not for servers")
        elif not server_side and ssl_context.check_hostname:
            # OpenSSL would silently check nothing.
            raise ValueError(
                "server_hostname is required because ssl_context.check_hostname is set"
            )
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
        self._records = self._connection.records

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
        # Typed as in trio.SSLStream: only those who unwrap meet the None.
        return cast("T_Stream", self._transport_stream)

    @property
    def https_compatible(self) -> bool:
        """The argument of the constructor."""
        return self._https_compatible

    @property
    def report(self) -> ShutdownReport:
        """How the connection ended, or stands so far. Never None."""
        return self._connection.report()

    # Opening:

    @_without_interrupts
    async def do_handshake(self) -> None:
        """Do the handshake, if it has not been done.

        The other methods call this when needed.

        Cancellation:
          The stream is broken: later calls, and other tasks waiting for this
          handshake, get `trio.BrokenResourceError`.

        Raises:
          TLSFailedError: either side refused. Our alert has been sent. There is none if
            Python code refused, such as ``ssl_context.sslobject_class``: OpenSSL, which
            was satisfied, may have finished its part, and only closing tells the peer.
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
          Before *data* is encrypted (while another task's send finishes, say), nothing
          is broken and none of it is sent. After that, nothing more can be sent, not
          even close_notify, so the peer sees a cut connection, even if the transport
          had no room for the first byte. Receiving still works.

        Raises:
          trio.BusyResourceError: another task is sending.
          trio.ClosedResourceError: this side has closed or half-closed, or another
            task is doing so.
          TransportBrokenError: the transport failed. What the peer sent before can
            still be received.
          TLSFailedError: the session failed.
        """
        octets = data if isinstance(data, bytes) else as_bytes("data", data)
        if self._wait_guard.busy:
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
        """Wait until the transport might accept data.

        May return early, for instance when another task ends the connection.

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
            await self._records.wait_send_all_might_not_block()
            self._check_can_send()

    def _check_can_send(self) -> None:
        if self._state.sending is not Sending.HANDSHAKING:
            self._connection.check_can_send()

    @_without_interrupts
    async def send_eof(self, *, allow_tls12: bool = False) -> None:
        """Half-close: send our close_notify, and nothing else.

        Receiving continues in any task, undisturbed and without loss, and the peer can
        send the rest of its data. Calling it again does nothing.
        See `RFC 9846 section 6.1
        <https://www.rfc-editor.org/rfc/rfc9846#section-6.1>`__.

        Args:
          allow_tls12: Allow it on TLS 1.2 and older, where a conforming peer
            discards its answer. Default: False.

        Cancellation:
          As for `send_all`. `report` tells whether the alert was sent; if it was not,
          and sending is not broken, another call sends it.

        Raises:
          HalfCloseUnsupportedError: TLS 1.2 or older without *allow_tls12*.
          trio.BusyResourceError: another task is sending.
          trio.ClosedResourceError: this side has closed.
          TransportBrokenError: the transport failed.
          TLSFailedError: the session failed.
        """
        check_type("allow_tls12", allow_tls12, bool)
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
          max_bytes: The most bytes to return, at least 1. Default: all there is.

        Returns:
          Data, or ``b""`` after the peer's close_notify and only then (but see
          *https_compatible*).

        Cancellation:
          Nothing is lost. (During the handshake: see `do_handshake`. While the TLS
          layer's answer to a KeyUpdate, say, is being sent: sending breaks, as for
          `send_all`.)

        Raises:
          TruncatedError: the transport ended without close_notify. Sending may still
            work.
          TransportBrokenError: the transport failed.
          TLSFailedError: a bad record, or the peer's fatal alert.
          trio.BusyResourceError: another task is receiving.
          trio.ClosedResourceError: this side has closed. (But data that arrived before
            the peer's own end can still be received; see `aclose`.)
        """
        most = sys.maxsize if max_bytes is None else operator.index(max_bytes)
        if most < 1:
            raise ValueError("max_bytes must be >= 1")
        with self._receive_guard:
            if self._state.closed:
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
                    # Not when it waits: a task that reads beside would wait again, and
                    # be interrupted again, before this one gets its turn.
                    if self._records.interrupted:
                        raise ReceiveInterruptedError
                    await self._connection.receive_once()
                # Nothing awaits from here on, so what is taken is delivered.
                return self._connection.take(most)
            except BaseException:
                # A shutdown may be waiting for this reader to make room.
                self._closer.reader_seen = False
                self._connection.wake_up()
                raise

    def _check_readable(self) -> None:
        if self._state.closed and not self._connection.keeps_unread:
            self._connection.check_open()

    @_without_interrupts
    def peer_state_nowait(self) -> PeerState:
        """Return what the peer has done so far, for connection pools.

        Everything that has arrived is decrypted, so session tickets do not look like
        data. Safe while another task is receiving.

        The transport must be a `trio.SocketStream` or have a method
        ``receive_some_nowait(max_bytes)``: ``receive_some`` without waiting, which
        raises `trio.WouldBlock` if nothing has arrived and NotImplementedError if it
        cannot tell. Over other transports the result is `PeerState.UNKNOWN` unless
        something is known to be unread.

        Raises:
          trio.ClosedResourceError: this side has closed.
          trio.NeedHandshakeError: the handshake has not been done.
        """
        self._connection.check_open()
        self._after_handshake("peer_state_nowait()")
        return self._connection.peer_state_nowait()

    @_without_interrupts
    async def wait_peer_ended(self) -> None:
        """Wait until the peer has ended, while a handler is working.

        It returns after the peer's close_notify, a cut, a reset, or a failure of TLS;
        `report` tells which. Peers that half-close have ended, too: they may still be
        reading, as after `send_eof`. So a handler learns that its client has gone::

            async with trio.open_nursery() as nursery:

                async def watch() -> None:
                    await stream.wait_peer_ended()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(watch)
                await work()
                nursery.cancel_scope.cancel()

        Data that arrives meanwhile is kept to be received, up to ``policy.max_unread``.
        Beyond that it reads no further until some data has been received, so it does
        not notice an end that follows. Any number of tasks may wait, even while another
        one is receiving.

        Cancellation:
          As for `receive_some`.

        Raises:
          trio.ClosedResourceError: this side has closed.
          trio.NeedHandshakeError: the handshake has not been done.
        """
        self._connection.check_open()
        self._after_handshake("wait_peer_ended()")
        if self._state.can_receive:
            await self._connection.wait_peer_ended()
        else:
            await trio.lowlevel.checkpoint()

    def _end_of_input(self) -> bytes:
        match self._state.receiving:
            case Receiving.CLOSED:
                return b""
            case Receiving.TRUNCATED if (
                self._https_compatible and not self._records.mid_record
            ):
                return b""
            case receiving:
                # Not kept in a variable: its traceback will refer to this frame.
                raise (
                    self._connection.error(BREAKS.get(receiving))
                    or trio.BrokenResourceError
                )

    # Ending:

    @_without_interrupts
    async def shutdown(self, *, wait: bool = True) -> ShutdownReport:
        """Exchange close_notify with the peer. The transport stays open.

        Sends ours, then waits for the peer's, all within ``policy.timeout``. What the
        peer still sends can be received by any task, meanwhile or afterwards. Up to
        ``policy.max_unread`` bytes are buffered for that. Beyond that, shutdown waits
        for the reader if a task was receiving when it began or has received since,
        and gives up otherwise.

        Concurrent calls share one result, so ``wait=False`` beside a call that waits
        takes as long as that one. They share the time of the first one, too, even if
        that one is cancelled.

        Args:
          wait: Wait for the peer's close_notify. Default: True.

        Returns:
          What happened; endings are outcomes, not exceptions. After SENT or ABORTED
          another call continues where this one stopped.

        Cancellation:
          `report` says ABORTED and whether our alert was sent. No received data is
          lost.

        Raises:
          trio.BusyResourceError: another task is sending.
          trio.ClosedResourceError: this side has closed.
          Exception: whatever the transport raises other than Trio's exceptions.
        """
        return await self._closer.shutdown(wait=wait)

    @_without_interrupts
    async def unwrap(self) -> tuple[T_Stream, bytes]:
        """Shut TLS down and return the bare transport.

        Returns:
          The transport, and what was received in clear text after the peer's
          close_notify: treat it as received from the transport.

        Cancellation:
          As for `shutdown`; the transport stays with this stream.

        Raises:
          UnreadDataError: application data is unread. It is not lost: receive until
            ``b""``, then unwrap again.
          TruncatedError: the transport ended without close_notify.
          trio.BrokenResourceError: the exchange failed otherwise; `report` tells how.
          trio.BusyResourceError: another task is sending.
          trio.ClosedResourceError: this side has closed.
        """
        self._connection.check_open()
        self._check_nothing_unread()
        outcome = (await self.shutdown()).outcome
        self._connection.check_open()
        if outcome is not ShutdownOutcome.COMPLETE:
            # Not kept in a variable: its traceback will refer to this frame.
            raise self.report.error or trio.BrokenResourceError(
                "the close_notify exchange did not complete within the limits of the "
                f"policy: {outcome.value}"
            )
        self._check_nothing_unread()
        self._state.process_event(Event.UNWRAPPED)
        transport_stream, self._transport_stream = self.transport_stream, None
        trailing = self._engine.trailing() + self._records.trailing()
        return transport_stream, trailing

    @_without_interrupts
    async def aclose(self) -> None:
        """Send our close_notify and close the transport.

        Does not wait for the peer's application. Sending, and the handshake if it has
        not been done, are bounded by ``policy.timeout``. With *https_compatible* there
        is no close_notify. If another task is sending, this aborts, and that task gets
        `trio.ClosedResourceError`. So does a task that is receiving, unless the peer's
        direction has already ended; data that arrived before that end can still be
        received.

        A TCP socket lingers for up to ``policy.linger_timeout`` until the peer's kernel
        has acknowledged everything, because a reset could destroy it. If the peer sends
        something meanwhile, or our last word was a fatal alert, it lingers until the
        peer's FIN and discards up to 8 MiB. It does not linger if all was acknowledged
        and nothing is unread. Only the peer's answer proves that its *application* has
        the data.

        Cancellation:
          The transport is closed at once. (`trio.aclose_forcefully` is how to abort.)

        Raises:
          TLSFailedError: closing had to do the handshake, which failed. Likewise
            TruncatedError and TransportBrokenError. The transport is closed anyway.
        """
        if self._transport_stream is None:
            await trio.lowlevel.checkpoint()  # unwrap() has returned it
            return
        await self._closer.aclose()

    @_without_interrupts
    async def __anext__(self) -> bytes:
        """Receive; ``async for`` ends at the peer's close_notify and only there.

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
        """Close gracefully if the block ended normally, else abort."""
        # Once TLS has failed there can be no misleading close_notify, only an alert that
        # the peer should receive.
        if exc_type is None or self._state.failed:
            await self.aclose()
        else:
            await self._abort()  # noqa: ASYNC102 - does not wait

    # Parts:

    async def _abort(self) -> None:
        if isinstance(self._transport_stream, trio.SocketStream):
            await self._closer.abort()
        else:
            # Shielded, so that Cancelled does not replace what made the caller abort.
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(self)

    @property
    def _is_over(self) -> bool:
        handed_back = self._transport_stream is None
        return handed_back or self._records.closed or self._closer.over

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
        transport = self._records.transport
        address: object = self._connection.address
        if address is None and isinstance(transport, trio.SocketStream):
            with suppress(Exception):  # it is gone, or not a real socket
                address = transport.socket.getpeername()
        return f"of {address!r}" if address else f"over {type(transport).__name__}"


def connected_to(stream: TLSStream[T_Stream], host: str | bytes, port: int) -> None:
    """Put the address into the errors of *stream*. For this package only."""
    connection = stream._connection  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    connection.address = host, port


def is_over(stream: TLSStream[T_Stream]) -> bool:
    """Whether *stream* was closed or unwrapped, or its socket closed by anyone.

    False while it lingers.
    """
    return stream._is_over  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


@_without_interrupts
async def abort(stream: TLSStream[T_Stream]) -> None:
    """Do what leaving ``async with stream:`` by an exception does."""
    await stream._abort()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def is_mid_record(stream: TLSStream[T_Stream]) -> bool:
    """Whether what *stream* has received so far ends inside a TLS record."""
    return stream._connection.records.mid_record  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def has_delivered(stream: TLSStream[T_Stream]) -> bool:
    """Whether any data has been received from *stream*."""
    return stream._engine.delivered  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def interruptible(stream: TLSStream[T_Stream]) -> bool:
    """Whether `interrupt_receive` works on the transport of *stream*."""
    return stream._records.interruptible  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def interrupt_receive(stream: TLSStream[T_Stream]) -> None:
    """Let a `receive_some` that is waiting for input raise `ReceiveInterruptedError`.

    Or the next one, if none is waiting, until `allow_receive` is called. Nothing is lost.
    """
    if not stream._state.closed:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        stream._records.interrupt()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def allow_receive(stream: TLSStream[T_Stream]) -> None:
    """Undo `interrupt_receive`."""
    stream._records.interrupted = False  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


# It has the whole interface, and other programs check with isinstance().
trio.SSLStream.register(TLSStream)
