"""Between a TLS session and the caller's transport."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import trio

from ._state import ConnectionState, Event, Sending
from ._trace import TraceKind

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

# At once from the transport. It bounds what a hostile peer makes us decrypt.
RECEIVE_SIZE = 2**16
# On Windows a socket is no file, and its number may be that of one.
SOCKETS_ARE_FILES = os.name == "posix"

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

    def feed(self, data: bytes | bytearray) -> None:
        """Go on by *data*."""
        if self._header:
            data = self._header + data
        position = self._skip
        end = len(data)
        while position + HEADER_SIZE <= end:
            position += HEADER_SIZE + (data[position + 3] << 8 | data[position + 4])
        self._header = bytes(data[position:])
        self._skip = max(position - end, 0)


class _Turn:
    """A lock that costs no trip through the scheduler when it is free."""

    __slots__ = ("_over",)

    def __init__(self) -> None:
        self._over: trio.Event | None = None

    @property
    def taken(self) -> bool:
        return self._over is not None

    async def __aenter__(self) -> None:
        while self._over is not None:
            await self._over.wait()
        self._over = trio.Event()

    async def __aexit__(self, *_: object) -> None:
        assert self._over is not None
        self._over.set()
        self._over = None


class Wire(trio.abc.Stream):
    """The transport, as the session sees it.

    A failure of the transport is told to the *state*, one direction at a time,
    and not raised: the other direction may still have something to say.

    Args:
      transport: The caller's stream.
      initial: What was received from it already.
      state: Learns what left, what broke, and in which direction.
      trace: Called with a kind and a number of bytes.
    """

    __slots__ = (
        "_boundary",
        "_broken",
        "_initial",
        "_state",
        "_trace",
        "_turn",
        "_waiting",
        "_was_reset",
        "error",
        "transport",
    )

    def __init__(
        self,
        transport: trio.abc.Stream,
        initial: bytes,
        state: ConnectionState,
        trace: Callable[[TraceKind, int], None],
    ) -> None:
        self.transport = transport
        self._initial = initial
        self.error: trio.BrokenResourceError | None = None
        self._state = state
        self._trace = trace
        self._boundary = RecordBoundary()
        self._turn = _Turn()
        self._waiting: trio.CancelScope | None = None
        self._was_reset = False
        self._broken = False  # a record was cut, or the transport failed

    @property
    def mid_record(self) -> bool:
        """Whether what was received so far ends inside a record."""
        return self._boundary.inside

    @property
    def busy(self) -> bool:
        """Whether a task is sending."""
        return self._turn.taken and self._waiting is None

    async def flush(
        self, output: ssl.MemoryBIO, encrypt: Callable[[], None] | None = None
    ) -> None:
        """Send all that is in *output*, in order, one task at a time.

        Args:
          output: Ciphertext that is due.
          encrypt: Called when it is our turn, to make more due. What it raises
            ends this call; *output* is as it left it.

        Cancellation:
          Nothing is encrypted or lost while it waits for its turn. Later, part
          of a record may have left: nothing can be sent any more.
        """
        if self._waiting is not None:
            self._waiting.cancel()
        async with self._turn:
            await trio.lowlevel.checkpoint_if_cancelled()
            if encrypt is not None:
                encrypt()
            if not output.pending:
                await trio.lowlevel.cancel_shielded_checkpoint()
            while output.pending:
                await self._send(output.read())
                if output.pending:
                    await trio.lowlevel.checkpoint_if_cancelled()

    def flush_nowait(self, output: ssl.MemoryBIO, encrypt: Callable[[], None]) -> bool:
        """The same as `flush`, if that is possible without waiting.

        A deadline costs more than all else that closing does, and an alert that
        the kernel takes at once needs none.

        Returns:
          Whether nothing is left to send. What could not go stays in *output*.
        """
        if self._turn.taken or not SOCKETS_ARE_FILES:
            return False
        if not isinstance(self.transport, trio.SocketStream):
            return False
        encrypt()
        if not output.pending or self._broken:
            return True
        sending = self._state.sending
        data = output.read()
        try:
            size = os.write(self.transport.socket.fileno(), data)
        except OSError:
            size = 0  # flush() will meet it again, and wait, or tell
        output.write(data[size:])
        if size < len(data):
            return False
        self._has_sent(size, sending)
        return True

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send a flight of the handshake, in turn with `flush`."""
        # When the last one leaves the session stands already, and other tasks may
        # have something to send.
        async with self._turn:
            await self._send(data)

    async def _send(self, data: bytes | bytearray | memoryview) -> None:
        if self._broken:
            await trio.lowlevel.checkpoint()
            return
        sending = self._state.sending
        try:
            await self.transport.send_all(data)
        except trio.BrokenResourceError as exc:
            self._cannot_send(exc)
        except BaseException:
            self._broken = True
            self._state.note(Event.SENDING_LOST)
            raise
        else:
            self._has_sent(len(data), sending)

    def _cannot_send(self, error: trio.BrokenResourceError) -> None:
        self._broken = True
        self.error = error
        self._was_reset = _is_reset(error)
        self._state.note(Event.SENDING_RESET)

    def _has_sent(self, size: int, sending: Sending) -> None:
        self._trace(TraceKind.BYTES_SENT, size)
        if sending is Sending.ENCRYPTED:
            self._state.move(Event.CLOSE_NOTIFY_SENT)

    async def wait_send_all_might_not_block(self) -> None:
        """As the transport does; early, if somebody wants to `flush`."""
        async with self._turn:
            with trio.CancelScope() as self._waiting:
                try:
                    await self.transport.wait_send_all_might_not_block()
                except trio.BrokenResourceError as exc:
                    self._cannot_send(exc)
                finally:
                    self._waiting = None

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive ciphertext; ``b""`` at the end and after a reset."""
        if self._initial:
            await trio.lowlevel.checkpoint()
            data: bytes | bytearray = self._initial
            self._initial = b""
            return self._has_received(data)
        try:
            data = await self.transport.receive_some(RECEIVE_SIZE)
        except trio.BrokenResourceError as exc:
            data = self._cannot_receive(exc)
        return self._has_received(data)

    def receive_nowait(self) -> bytes | bytearray | None:
        """The same without waiting; None if nothing has come.

        Raises:
          NotImplementedError: that cannot be had of this transport.
        """
        if not (isinstance(self.transport, trio.SocketStream) and SOCKETS_ARE_FILES):
            raise NotImplementedError
        try:
            data = os.read(self.transport.socket.fileno(), RECEIVE_SIZE)
        except BlockingIOError:
            return None
        except OSError as exc:
            error = trio.BrokenResourceError(f"socket connection broken: {exc}")
            error.__cause__ = exc
            data = self._cannot_receive(error)
        return self._has_received(data)

    def _cannot_receive(self, error: trio.BrokenResourceError) -> bytes:
        self.error = error
        self._was_reset = True
        return b""

    def _has_received(self, data: bytes | bytearray) -> bytes | bytearray:
        if data:
            self._boundary.feed(data)
            self._trace(TraceKind.BYTES_RECEIVED, len(data))
        elif not self._was_reset:
            self._trace(TraceKind.FIN_RECEIVED, 0)
        else:
            self._state.note(Event.RECEIVING_RESET)
        return data

    async def aclose(self) -> None:
        """Close the transport, which wakes a task that is parked on it."""
        await self.transport.aclose()


def _is_reset(error: trio.BrokenResourceError) -> bool:
    # Linux tells ECONNRESET once, to whichever call comes first, and then lets
    # receiving end as if a FIN had come. After a real FIN it says EPIPE.
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno == errno.ECONNRESET
