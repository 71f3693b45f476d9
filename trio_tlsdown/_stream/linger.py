"""Closing TCP without destroying what was sent, or so that nobody takes it for the end.

``close()`` with unread input, or input that comes later, makes the kernel send RST
and drop what it has not delivered yet, and a receiver's kernel that gets an RST may
drop what its application has not read. So a socket lingers: it says FIN, throws away
what comes, and is closed when the peer's kernel has acknowledged all. What decides is
what our kernel says of the socket, never what a peer ought to do.

Delivery to the peer's *application* is proven by its answer only.
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, TypeGuard

import trio

TCP: Final = frozenset({socket.AF_INET, socket.AF_INET6})

DISCARD_SIZE: Final = 2**16  # bytes at once

# Most bytes thrown away: what kernels have under way when a peer learns of the end,
# and no more. Linux lets a receive buffer grow to 6 MiB.
MAX_DISCARDED: Final = 2**23

# An idle peer's kernel delays its ACK by up to 44 ms on Linux, and one that is busy
# answers within some passes of our own scheduler.
CHECKPOINTS_BEFORE_SLEEPING: Final = 20
FIRST_PAUSE: Final = 0.001  # seconds
LONGEST_PAUSE: Final = 0.016

if sys.platform == "linux":
    import fcntl
    import termios

    def unacknowledged(sock: trio.socket.SocketType) -> int | None:
        """How many bytes the peer's kernel has not acknowledged; a FIN counts as 1."""
        # SIOCOUTQ has the same number: tcp(7).
        return _ask(sock, termios.TIOCOUTQ)

    def unread(sock: trio.socket.SocketType) -> int | None:
        """How many bytes have come that nobody has read."""
        return _ask(sock, termios.FIONREAD)

    def _ask(sock: trio.socket.SocketType, request: int) -> int | None:
        try:
            count = fcntl.ioctl(sock.fileno(), request, bytes(4))
        except OSError:
            return None  # not every family can tell
        return int.from_bytes(count, sys.byteorder)

else:  # pragma: no cover - there are no such calls there

    def unacknowledged(sock: trio.socket.SocketType) -> int | None:
        """None: nobody knows."""
        return None

    def unread(sock: trio.socket.SocketType) -> int | None:
        """None: nobody knows."""
        return None


def over_tcp(transport: trio.abc.Stream) -> TypeGuard[trio.SocketStream]:
    """Whether closing this can destroy what was sent; a Unix socket loses nothing."""
    return isinstance(transport, trio.SocketStream) and transport.socket.family in TCP


def all_acknowledged_and_read(stream: trio.SocketStream) -> bool:
    """Whether closing now can destroy nothing."""
    sock = stream.socket
    if sock.fileno() < 0:
        return True
    # Where no data is there, readable means FIN or RST: nothing can come any more.
    return unread(sock) == 0 and (unacknowledged(sock) == 0 or sock.is_readable())


async def linger(
    stream: trio.SocketStream, seconds: float, *, until_fin: bool = False
) -> None:
    """End our direction, and wait until the peer's kernel has all that was sent.

    A peer that sends something meanwhile is in the middle of a conversation, and may
    send more: then this waits until it ends its direction, too. It takes in up to
    `MAX_DISCARDED` bytes.

    Args:
      stream: Nobody else may be using it. It is not closed.
      seconds: To wait at most.
      until_fin: Wait for the peer's end in any case. Default: False.
    """
    sock = stream.socket
    with trio.move_on_after(seconds):
        try:
            sock.shutdown(socket.SHUT_WR)
            await _Discarding(sock).until_delivered(until_fin=until_fin)
        except OSError:
            pass  # it was reset: there is nothing left to wait for
        except ValueError:
            # Another task has closed it: a number of -1 is no descriptor.
            assert sock.fileno() == -1


class _Discarding:
    """Throws away what comes."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._sock = sock
        self._room = MAX_DISCARDED

    async def until_delivered(self, *, until_fin: bool) -> None:
        # What came before says nothing of what will come.
        while not until_fin and self._sock.is_readable():
            if not await self._discard():
                return
        for pause in _pauses():  # pragma: no branch - they never end
            if until_fin or self._sock.is_readable():
                while await self._discard():
                    pass
                return
            # What is left is our FIN: everything before it has been acknowledged.
            if (count := unacknowledged(self._sock)) is not None and count <= 1:
                return
            if pause:
                with trio.move_on_after(pause):
                    await trio.lowlevel.wait_readable(self._sock)
            else:
                await trio.lowlevel.checkpoint()

    async def _discard(self) -> bool:
        """Whether there may be more."""
        size = len(await self._sock.recv(DISCARD_SIZE))
        self._room -= size
        return size > 0 and self._room > 0


def reset_when_closed(stream: trio.SocketStream) -> None:
    """Make ``close()`` send RST: socket(7), SO_LINGER."""
    on_for_no_time = struct.pack("ii" if os.name == "posix" else "hh", 1, 0)
    if stream.socket.fileno() >= 0:
        # Only to a connection that is not one any more can this fail.
        with suppress(OSError):
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, on_for_no_time)


def _pauses() -> Iterator[float]:
    yield from itertools.repeat(0.0, CHECKPOINTS_BEFORE_SLEEPING)
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(2 * pause, LONGEST_PAUSE)
