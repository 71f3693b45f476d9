"""Ending a `trio.SSLStream` that other code made, through its public interface only.

``SSLStream.transport_stream`` is a plain attribute, so a `_Tap` can take its place and
provide what SSLStream has no method for. The tap

- watches the transport, so that a cut is recognised whatever the context's options and
  *https_compatible* make of it;
- refuses to receive, so that ``receive_some()`` only decrypts what has already arrived
  and ``unwrap()`` only sends our close_notify. Otherwise unwrap() would go on to read, and
  fail on the first record of application data (APPLICATION_DATA_AFTER_CLOSE_NOTIFY). That
  data can still be received.

unwrap() must never return: it would close the SSLStream and drop the transport.
"""

from __future__ import annotations

import ssl
from typing import Any, Final, Literal, NoReturn
from weakref import WeakKeyDictionary

import attrs
import trio

from trio_tlsdown._core.engine import is_close_notify
from trio_tlsdown._core.report import ShutdownPolicy, ShutdownReport
from trio_tlsdown._core.state import ConnectionState, Event, Sending
from trio_tlsdown._util import check_type, without_frames

from .connection import error_of
from .linger import all_acknowledged_and_read, linger, over_tcp, reset_when_closed
from .stream import TLSStream
from .transport import is_reset

# With this option OpenSSL takes a cut for an end. Some Pythons set it in every context,
# and not every Python has a name for it.
CUT_IS_END: Final = 1 << 7  # SSL_OP_IGNORE_UNEXPECTED_EOF


# An SSLStream can send nothing without a checkpoint. So this stands for no time, in seconds.
LITTLE_TIME: Final = 0.05


class _InterruptedError(Exception):
    """Stops a call of SSLStream where it would go on."""


class _Ending:
    """What is known about the ending of one SSLStream.

    It outlives a call of `shutdown`, so that a later call can resume the exchange.
    """

    def __init__(self) -> None:
        self.state = ConnectionState(self._on_event)
        self.began: float | None = None
        self.over: float | None = None
        self.running = False
        self.discarded = 0
        self.transport_error: trio.BrokenResourceError | None = None
        self.tls_error: ssl.SSLError | None = None

    def _on_event(self, event: Event) -> None:
        if self.state.closed:
            self.over = trio.current_time()

    def give_up(self) -> None:
        if not self.state.outcome.final:
            self.state.process_event_if_legal(Event.GIVEN_UP)

    def close_notify_sent(self) -> None:
        # Neither event is legal if the transport has failed meanwhile.
        self.state.process_event_if_legal(Event.CLOSE_NOTIFY_ENCRYPTED)
        self.state.process_event_if_legal(Event.CLOSE_NOTIFY_SENT)

    def transport_failed(self, error: trio.BrokenResourceError, event: Event) -> None:
        self.transport_error = self.transport_error or without_frames(error)
        self.state.process_event_if_legal(event)

    def tls_failed(self, error: ssl.SSLError) -> None:
        self.tls_error = without_frames(error)
        self.state.process_event_if_legal(Event.FAILED)

    def report(self, *, server_side: bool) -> ShutdownReport:
        state = self.state
        elapsed = 0.0
        if self.began is not None:
            elapsed = (self.over or trio.current_time()) - self.began
        return ShutdownReport(
            outcome=state.outcome,
            close_notify_sent=state.close_notify_sent,
            close_notify_received=state.close_notify_received,
            first=state.first,
            discarded=self.discarded,
            elapsed=elapsed,
            error=error_of(
                state.broken_by,
                handshaken=state.handshaken,
                mid_record=None,  # what the SSLStream had of the last record
                transport_error=self.transport_error,
                tls_error=self.tls_error,
                server_side=server_side,
            ),
        )


_ENDINGS: Final[WeakKeyDictionary[trio.SSLStream[Any], _Ending]] = WeakKeyDictionary()


class _StandIn(trio.abc.Stream):
    """Takes the place of the transport of an SSLStream.

    Args:
      transport: The SSLStream's own transport.
    """

    def __init__(self, transport: trio.abc.Stream) -> None:
        self.transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)  # such as its socket

    async def aclose(self) -> None:
        await self.transport.aclose()


