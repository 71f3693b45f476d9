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

from .sync import SendLock

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterator

# On Windows a socket is no file, and its number may be that of one.
SOCKETS_ARE_FILES: Final = os.name == "posix"


class NonBlockingSocket:
    """The socket under a `trio.SocketStream`.

    Args:
      stream: Whose it is. Nobody else may be using the same direction.
    """

    __slots__ = ("_fileno", "_sock")

    def __init__(self, stream: trio.SocketStream) -> None:
        self._sock = stream.socket
        self._fileno = stream.socket.fileno

    @property
    def closed(self) -> bool:
        """Whether it was closed on this side."""
        return self._fileno() == -1

    def send(self, data: bytes) -> int:
        """Send what the kernel takes at once; return how many bytes that was.

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
        """What has come, ``b""`` at the end, None if it is neither.

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

    async def wait_readable(self) -> None:
        """Wait until something has come.

        Raises:
          trio.ClosedResourceError: it was closed on this side.
        """
        await trio.lowlevel.wait_readable(self._sock)


def socket_of(transport: trio.abc.Stream) -> NonBlockingSocket | None:
    """The socket under *transport*, if it is one that can be called so."""
    if SOCKETS_ARE_FILES and isinstance(transport, trio.SocketStream):
        return NonBlockingSocket(transport)
    return None


