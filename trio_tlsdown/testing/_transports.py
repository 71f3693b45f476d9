"""Transports for tests, in memory and over loopback; and how to reset them."""

from __future__ import annotations

import errno
import operator
import os
import socket
import struct
import sys
from typing import NoReturn

import attrs
import trio


class Guard:
    """Lets one task in at a time; a second one is a bug of the test's."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._busy = False

    def __enter__(self) -> None:
        if self._busy:
            raise trio.BusyResourceError(f"another task is {self._doing}")
        self._busy = True

    def __exit__(self, *_: object) -> None:
        self._busy = False


def at_most(max_bytes: int | None, default: int = sys.maxsize) -> int:
    """The *max_bytes* of a ``receive_some``, checked."""
    size = default if max_bytes is None else operator.index(max_bytes)
    if size < 1:
        raise ValueError(f"max_bytes must be >= 1, not {size}")
    return size


@attrs.define(eq=False)
class _Pipe:
    """One direction of a connection in memory."""

    unread: bytearray = attrs.field(factory=bytearray)
    ended: bool = False
    """The sender will send nothing more."""

    abandoned: bool = False
    """The receiver has closed."""

    reset: bool = False
    readers: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)


class MemoryTransport(trio.abc.HalfCloseableStream):
    """One end of a connection in memory that can be reset, as TCP can.

    As with `trio.testing.memory_stream_pair`, there is no limit to what one end
    sends ahead of what the other receives.
    """

    def __init__(self, outgoing: _Pipe, incoming: _Pipe) -> None:
        self._outgoing = outgoing
        self._incoming = incoming
        self._closed = False
        self._sender = Guard("sending on this MemoryTransport")
        self._receiver = Guard("receiving on this MemoryTransport")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send *data*.

        Cancellation:
          All of it has been sent, or nothing.

        Raises:
          trio.BrokenResourceError: the other end has closed, or was reset.
          trio.BusyResourceError: another task is sending.
          trio.ClosedResourceError: this end has closed.
        """
        await self.wait_send_all_might_not_block()
        if self._outgoing.abandoned:
            _fail(errno.ECONNRESET if self._outgoing.reset else errno.EPIPE)
        self._outgoing.unread += data
        self._outgoing.readers.unpark_all()

    async def wait_send_all_might_not_block(self) -> None:
        """Do not wait: it never blocks."""
        with self._sender:
            await trio.lowlevel.checkpoint()
            if self._closed or self._outgoing.ended:
                raise trio.ClosedResourceError("this end has closed, or sent EOF")

    async def send_eof(self) -> None:
        """End this direction: what a FIN does."""
        with self._sender:
            await trio.lowlevel.checkpoint()
            if self._closed:
                raise trio.ClosedResourceError("this MemoryTransport was closed")
            self._outgoing.ended = True
            self._outgoing.readers.unpark_all()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive what is there; ``b""`` at the end.

        Cancellation:
          Nothing is lost.

        Raises:
          trio.BrokenResourceError: the other end has reset the connection.
          trio.BusyResourceError: another task is receiving.
          trio.ClosedResourceError: this end has closed.
        """
        size = at_most(max_bytes)
        with self._receiver:
            await trio.lowlevel.checkpoint()
            while not self._can_take:
                await self._incoming.readers.park()
            return self._take(size)

    def receive_some_nowait(self, max_bytes: int | None = None) -> bytes:
        """The same without waiting.

        Raises:
          trio.WouldBlock: nothing has come, and nothing has ended.
        """
        size = at_most(max_bytes)
        with self._receiver:
            if not self._can_take:
                raise trio.WouldBlock
            return self._take(size)

    @property
    def _can_take(self) -> bool:
        return bool(self._closed or self._incoming.unread or self._incoming.ended)

    def _take(self, size: int) -> bytes:
        if self._closed:
            raise trio.ClosedResourceError("this MemoryTransport was closed")
        if not self._incoming.unread and self._incoming.reset:
            _fail(errno.ECONNRESET)
        data = bytes(self._incoming.unread[:size])
        del self._incoming.unread[:size]
        return data

    def reset(self) -> None:
        """Close at once, and have the other end fail with ECONNRESET."""
        if not self._closed:
            self._outgoing.reset = self._incoming.reset = True
            self._close()

    async def aclose(self) -> None:
        """Close this end."""
        self._close()
        await trio.lowlevel.checkpoint()

    def _close(self) -> None:
        self._closed = True
        self._outgoing.ended = True
        self._incoming.abandoned = True
        self._incoming.unread.clear()
        for pipe in (self._outgoing, self._incoming):
            pipe.readers.unpark_all()


def _fail(number: int) -> NoReturn:
    # As a socket does: Trio's error, and the reason behind it.
    error = OSError(number, os.strerror(number))
    raise trio.BrokenResourceError(error.strerror) from error


def memory_transports() -> tuple[MemoryTransport, MemoryTransport]:
    """Two ends of a connection in memory."""
    one, other = _Pipe(), _Pipe()
    return MemoryTransport(one, other), MemoryTransport(other, one)


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
