"""The caller's transport as the session sees it, and the socket under it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from itertools import repeat
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVarTuple, cast

import trio

from trio_tlsdown._core.report import TraceKind
from trio_tlsdown._core.state import ConnectionState, Event
from trio_tlsdown._util import without_frames

from .linger import over_kernel_socket
from .sync import SendLock

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterator

# On Windows a socket is not a file, and its handle may be the number of one.
SOCKETS_ARE_FILES: Final = os.name == "posix"


class NonBlockingSocket:
    """The socket under a `trio.SocketStream`.

    Args:
      stream: Its owner. No other task may be using the same direction.
    """

    __slots__ = ("_fileno", "_sock")

    def __init__(self, stream: trio.SocketStream) -> None:
        self._sock = stream.socket
        self._fileno = stream.socket.fileno

    @property
    def closed(self) -> bool:
        """Whether this side has closed it."""
        return self._fileno() == -1

    def send(self, data: bytes | memoryview) -> int:
        """Send what the kernel accepts without blocking; return how many bytes.

        Raises:
          trio.BrokenResourceError: the connection failed.
          trio.ClosedResourceError: it was closed on this side.
        """
        try:
            return os.write(self._fileno(), data)
        except BlockingIOError:
            return 0
        except OSError as exc:
            raise _stream_error(exc) from exc

    def receive(self, max_bytes: int) -> bytes | None:
        """Return what has arrived: ``b""`` at the end, None if nothing.

        Raises:
          trio.BrokenResourceError: the connection failed.
          trio.ClosedResourceError: it was closed on this side.
        """
        try:
            return os.read(self._fileno(), max_bytes)
        except BlockingIOError:
            return None
        except OSError as exc:
            raise _stream_error(exc) from exc

    async def send_all(self, data: bytes) -> None:
        """Send *data* as the kernel, which is full, gets room for it.

        Raises:
          trio.BrokenResourceError: the connection failed.
          trio.ClosedResourceError: it was closed on this side.
        """
        view = memoryview(data)
        while view:
            await self.wait_writable()
            view = view[self.send(view) :]

    def wait_readable(self) -> Awaitable[None]:
        """Wait until there is something to receive.

        Raises:
          trio.ClosedResourceError: it was closed on this side, or `wake_all` was called.
        """
        return trio.lowlevel.wait_readable(self._fileno())  # noqa: ASYNC105

    async def wait_writable(self) -> None:
        """Wait until there is room to send, or `wake_all`.

        Raises:
          trio.ClosedResourceError: it was closed on this side.
        """
        if self.closed:
            raise trio.ClosedResourceError("this socket was already closed")
        try:
            await trio.lowlevel.wait_writable(self._sock)
        except trio.ClosedResourceError:
            if self.closed:
                raise

    def wake_all(self) -> None:
        """Wake the tasks that wait for this socket. It stays open."""
        # Without a cancel scope round each wait, Trio has no other way.
        trio.lowlevel.notify_closing(self._sock)


def socket_of(transport: trio.abc.Stream) -> NonBlockingSocket | None:
    """The socket under *transport*, if it can be called without Trio."""
    if SOCKETS_ARE_FILES and over_kernel_socket(transport):
        return NonBlockingSocket(transport)
    return None


def receive_some_nowait_of(
    transport: trio.abc.Stream,
) -> Callable[[int], bytes | bytearray]:
    """The transport's own method, or one that raises NotImplementedError.

    See `TLSStream.peer_state_nowait`.
    """
    method: Callable[[int], bytes | bytearray]
    method = getattr(transport, "receive_some_nowait", _not_implemented)
    return method


def _not_implemented(max_bytes: int) -> bytes:
    raise NotImplementedError


def _stream_error(
    error: OSError,
) -> trio.BrokenResourceError | trio.ClosedResourceError:
    # The messages of trio.SocketStream.
    if error.errno == errno.EBADF:
        return trio.ClosedResourceError("this socket was already closed")
    return trio.BrokenResourceError(f"socket connection broken: {error}")


Arguments = TypeVarTuple("Arguments")
Octets: TypeAlias = bytes | bytearray | memoryview

# Most bytes per read. glibc maps buffers this big anew each time, so reads start small
# and grow only while they come back full.
RECEIVE_SIZE = 2**19
SMALL_RECEIVE_SIZE = 2**16

# Most records processed without a checkpoint. A peer can make each cost 50 us
# (KeyUpdate), and other tasks have to run; 32 full ones are RECEIVE_SIZE.
MAX_RECORDS_PER_READ = 64

HEADER_SIZE = 5  # RFC 9846 section 5.1: type, version, length


class ReceiveInterruptedError(Exception):
    """A wait for input was cut short by `RecordTransport.interrupt`. Nothing is lost."""


class RecordBoundary:
    """Tracks TLS record headers through a stream of bytes."""

    __slots__ = ("_header", "_skip")

    def __init__(self) -> None:
        self._header = b""  # the received part of the next record's header
        self._skip = 0  # bytes until the next header

    @property
    def inside(self) -> bool:
        """Whether the bytes so far end inside a record."""
        return bool(self._header or self._skip)

    def feed(self, data: Octets) -> int:
        """Advance over *data*, or over the first `MAX_RECORDS_PER_READ` records in it.

        Returns:
          How many bytes were consumed.
        """
        before = len(self._header)
        if before:
            data = self._header + data
        end = len(data)
        position = self._skip
        for _ in repeat(None, MAX_RECORDS_PER_READ):
            if position + HEADER_SIZE > end:
                break
            position += HEADER_SIZE + (data[position + 3] << 8 | data[position + 4])
        else:
            end = min(position, end)
        if position < end:
            self._header = bytes(data[position:end])
            self._skip = 0
        else:
            self._header = b""
            self._skip = position - end
        return end - before


class RecordTransport:
    """Sends and receives TLS records over the caller's transport.

    A failure of the transport is an event of *state*, for one direction, and is not
    raised: the other direction may still have data.

    Args:
      transport: The caller's stream.
      initial: Ciphertext that was received from it already.
      output: The pending ciphertext.
      state: Told what was sent, what broke, and in which direction.
      trace: Called with a kind and a number of bytes. None: no tracing.

    Attributes:
      transport: The caller's stream.
      error: What the transport raised when it first failed.
      alert_sent: Whether the fatal alert of a failed session was sent.
      interrupted: Set by `interrupt`, until whoever called that clears it.
    """

    __slots__ = (
        "_at_end",
        "_boundary",
        "_output",
        "_receive_some_nowait",
        "_received",
        "_room",
        "_socket",
        "_state",
        "_trace",
        "_waiting",
        "_was_reset",
        "alert_sent",
        "error",
        "interrupted",
        "lock",
        "transport",
    )

    def __init__(
        self,
        transport: trio.abc.Stream,
        initial: bytes,
        output: ssl.MemoryBIO,
        state: ConnectionState,
        trace: Callable[[TraceKind, int], None] | None,
    ) -> None:
        self.transport = transport
        self._socket = socket_of(transport)
        self._receive_some_nowait = receive_some_nowait_of(transport)
        self._received: Octets = initial  # but not returned to the session yet
        self._at_end = False
        self._output = output
        self._room = SMALL_RECEIVE_SIZE
        self.error: trio.BrokenResourceError | None = None
        self._state = state
        self._trace = trace
        self._boundary = RecordBoundary()
        self.lock = SendLock()
        self._waiting: trio.CancelScope | None = None
        self._was_reset = False
        self.alert_sent = False
        self.interrupted = False

    @property
    def closed(self) -> bool:
        """Whether this side has closed the socket; False for other transports."""
        return self._socket is not None and self._socket.closed

    @property
    def mid_record(self) -> bool:
        """Whether what was received so far ends inside a record."""
        return self._boundary.inside

    @property
    def busy(self) -> bool:
        """Whether a task is sending."""
        return self.lock.locked and self._waiting is None

    @property
    def answers_while_waiting(self) -> bool:
        """Whether `receive_some` also sends pending ciphertext while it waits."""
        return self._socket is not None

    async def flush(
        self,
        encrypt: Callable[[*Arguments], None] | None = None,
        *arguments: *Arguments,
    ) -> None:
        """Take the lock, encrypt, and send all pending ciphertext in order.

        Args:
          encrypt: Called with the lock held, to add ciphertext. If it raises, nothing
            is sent and what was pending stays pending.
          *arguments: Passed to *encrypt*.

        Cancellation:
          While waiting for the lock: nothing was encrypted. Later: part of a record
          may have been sent, so sending is broken.
        """
        if self._waiting is not None:
            self._waiting.cancel()
        if not self.lock.locked:
            await trio.lowlevel.checkpoint_if_cancelled()
            if encrypt is not None:
                encrypt(*arguments)
            await self.flush_uncontended()
            return
        await self.lock.acquire()
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            if encrypt is not None:
                encrypt(*arguments)
            if not self._try_flush():
                await self._flush_locked()
        finally:
            self.lock.release()

    def flush_uncontended(self) -> Awaitable[None]:
        """`flush` for a caller that found the lock free and checked for cancellation."""
        # No checkpoint has passed since, so what the kernel accepts at once needs no
        # lock.
        if self._try_flush():
            return trio.lowlevel.cancel_shielded_checkpoint()  # noqa: ASYNC105
        return self._flush_slow()

    async def _flush_slow(self) -> None:
        self.lock.locked = True
        try:
            await self._flush_locked()
        finally:
            self.lock.release()

    async def _flush_locked(self) -> None:
        """The caller holds the lock."""
        while self._output.pending:
            await self._send()

    def flush_nowait(self, encrypt: Callable[[], None] | None = None) -> bool:
        """`flush` without waiting.

        It exists because a deadline costs more than everything else in closing, and
        an alert that the kernel accepts at once needs none.

        Returns:
          Whether everything was sent. The rest stays pending.
        """
        if self.lock.locked or self._socket is None:
            return False
        if encrypt is not None:
            encrypt()
        return self._try_flush()

    def _try_flush(self) -> bool:
        """Send what the kernel accepts at once; the lock is held or not needed."""
        if not self._output.pending:
            return True
        if self._socket is None:
            return False
        try:
            data = self._output.read()
            size = self._socket.send(data)
        except trio.BrokenResourceError as exc:
            self._cannot_send(exc)
            return True
        except BaseException:
            self._give_up()
            raise
        if size < len(data):
            self._output.write(memoryview(data)[size:])
            self._has_sent(size, last_word=False)
            return False
        if self._trace is not None or not self._state.can_send:  # else nobody cares
            self._has_sent(size, last_word=self._state.last_word_made)
        return True

    async def _send(self) -> None:
        last_word = self._state.last_word_made
        try:
            data = self._output.read()
            if self._socket is None:
                await self.transport.send_all(data)
            else:
                await self._socket.send_all(data)
        except trio.BrokenResourceError as exc:
            self._cannot_send(exc)
        except BaseException:
            self._give_up()
            raise
        else:
            self._has_sent(len(data), last_word=last_word)

    def _cannot_send(self, error: trio.BrokenResourceError) -> None:
        self.error = self.error or without_frames(error)
        # A reader that was told of the reset may not have passed it on yet.
        self._was_reset = self._was_reset or is_reset(error)
        self._output.read()
        self._state.process_event_if_legal(Event.SENDING_RESET)

    def _give_up(self) -> None:
        self._output.read()  # nothing can follow, so it is never sent
        self._state.process_event_if_legal(Event.SENDING_BROKEN)

    def _has_sent(self, size: int, *, last_word: bool) -> None:
        if self._trace is not None and size:
            self._trace(TraceKind.BYTES_SENT, size)
        if last_word and not self._state.process_event_if_legal(
            Event.CLOSE_NOTIFY_SENT
        ):
            self.alert_sent = self._state.failed

    def stop_tracing(self) -> None:
        """Trace nothing from now on."""
        self._trace = None

    async def wait_send_all_might_not_block(self) -> None:
        """As the transport does, but return early if a task wants to `flush`."""
        await self.lock.acquire()
        try:
            if not self.lock.contended:
                with trio.CancelScope() as self._waiting:
                    if self._socket is None:
                        await self.transport.wait_send_all_might_not_block()
                    else:
                        await self._socket.wait_writable()
        except trio.BrokenResourceError as exc:
            self._cannot_send(exc)
        finally:
            self._waiting = None
            self.lock.release()

    @property
    def interruptible(self) -> bool:
        """Whether `interrupt` may be called."""
        return self._socket is not None

    def interrupt(self) -> None:
        """Let the task that waits for input, if any, raise `ReceiveInterruptedError`."""
        assert self._socket is not None
        self.interrupted = True
        self._socket.wake_all()

    async def receive_some(self) -> Octets:
        """Receive ciphertext; ``b""`` at the end or after a reset.

        Raises:
          ReceiveInterruptedError: see `interrupt`.
        """
        if self._socket is None and not self._received:
            try:
                self._has_read(await self.transport.receive_some(self._room))
            except trio.BrokenResourceError as exc:
                self._cannot_receive(exc)
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
            if self._try_read():
                await trio.lowlevel.cancel_shielded_checkpoint()
            else:
                await self._wait_and_read()
        return self._hand_on()

    async def _wait_and_read(self) -> None:
        assert self._socket is not None
        while True:
            try:
                if self._output.pending:
                    await self._wait_and_flush()
                else:
                    await self._socket.wait_readable()
            except trio.ClosedResourceError:
                if self._socket.closed:
                    raise
            if self._state.closed:
                # The task that closes, and lingers, reads from here on.
                raise trio.ClosedResourceError("this TLSStream was closed")
            if self._try_read():
                return
            if self.interrupted:
                raise ReceiveInterruptedError

    async def _wait_and_flush(self) -> None:
        # Waiting only to send would deadlock with a peer that writes everything before
        # it reads; waiting only to receive, with a peer that waits for our answer.
        assert self._socket is not None
        error: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._flush_when_there_is_room)
                await self._socket.wait_readable()
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            error = _most_important(group)
        if error is not None:
            # Callers need not know that there is a nursery. Not raised above: a context
            # of which the error is a part would be a cycle, as a variable would.
            try:
                raise error
            finally:
                del error

    async def _flush_when_there_is_room(self) -> None:
        with suppress(trio.ClosedResourceError):
            while self._output.pending:
                await self.wait_send_all_might_not_block()
                self.flush_nowait()

    def trailing(self) -> bytes:
        """Return what was received but not processed: clear text after the session."""
        trailing, self._received = bytes(self._received), b""
        return trailing

    def receive_nowait(self) -> Octets | None:
        """`receive_some` without waiting; None if nothing has arrived.

        Raises:
          NotImplementedError: this transport cannot do that.
        """
        return self._hand_on() if self._try_read() else None

    def _try_read(self) -> bool:
        """Whether input is there, or its end."""
        if self._received or self._at_end:
            return True
        try:
            received: bytes | bytearray | None
            if self._socket is not None:
                received = self._socket.receive(self._room)
            else:
                received = self._receive_some_nowait(self._room)
        except trio.WouldBlock:
            return False
        except trio.BrokenResourceError as exc:
            self._cannot_receive(exc)
            return True
        if received is None:
            return False
        self._has_read(received)
        return True

    def _cannot_receive(self, error: trio.BrokenResourceError) -> None:
        self.error = self.error or without_frames(error)
        self._was_reset = True
        self._at_end = True

    def _has_read(self, data: bytes | bytearray) -> None:
        self._received = data
        self._at_end = not data
        if len(data) == self._room:
            self._room = RECEIVE_SIZE
        elif len(data) < SMALL_RECEIVE_SIZE:
            self._room = SMALL_RECEIVE_SIZE

    def _hand_on(self) -> Octets:
        """Return what was read: as many records as may be processed at once."""
        data, self._received = self._received, b""
        if not data:
            if self._was_reset:
                self._state.process_event_if_legal(Event.RECEIVING_RESET)
            elif self._trace is not None:
                self._trace(TraceKind.FIN_RECEIVED, 0)
            return data
        size = self._boundary.feed(data)
        if size < len(data):
            view = memoryview(data)
            data, self._received = view[:size], view[size:]
        if self._trace is not None:
            self._trace(TraceKind.BYTES_RECEIVED, size)
        return data


def _most_important(group: BaseExceptionGroup[BaseException]) -> BaseException:
    leaves = list(_leaves(group))
    others = (error for error in leaves if not isinstance(error, trio.Cancelled))
    return next(others, leaves[0])


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _leaves(one)
    else:
        yield error


def is_reset(error: trio.BrokenResourceError) -> bool:
    """Whether what made sending fail has ended receiving, too."""
    # Linux reports what broke a connection once, to whichever call comes first; later
    # reads end as if a FIN had come. After a real FIN, sending fails with EPIPE.
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno != errno.EPIPE
