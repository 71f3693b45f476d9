"""Closing TCP without destroying what was sent.

``close()`` with unread input, or input that comes later, makes the kernel send RST
and drop what it has not delivered yet, and a receiver's kernel that gets an RST may
drop what its application has not read. So a socket lingers: it says FIN, throws away
what comes, and is closed when the peer's kernel has acknowledged all.

Delivery to the peer's *application* is proven by its answer only.
"""

from __future__ import annotations

import itertools
import socket
import sys
from collections.abc import Iterator
from typing import Final

import trio

TCP: Final = frozenset({socket.AF_INET, socket.AF_INET6})

DISCARD_SIZE: Final = 2**16  # bytes at once

# An idle peer's kernel delays its ACK by up to 44 ms on Linux, and one that is busy
# answers within some passes of our own scheduler.
CHECKPOINTS: Final = 20
FIRST_PAUSE: Final = 0.001  # seconds
LONGEST_PAUSE: Final = 0.016

if sys.platform == "linux":
    import fcntl
    import termios

    def unacknowledged(sock: trio.socket.SocketType) -> int | None:
        """How many bytes the peer's kernel has not acknowledged; a FIN counts as 1."""
        # SIOCOUTQ has the same number: tcp(7).
        count = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
        return int.from_bytes(count, sys.byteorder)

else:  # pragma: no cover - there is no such call there

    def unacknowledged(sock: trio.socket.SocketType) -> int | None:
        """None: nobody knows."""
        return None


def is_quiet(stream: trio.SocketStream) -> bool:
    """Whether closing now can destroy nothing: all was acknowledged, and read."""
    sock = stream.socket
    return (
        sock.fileno() < 0
        or (unacknowledged(sock) == 0 and not sock.is_readable())
        or sock.family not in TCP  # a Unix socket loses nothing
    )


async def linger(stream: trio.SocketStream, seconds: float) -> None:
    """End our direction, and wait until the peer's kernel has all that was sent.

    A peer that sends something meanwhile is in the middle of a conversation, and may
    send more: then this waits until it ends its direction, too.

    Args:
      stream: Nobody else may be using it. It is not closed.
      seconds: To wait at most.
    """
    with trio.move_on_after(seconds):
        try:
            stream.socket.shutdown(socket.SHUT_WR)
            await _wait_until_delivered(stream.socket)
        except OSError:
            pass  # it was reset: there is nothing left to wait for
        except ValueError:
            # Another task has closed it: a number of -1 is no descriptor.
            assert stream.socket.fileno() == -1


async def _wait_until_delivered(sock: trio.socket.SocketType) -> None:
    while sock.is_readable():  # what came before says nothing of what will come
        if not await sock.recv(DISCARD_SIZE):
            return
    for pause in _pauses():  # pragma: no branch - they never end
        if sock.is_readable():
            while await sock.recv(DISCARD_SIZE):
                pass
            return
        # What is left is our FIN: everything before it has been acknowledged.
        if (count := unacknowledged(sock)) is not None and count <= 1:
            return
        if pause:
            with trio.move_on_after(pause):
                await trio.lowlevel.wait_readable(sock)
        else:
            await trio.lowlevel.checkpoint()


def _pauses() -> Iterator[float]:
    yield from itertools.repeat(0.0, CHECKPOINTS)
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(2 * pause, LONGEST_PAUSE)