class _Tap(_StandIn):
    """Watches the transport of an SSLStream that is being shut down.

    Args:
      transport: The SSLStream's own transport.
      ending: Told what happens on it.

    Attributes:
      starved: Whether receiving is interrupted.
      last: Whether to interrupt the call after its next send.
    """

    def __init__(self, transport: trio.abc.Stream, ending: _Ending) -> None:
        super().__init__(transport)
        self._ending = ending
        self.starved = False
        self.last = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        state = self._ending.state
        if state.close_notify_sent:
            # Nothing follows our close_notify, not even the answer to a KeyUpdate:
            # RFC 9846 section 6.1.
            await trio.lowlevel.checkpoint()
            return
        try:
            await self.transport.send_all(data)
        except trio.BrokenResourceError as exc:
            self._ending.transport_failed(exc, Event.SENDING_RESET)
            if not state.handshaken:
                raise
            # Not raised, because SSLStream would then stop reading: how the input ends
            # tells whether the peer cut the connection or had sent close_notify before.
        except BaseException:
            state.process_event_if_legal(Event.SENDING_BROKEN)
            raise
        if self.last:
            raise _InterruptedError

    async def wait_send_all_might_not_block(self) -> None:
        await self.transport.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self.starved:
            raise _InterruptedError
        try:
            data = await self.transport.receive_some(max_bytes)
        except trio.BrokenResourceError as exc:
            self._ending.transport_failed(exc, Event.RECEIVING_RESET)
            raise
        if not data:
            error = self._ending.transport_error
            self._ending.state.process_event_if_legal(
                Event.RECEIVING_RESET if error and is_reset(error) else Event.TRUNCATED
            )
        return data

    async def aclose(self) -> None:
        # By another task, which closes the SSLStream.
        self._ending.state.process_event_if_legal(Event.CLOSED)
        await super().aclose()


class _Lingering(_StandIn):
    """Refuses all but closing, so that nobody disturbs an SSLStream that lingers."""

    async def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise trio.ClosedResourceError("another task is closing this SSLStream")

    send_all = wait_send_all_might_not_block = receive_some = _refuse