def receive_some_nowait_of(
    transport: trio.abc.Stream,
) -> Callable[[int], bytes | bytearray]:
    """The method that a transport may have, or one that raises NotImplementedError.

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
    # The words of trio.SocketStream.
    if error.errno == errno.EBADF:
        return trio.ClosedResourceError("this socket was already closed")
    return trio.BrokenResourceError(f"socket connection broken: {error}")


Arguments = TypeVarTuple("Arguments")
Octets: TypeAlias = bytes | bytearray | memoryview

# Most bytes per read. glibc maps buffers this big anew each time, so reads start small
# and grow only while they come back full.
RECEIVE_SIZE = 2**19
SMALL_RECEIVE_SIZE = 2**16

# Most records handed to the session at once. A peer can make each one cost 50 us
# (KeyUpdate), and other tasks have to get their turn; 32 full ones are RECEIVE_SIZE.
MAX_RECORDS_PER_READ = 64

HEADER_SIZE = 5  # RFC 9846 section 5.1: type, version, length


class RecordBoundary:
    """Follows the headers of TLS records through a stream of bytes."""

    __slots__ = ("_header", "_skip")

    def __init__(self) -> None:
        self._header = b""  # of the next record, if only a part of it came
        self._skip = 0  # bytes until the next header

    @property
    def inside(self) -> bool:
        """Whether the bytes so far end inside a record."""
        return bool(self._header or self._skip)

    def feed(self, data: Octets) -> int:
        """Go on by *data*, or by the first `MAX_RECORDS_PER_READ` that begin in it.

        Returns:
          How many bytes of it that was.
        """
        before = len(self._header)
        if before:
            data = self._header + data
        position = self._skip
        end = len(data)
        for _ in repeat(None, MAX_RECORDS_PER_READ):
            if position + HEADER_SIZE > end:
                break
            position += HEADER_SIZE + (data[position + 3] << 8 | data[position + 4])
        else:
            end = min(position, end)
        self._header = bytes(data[position:end])
        self._skip = max(position - end, 0)
        return end - before


class RecordTransport:
    """The transport, as the session sees it.

    A failure of the transport is told to the *state*, one direction at a time,
    and not raised: the other direction may still have something to say.

    Args:
      transport: The caller's stream.
      initial: What was received from it already.
      output: Ciphertext that is due.
      state: Learns what left, what broke, and in which direction.
      trace: Called with a kind and a number of bytes, if anybody wants to know.

    Attributes:
      transport: The caller's stream.
      error: What the transport raised when it failed.
      alert_sent: Whether the fatal alert of a failed session has left.
    """

    __slots__ = (
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
        self._received: Octets = initial  # and not handed on yet
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

    @property
    def closed(self) -> bool:
        """Whether a socket was closed on this side; of other transports: False."""
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
        """Whether `receive_some` sends what is due when there is room for it."""
        return self._socket is not None

    async def flush(
        self,
        encrypt: Callable[[*Arguments], None] | None = None,
        *arguments: *Arguments,
    ) -> None:
        """Send all that is due, in order, one task at a time.

        Args:
          encrypt: Called when it is our turn, to make more due. What it raises
            ends this call; what was due stays so.
          *arguments: It gets these.

        Cancellation:
          Nothing is encrypted or lost while it waits for its turn. Later, part
          of a record may have left: nothing can be sent any more.
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
            if not self._flush_at_once():
                await self._flush_locked()
        finally:
            self.lock.release()

    def flush_uncontended(self) -> Awaitable[None]:
        """Send what is due; nobody has the lock, and no cancellation is pending."""
        # Nobody else was let in since the lock was free, so there is no need to take
        # it for what the kernel takes at once.
        if self._flush_at_once():
            return trio.lowlevel.cancel_shielded_checkpoint()  # noqa: ASYNC105
        return self._flush_in_parts()

    async def _flush_in_parts(self) -> None:
        self.lock.locked = True
        try:
            await self._flush_locked()
        finally:
            self.lock.release()

    async def _flush_locked(self) -> None:
        while self._output.pending:
            await self._send()

    def flush_nowait(self, encrypt: Callable[[], None] | None = None) -> bool:
        """The same as `flush`, if that is possible without waiting.

        A deadline costs more than all else that closing does, and an alert that
        the kernel takes at once needs none.

        Returns:
          Whether nothing is left to send. What could not go stays due.
        """
        if self.lock.locked or self._socket is None:
            return False
        if encrypt is not None:
            encrypt()
        return self._flush_at_once()

    def _flush_at_once(self) -> bool:
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
        if self._trace is not None or not self._state.can_send:  # else there is no news
            self._has_sent(size, last_word=self._state.last_word_made)
        return True

    async def _send(self) -> None:
        last_word = self._state.last_word_made
        try:
            data = self._output.read()
            await self.transport.send_all(data)
        except trio.BrokenResourceError as exc:
            self._cannot_send(exc)
        except BaseException:
            self._give_up()
            raise
        else:
            self._has_sent(len(data), last_word=last_word)

    def _cannot_send(self, error: trio.BrokenResourceError) -> None:
        self.error = without_frames(error)
        self._was_reset = _is_reset(error)
        self._output.read()
        self._state.process_event_if_legal(Event.SENDING_RESET)

    def _give_up(self) -> None:
        self._output.read()  # nothing can follow: what is due never leaves
        self._state.process_event_if_legal(Event.SENDING_BROKEN)

    def _has_sent(self, size: int, *, last_word: bool) -> None:
        if self._trace is not None and size:
            self._trace(TraceKind.BYTES_SENT, size)
        if last_word and not self._state.process_event_if_legal(
            Event.CLOSE_NOTIFY_SENT
        ):
            self.alert_sent = self._state.failed

    async def wait_send_all_might_not_block(self) -> None:
        """As the transport does; early, if somebody wants to `flush`."""
        await self.lock.acquire()
        try:
            if not self.lock.contended:
                with trio.CancelScope() as self._waiting:
                    await self.transport.wait_send_all_might_not_block()
        except trio.BrokenResourceError as exc:
            self._cannot_send(exc)
        finally:
            self._waiting = None
            self.lock.release()

    async def receive_some(self) -> Octets:
        """Receive ciphertext; ``b""`` at the end and after a reset."""
        if self._socket is None and not self._received:
            try:
                return self._has_received(await self.transport.receive_some(self._room))
            except trio.BrokenResourceError as exc:
                return self._cannot_receive(exc)
        await trio.lowlevel.checkpoint_if_cancelled()
        data = self.receive_nowait()
        if data is not None:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return data
        while data is None:
            await self._wait_for_input()
            if self._state.closed:
                # What has come is for the task that closes, and lingers.
                raise trio.ClosedResourceError("this TLSStream was closed")
            data = self.receive_nowait()
        return data

    async def _wait_for_input(self) -> None:
        assert self._socket is not None
        if not self._output.pending:
            await self._socket.wait_readable()
            return
        # To wait until an answer has left would be for ever, if the peer reads only
        # when it has sent all; not to send it, if the peer waits for that.
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._flush_when_there_is_room)
                with suppress(trio.ClosedResourceError):  # receive_nowait() says it too
                    await self._socket.wait_readable()
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            # Callers need not know of a nursery in here.
            raise _most_important(group) from None

    async def _flush_when_there_is_room(self) -> None:
        with suppress(trio.ClosedResourceError):
            while self._output.pending:
                await self.wait_send_all_might_not_block()
                self.flush_nowait()

    def trailing(self) -> bytes:
        """What was received and not handed on: what came behind the last record."""
        trailing, self._received = bytes(self._received), b""
        return trailing

    def receive_nowait(self) -> Octets | None:
        """The same without waiting; None if nothing has come.

        Raises:
          NotImplementedError: that cannot be had of this transport.
        """
        if self._received:
            data, self._received = self._received, b""
            return self._hand_on(data)
        try:
            received: bytes | bytearray | None
            if self._socket is not None:
                received = self._socket.receive(self._room)
            else:
                received = self._receive_some_nowait(self._room)
        except trio.WouldBlock:
            return None
        except trio.BrokenResourceError as exc:
            return self._cannot_receive(exc)
        return None if received is None else self._has_received(received)

    def at_fin(self) -> bool:
        """Whether nothing is unread, and nothing can come any more.

        It may take in what came behind the end of the session.
        """
        if self._socket is None or self._received:
            return False
        try:
            return self._socket.receive(1) == b""
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return True

    def _cannot_receive(self, error: trio.BrokenResourceError) -> Octets:
        self.error = without_frames(error)
        self._was_reset = True
        return self._has_received(b"")

    def _has_received(self, data: bytes | bytearray) -> Octets:
        if data:
            if len(data) == self._room:
                self._room = RECEIVE_SIZE
            elif len(data) < SMALL_RECEIVE_SIZE:
                self._room = SMALL_RECEIVE_SIZE
            return self._hand_on(data)
        if self._was_reset:
            self._state.process_event_if_legal(Event.RECEIVING_RESET)
        elif self._trace is not None:
            self._trace(TraceKind.FIN_RECEIVED, 0)
        return data

    def _hand_on(self, data: Octets) -> Octets:
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


def _is_reset(error: trio.BrokenResourceError) -> bool:
    # Linux tells what broke the connection once, to whichever call comes first, and
    # then lets receiving end as if a FIN had come. What it says after a real FIN is
    # EPIPE.
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno != errno.EPIPE
