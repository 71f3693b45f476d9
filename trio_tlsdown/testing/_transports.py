"""Transports for tests, in memory and over loopback; and how to reset them."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import NoReturn, TypeAlias

import attrs
import trio
import trio.testing

MemoryPipe: TypeAlias = trio.StapledStream[
    trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream
]


@attrs.define
class _Fate:
    """What the two ends of a connection share."""

    reset: bool = False


class MemoryTransport(trio.abc.HalfCloseableStream):
    """One end of a connection in memory that can be reset, as TCP can.

    Everything else is as of `trio.testing.memory_stream_pair`: there is no limit
    to what one end sends ahead of what the other receives.
    """

    def __init__(self, pipe: MemoryPipe, fate: _Fate) -> None:
        self._pipe = pipe
        self._fate = fate

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send *data*.

        Cancellation:
          All of it has been sent, or nothing.

        Raises:
          trio.BrokenResourceError: the other end has closed, or was reset.
          trio.BusyResourceError: another task is sending.
          trio.ClosedResourceError: this end has closed.
        """
        try:
            await self._pipe.send_all(data)
        except trio.BrokenResourceError:
            self._fail(errno.EPIPE)

    async def wait_send_all_might_not_block(self) -> None:
        """Do not wait: it never blocks."""
        await self._pipe.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """End this direction: what a FIN does."""
        await self._pipe.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive what is there; ``b""`` at the end.

        Cancellation:
          Nothing is lost.

        Raises:
          trio.BrokenResourceError: the other end has reset the connection.
          trio.BusyResourceError: another task is receiving.
          trio.ClosedResourceError: this end has closed.
        """
        data = await self._pipe.receive_some(max_bytes)
        if not data and self._fate.reset:
            self._fail(errno.ECONNRESET)
        return data

    def reset(self) -> None:
        """Close at once, and have the other end fail with ECONNRESET."""
        self._fate.reset = True
        self._pipe.send_stream.close()
        self._pipe.receive_stream.close()

    async def aclose(self) -> None:
        """Close this end."""
        await self._pipe.aclose()

    def _fail(self, number: int) -> NoReturn:
        # As a socket does: Trio's error, and the reason behind it.
        number = errno.ECONNRESET if self._fate.reset else number
        error = OSError(number, os.strerror(number))
        raise trio.BrokenResourceError(error.strerror) from error


def memory_transports() -> tuple[MemoryTransport, MemoryTransport]:
    """Two ends of a connection in memory."""
    fate = _Fate()
    ours, theirs = trio.testing.memory_stream_pair()
    return MemoryTransport(ours, fate), MemoryTransport(theirs, fate)


async def tcp_transports(
    host: str = "127.0.0.1",
) -> tuple[trio.SocketStream, trio.SocketStream]:
    """Two ends of a TCP connection on this machine: who connected, who accepted.

    Args:
      host: ``"127.0.0.1"`` or ``"::1"``.

    Cancellation:
      Nothing is left open.
    """
    [listener] = await trio.open_tcp_listeners(0, host=host)
    try:
        port = listener.socket.getsockname()[1]
        client = await trio.open_tcp_stream(host, port)
        try:
            return client, await listener.accept()
        except BaseException:
            await trio.aclose_forcefully(client)
            raise
    finally:
        listener.socket.close()  # not aclose: cancelled, that would lose the two


async def abort(*resources: trio.abc.AsyncResource) -> None:
    """Close at once: all of them, and then go on, cancelled or not.

    `trio.aclose_forcefully` leaves by `trio.Cancelled` when its caller is cancelled.
    """
    with trio.CancelScope(shield=True):
        for resource in resources:
            await trio.aclose_forcefully(resource)


def reset_when_closed(transport: trio.SocketStream) -> None:
    """Make the kernel send RST instead of FIN when *transport* closes."""
    transport.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def reset(transport: trio.abc.Stream) -> None:
    """Close *transport* at once, so that its peer sees a reset.

    Args:
      transport: A `trio.SocketStream` or a `MemoryTransport`. Any other is only
        closed: there is no such thing as a reset.

    Cancellation:
      It is closed all the same.
    """
    if isinstance(transport, MemoryTransport):
        transport.reset()
    elif isinstance(transport, trio.SocketStream):
        reset_when_closed(transport)
    await trio.aclose_forcefully(transport)