@attrs.frozen
class SSLStreamCloser(trio.abc.AsyncResource):
    """Ends one `trio.SSLStream`; two for the same stream are equal.

    It has those methods of `TLSStream` that end a stream.
    """

    stream: trio.SSLStream[Any]
    policy: ShutdownPolicy = attrs.field(eq=False)
    https_compatible: Literal[False] = attrs.field(default=False, init=False, eq=False)
    """An SSLStream does not reveal it."""

    @property
    def _ending(self) -> _Ending:
        return _ENDINGS.setdefault(self.stream, _Ending())

    @property
    def is_over(self) -> bool:
        """Whether the stream was unwrapped, or its socket closed by anyone.

        Whether another transport is closed cannot be known.
        """
        transport: trio.abc.Stream | None = self.stream.transport_stream
        return transport is None or (
            isinstance(transport, trio.SocketStream) and transport.socket.fileno() == -1
        )

    @property
    def report(self) -> ShutdownReport:
        """How it ended, or stands so far, as far as that was seen."""
        transport: trio.abc.Stream | None = self.stream.transport_stream
        if transport is None and not self._ending.state.closed:
            self._note_unwrapped()
        elif self.is_over:
            self._ending.state.process_event_if_legal(Event.CLOSED)
        return self._ending.report(server_side=self._server_side)

    def _note_unwrapped(self) -> None:
        # By its own unwrap(), which returns once both alerts have crossed. Which came
        # first is not known.
        state = self._ending.state
        state.process_event_if_legal(Event.HANDSHAKE_DONE)
        self._ending.close_notify_sent()
        state.process_event_if_legal(Event.CLOSE_NOTIFY_RECEIVED)
        state.first = None
        state.process_event_if_legal(Event.UNWRAPPED)

    @property
    def _server_side(self) -> bool:
        server_side: bool = self.stream.server_side
        return server_side

    async def shutdown(self, unread: bytearray | None = None) -> ShutdownReport:
        """As `shutdown`, of an SSLStream."""
        ending = self._ending
        if ending.running:
            raise trio.BusyResourceError("another task is shutting down this SSLStream")
        transport: trio.abc.Stream | None = self.stream.transport_stream
        if transport is None:
            raise trio.ClosedResourceError("this SSLStream was unwrapped")
        ending.running = True
        try:
            if await self._is_usable():
                await self._shutdown(transport, ending, unread)
        finally:
            ending.running = False
        ending.state.settle()
        return self.report

    async def _is_usable(self) -> bool:
        """Whether it is not broken; raise if it was closed, or another task sends."""
        with trio.CancelScope() as scope:
            scope.cancel()  # only ask, do not wait
            try:
                await self.stream.wait_send_all_might_not_block()
            except trio.BrokenResourceError:
                self._ending.give_up()  # the reason is not known
                return False
        return True

    async def _shutdown(
        self, transport: trio.abc.Stream, ending: _Ending, unread: bytearray | None
    ) -> None:
        ending.state.process_event_if_legal(Event.RESUMED)
        if ending.began is None:
            ending.began = trio.current_time()
        tap = _Tap(transport, ending)
        self.stream.transport_stream = tap
        try:
            with trio.move_on_after(self.policy.timeout or LITTLE_TIME) as scope:
                await _Exchange(self.stream, tap, ending, unread).run(
                    self.policy.max_unread
                )
            if scope.cancelled_caught:
                ending.give_up()
        except trio.Cancelled:
            ending.give_up()
            raise
        except trio.ClosedResourceError:
            if not ending.state.closed:
                raise  # the transport was closed, not the stream
        finally:
            # Not None: only unwrap() sets that, and it never returns here.
            self.stream.transport_stream = transport

    async def aclose(self) -> None:
        """Close it, as `TLSStream.aclose` does after a `TLSStream.shutdown`."""
        transport: trio.abc.Stream | None = self.stream.transport_stream
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            if (
                self._ending.state.close_notify_sent
                and self.policy.linger_timeout > 0
                and transport is not None
                and over_tcp(transport)
                and not all_acknowledged_and_read(transport)
            ):
                self.stream.transport_stream = _Lingering(transport)
                try:
                    await linger(transport, self.policy.linger_timeout)
                finally:
                    self.stream.transport_stream = transport
            await self.stream.aclose()
        except BaseException:
            await self._abort(transport)  # noqa: ASYNC102 - does not wait
            raise
        finally:
            self._ending.state.process_event_if_legal(Event.CLOSED)

    async def _abort(self, transport: trio.abc.Stream | None) -> None:
        if (
            self.policy.reset_on_abort
            and not self._ending.state.close_notify_sent
            and transport is not None
            and self._handshaken()
            and over_tcp(transport)
        ):
            reset_when_closed(transport)
        await trio.aclose_forcefully(self.stream)

    def _handshaken(self) -> bool:
        try:
            self.stream.version()
        except trio.NeedHandshakeError:
            return False
        return True


class _Exchange:
    """One exchange of close_notify."""

    def __init__(
        self,
        stream: trio.SSLStream[trio.abc.Stream],
        tap: _Tap,
        ending: _Ending,
        unread: bytearray | None,
    ) -> None:
        self._stream = stream
        self._tap = tap
        self._ending = ending
        self._unread = unread
        self._received = 0
        self._at_end = False  # of what SSLStream can receive

    async def run(self, max_unread: int) -> None:
        """Send our close_notify, and receive until the peer's arrives."""
        state = self._ending.state
        try:
            await self._stream.do_handshake()
        except trio.BrokenResourceError as exc:
            self._note_error(exc)
            self._ending.give_up()  # if the reason is not known
            return
        state.process_event_if_legal(Event.HANDSHAKE_DONE)
        self._tap.starved = True
        may_claim = self._can_tell_an_end()
        while not self._at_end:
            try:
                await self._receive(may_claim=may_claim)
            except _InterruptedError:
                break
        if state.sending is Sending.OPEN:
            await self._send_close_notify()
        self._tap.starved = False
        while state.can_receive and not self._at_end:
            if self._received > max_unread:
                break
            await self._receive(may_claim=True)
        if not state.outcome.final:
            self._ending.give_up()

    def _can_tell_an_end(self) -> bool:
        """Whether an end that SSLStream has already seen was certainly not a cut."""
        if not self._stream.context.options & CUT_IS_END:
            return True
        # A FIN keeps the socket readable; without one the end was a close_notify.
        transport = self._tap.transport
        return (
            isinstance(transport, trio.SocketStream)
            and transport.socket.fileno() != -1
            and not transport.socket.is_readable()
        )

    async def _receive(self, *, may_claim: bool) -> None:
        try:
            data = await self._stream.receive_some()
        except trio.BrokenResourceError as exc:
            self._at_end = True
            self._note_error(exc)
            return
        if data:
            self._received += len(data)
            if self._unread is None:
                self._ending.discarded += len(data)
            else:
                self._unread += data
            return
        self._at_end = True
        if may_claim:
            self._ending.state.process_event_if_legal(Event.CLOSE_NOTIFY_RECEIVED)

    def _note_error(self, error: trio.BrokenResourceError) -> None:
        state, cause = self._ending.state, error.__cause__
        if (
            state.can_receive
            and cause is not None
            and is_close_notify(cause, self._stream.version())
        ):
            # Ours was sent, by us or by another task's unwrap().
            self._ending.close_notify_sent()
            state.process_event(Event.CLOSE_NOTIFY_RECEIVED)
        elif not state.outcome.broken and isinstance(cause, ssl.SSLError):
            # Otherwise the tap knows what it was, or another task has broken it.
            self._ending.tls_failed(cause)

    async def _send_close_notify(self) -> None:
        self._tap.last = self._at_end
        try:
            await self._stream.unwrap()
        except _InterruptedError:
            # If there was nothing left to send, it had been sent before; otherwise the
            # SSLStream would be broken.
            self._ending.close_notify_sent()
        except trio.BrokenResourceError as exc:
            self._note_error(exc)
        finally:
            # Another task may be inside the tap, sending data.
            self._tap.last = False


