"""Between a TLS session and the caller's transport."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, TypeVarTuple

import trio

from ._socket import receive_some_nowait_of, socket_of
from ._state import ConnectionState, Event, Sending
from ._trace import TraceKind
from ._turn import Turn

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

Arguments = TypeVarTuple("Arguments")

# At once from the transport. It bounds what a hostile peer makes us decrypt. The memory
# for much is asked of the system each time, and costs more than a small read in all.
RECEIVE_SIZE = 2**19
SMALL_RECEIVE_SIZE = 2**16

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


class Wire:
    """The transport, as the session sees it.

    A failure of the transport is told to the *state*, one direction at a time,
    and not raised: the other direction may still have something to say.

    Args:
      transport: The caller's stream.
      initial: What was received from it already.
      output: Ciphertext that is due.
      state: Learns what left, what broke, and in which direction.
      trace: Called with a kind and a number of bytes, if anybody wants to know.
    """

    __slots__ = (
        "_boundary",
        "_broken",
        "_initial",
        "_output",
        "_receive_some_nowait",
        "_room",
        "_socket",
        "_state",
        "_trace",
        "_waiting",
        "_was_reset",
        "error",
        "transport",
        "turn",
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
        self._initial = initial
        self._output = output
        self._room = SMALL_RECEIVE_SIZE
        self.error: trio.BrokenResourceError | None = None
        self._state = state
        self._trace = trace
        self._boundary = RecordBoundary()
        self.turn = Turn()
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
        return self.turn.taken and self._waiting is None

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
        if self.turn.taken:
            await self.turn.wait()
        await trio.lowlevel.checkpoint_if_cancelled()
        if encrypt is not None:
            encrypt(*arguments)
        await self.flush_rest()

    def flush_rest(self) -> Awaitable[None]:
        """Send what is due, for one who has the turn and checked for cancellation."""
        # Nobody else was let in since the turn was free, so there is no need to take
        # it for what the kernel takes at once.
        if self._flush_at_once():
            return trio.lowlevel.cancel_shielded_checkpoint()  # noqa: ASYNC105
        return self._flush_in_parts()

    async def _flush_in_parts(self) -> None:
        with self.turn:
            while self._output.pending:
                await self._send(self._output.read())

    def flush_nowait(self, encrypt: Callable[[], None]) -> bool:
        """The same as `flush`, if that is possible without waiting.

        A deadline costs more than all else that closing does, and an alert that
        the kernel takes at once needs none.

        Returns:
          Whether nothing is left to send. What could not go stays due.
        """
        if self.turn.taken or self._socket is None:
            return False
        encrypt()
        return self._flush_at_once()

    def _flush_at_once(self) -> bool:
        if not self._output.pending:
            return True
        if self._socket is None or self._broken:
            return False
        data = self._output.read()
        try:
            size = self._socket.send(data)
        except trio.BrokenResourceError as exc:
            self._cannot_send(exc)
            return True
        except trio.ClosedResourceError:
            self._give_up()
            raise
        if size < len(data):
            self._output.write(memoryview(data)[size:])
            self._has_sent(size, ending=False)
            return False
        if self._trace is not None or not self._state.can_send:  # else there is no news
            self._has_sent(size, ending=self._ending)
        return True

    async def _send(self, data: bytes) -> None:
        if self._broken:
            await trio.lowlevel.checkpoint()
            return
        ending = self._ending
        try:
            await self.transport.send_all(data)
        except trio.BrokenResourceError as exc:
            self._cannot_send(exc)
        except BaseException:
            self._give_up()
            raise
        else:
            self._has_sent(len(data), ending=ending)

    def _cannot_send(self, error: trio.BrokenResourceError) -> None:
        self._broken = True
        self.error = error
        self._was_reset = _is_reset(error)
        self._state.note(Event.SENDING_RESET)

    def _give_up(self) -> None:
        self._broken = True
        self._state.note(Event.SENDING_LOST)

    @property
    def _ending(self) -> bool:
        """Whether what is due ends with our close_notify."""
        return not self._state.can_send and self._state.sending is Sending.ENCRYPTED

    def _has_sent(self, size: int, *, ending: bool) -> None:
        if self._trace is not None and size:
            self._trace(TraceKind.BYTES_SENT, size)
        if ending:
            self._state.move(Event.CLOSE_NOTIFY_SENT)

    async def wait_send_all_might_not_block(self) -> None:
        """As the transport does; early, if somebody wants to `flush`."""
        if self.turn.taken:
            await self.turn.wait()
        with self.turn:
            with trio.CancelScope() as self._waiting:
                try:
                    await self.transport.wait_send_all_might_not_block()
                except trio.BrokenResourceError as exc:
                    self._cannot_send(exc)
                finally:
                    self._waiting = None

    async def receive_some(self) -> bytes | bytearray:
        """Receive ciphertext; ``b""`` at the end and after a reset."""
        if self._socket is None and not self._initial:
            try:
                return self._has_received(await self.transport.receive_some(self._room))
            except trio.BrokenResourceError as exc:
                return self._cannot_receive(exc)
        await trio.lowlevel.checkpoint_if_cancelled()
        data = self.receive_nowait()
        if data is not None:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return data
        assert self._socket is not None
        while data is None:
            await self._socket.wait_readable()
            if self._state.closed:
                # What has come is for the task that closes, and lingers.
                raise trio.ClosedResourceError("this TLSStream was closed")
            data = self.receive_nowait()
        return data

    def receive_nowait(self) -> bytes | bytearray | None:
        """The same without waiting; None if nothing has come.

        Raises:
          NotImplementedError: that cannot be had of this transport.
        """
        if self._initial:
            data: bytes | bytearray | None = self._initial
            self._initial = b""
        else:
            try:
                if self._socket is not None:
                    data = self._socket.receive(self._room)
                else:
                    data = self._receive_some_nowait(self._room)
            except trio.WouldBlock:
                return None
            except trio.BrokenResourceError as exc:
                return self._cannot_receive(exc)
        return None if data is None else self._has_received(data)

    def _cannot_receive(self, error: trio.BrokenResourceError) -> bytes | bytearray:
        self.error = error
        self._was_reset = True
        return self._has_received(b"")

    def _has_received(self, data: bytes | bytearray) -> bytes | bytearray:
        if data:
            self._boundary.feed(data)
            if len(data) == self._room:
                self._room = RECEIVE_SIZE
            elif len(data) < SMALL_RECEIVE_SIZE:
                self._room = SMALL_RECEIVE_SIZE
        elif self._was_reset:
            self._state.note(Event.RECEIVING_RESET)
        if self._trace is not None:
            if data:
                self._trace(TraceKind.BYTES_RECEIVED, len(data))
            elif not self._was_reset:
                self._trace(TraceKind.FIN_RECEIVED, 0)
        return data


def _is_reset(error: trio.BrokenResourceError) -> bool:
    # Linux tells what broke the connection once, to whichever call comes first, and
    # then lets receiving end as if a FIN had come. What it says after a real FIN is
    # EPIPE.
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno != errno.EPIPE