async def shutdown(
    stream: TLSStream[Any] | trio.SSLStream[Any],
    *,
    policy: ShutdownPolicy = ShutdownPolicy(),
    unread: bytearray | None = None,
) -> ShutdownReport:
    """Exchange close_notify with the peer, on a `TLSStream` or a `trio.SSLStream`.

    For a `TLSStream` this calls `TLSStream.shutdown`. A `trio.SSLStream` that other code
    made is shut down in the same way: it sends our close_notify, then receives until the
    peer's arrives, all within ``policy.timeout``, and reports what was seen. The
    transport stays open. Close the stream afterwards; it cannot be used for anything else.

    What an SSLStream cannot do:

    - It cannot be shut down while another task receives from it. Cancel that task first.
    - Data received during the shutdown cannot be put back into it: see *unread*.
    - It does not send an alert after an error. In the middle of a TLS 1.2 renegotiation it
      fails instead of waiting for its end.
    - If its handshake fails in another task meanwhile, this notices only when
      ``policy.timeout`` is over.
    - It cannot send without a checkpoint, so a ``policy.timeout`` of 0 stands for 50 ms.

    What it cannot tell:

    - Why it is broken, if it was broken before. The outcome is then ABORTED.
    - Whether an end that it has already reported (``b""``) was a close_notify or a cut, if
      its context has ``ssl.OP_IGNORE_UNEXPECTED_EOF`` (which Debian 12's Python 3.11.2 sets by default)
      and the transport has ended, or is not a TCP or Unix socket. The outcome is then
      ABORTED, and ``close_notify_received`` is False.
    - Whether a cut was inside a record: `TruncatedError.mid_record` is None.
    - How it is configured: close_notify is sent with *https_compatible* as well.

    Args:
      stream: The stream. If its handshake has not been done, it is done first.
      policy: Limits on ending an SSLStream; a TLSStream has its own. ``linger_timeout``
        only concerns closing, which this does not do. Default: ``ShutdownPolicy()``.
      unread: What an SSLStream receives meanwhile is appended to it. Default: that data
        is lost, and counted in ``discarded``. A TLSStream keeps it to be received.

    Returns:
      What happened. Endings are outcomes, not exceptions. After ABORTED another call
      continues where this one stopped.

    Cancellation:
      As for `TLSStream.shutdown`. An SSLStream is broken if it was sending.

    Raises:
      TypeError: *stream* is neither, or another argument has the wrong type.
      trio.BusyResourceError: another task is sending; of an SSLStream also: receiving,
        or shutting it down.
      trio.ClosedResourceError: this side has closed, or unwrapped it.
    """
    check_type("policy", policy, ShutdownPolicy)
    if unread is not None:
        check_type("unread", unread, bytearray)
    if isinstance(stream, TLSStream):
        return await stream.shutdown()
    check_type("stream", stream, trio.SSLStream)
    return await SSLStreamCloser(stream, policy).shutdown(unread)
