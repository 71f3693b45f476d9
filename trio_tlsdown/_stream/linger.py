"""Closing TCP without destroying sent data, and aborting it so that the peer notices.

``close()`` with unread input, or input that arrives later, makes the kernel send RST
and drop what it has not delivered yet; a kernel that receives RST may drop what its
application has not read. So a socket lingers: it sends FIN, discards input, and closes
once the peer's kernel has acknowledged everything. What our kernel says about the
socket decides, never what a peer ought to do.

Only the peer's answer proves that its *application* has the data.
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Final, TypeGuard

import trio

TCP: Final = frozenset({socket.AF_INET, socket.AF_INET6})

DISCARD_SIZE: Final = 2**16  # bytes per read

# Most bytes discarded: as much as two kernels buffer when a peer learns of the end.
# Linux lets a receive buffer grow to 6 MiB.
MAX_DISCARDED: Final = 2**23

# A busy peer's kernel acknowledges within a few passes of our scheduler. An idle one
# delays its ACK, by up to 44 ms on Linux.
CHECKPOINTS_BEFORE_SLEEPING: Final = 20
FIRST_PAUSE: Final = 0.001  # seconds
LONGEST_PAUSE: Final = 0.016

if sys.platform == "linux":
    import fcntl
    import termios

    SO_MEMINFO: Final = 55  # socket(7) lacks it; its fields: linux/sock_diag.h

    def holds_nothing(sock: trio.socket.SocketType) -> bool:
        """Whether the kernel surely holds nothing that arrived or was sent.

        The usual answer before a close, from one system call. False says nothing.
        """
        try:
            memory = sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 24)
            # SK_MEMINFO_RMEM_ALLOC, four others, SK_MEMINFO_WMEM_QUEUED.
            arrived, *_, sent = struct.unpack("6I", memory)
        except (OSError, struct.error):
            return False  # Linux < 4.12, or a processor with other numbers
        return not (arrived or sent)

    def unacknowledged(sock: trio.socket.SocketType) -> int | None:
        """How many sent bytes are unacknowledged; a FIN counts as one."""
        # SIOCOUTQ has the same number: tcp(7).
        return _ask(sock, termios.TIOCOUTQ)

    def unread(sock: trio.socket.SocketType) -> int | None:
        """How many received bytes are unread."""
        return _ask(sock, termios.FIONREAD)

    def _ask(sock: trio.socket.SocketType, request: int) -> int | None:
        try:
            count = fcntl.ioctl(sock.fileno(), request, bytes(4))
        except OSError:
            return None  # not supported by every address family
        return int.from_bytes(count, sys.byteorder)

else:  # pragma: no cover - no such calls

    def holds_nothing(sock: trio.socket.SocketType) -> bool:
        """False: this system cannot tell."""
        return False

    def unacknowledged(sock: trio.socket.SocketType) -> int | None:
        """None: this system cannot tell."""
        return None

    def unread(sock: trio.socket.SocketType) -> int | None:
        """None: this system cannot tell."""
        return None


def over_kernel_socket(transport: trio.abc.Stream) -> TypeGuard[trio.SocketStream]:
    """Whether what the kernel says about the descriptor is about the stream.

    Those of `trio.socket.set_custom_socket_factory` may be simulated.
    """
    if not isinstance(transport, trio.SocketStream):
        return False
    try:
        return type(transport.socket) is _type_of_sockets()
    except OSError:  # no descriptor is left, or a sandbox forbids TCP
        return True


@cache
def _type_of_sockets() -> type[trio.socket.SocketType]:
    # Trio does not export the type of its own.
    with socket.socket() as sock:
        return type(trio.socket.from_stdlib_socket(sock))


def over_tcp(transport: trio.abc.Stream) -> TypeGuard[trio.SocketStream]:
    """Whether closing can destroy sent data; a Unix socket never loses any."""
    return over_kernel_socket(transport) and transport.socket.family in TCP


def all_acknowledged_and_read(stream: trio.SocketStream) -> bool:
    """Whether closing now cannot destroy anything."""
    sock = stream.socket
    if sock.fileno() < 0 or holds_nothing(sock):
        return True
    # Readable with no data means FIN or RST: nothing more can arrive.
    return unread(sock) == 0 and (unacknowledged(sock) == 0 or sock.is_readable())


async def linger(
    stream: trio.SocketStream, seconds: float, *, until_fin: bool = False
) -> None:
    """Send FIN, and wait until the peer's kernel has everything that was sent.

    A peer that sends something meanwhile is in mid-conversation and may send more, so
    this then waits for its FIN. Up to `MAX_DISCARDED` bytes are read.

    Args:
      stream: A task that waits for its socket gets `trio.ClosedResourceError`, and no
        other may use it from now on. It is not closed.
      seconds: How long to wait at most.
      until_fin: Wait for the peer's FIN in any case. Default: False.
    """
    sock = stream.socket
    trio.lowlevel.notify_closing(sock)
    with trio.move_on_after(seconds):
        try:
            sock.shutdown(socket.SHUT_WR)
            await _Discarding(sock).until_delivered(until_fin=until_fin)
        except OSError:
            pass  # reset: nothing left to wait for
        except ValueError:
            # Another task has closed it: -1 is not a descriptor.
            assert sock.fileno() == -1


class _Discarding:
    """Discards what arrives on a socket."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._sock = sock
        self._room = MAX_DISCARDED

    async def until_delivered(self, *, until_fin: bool) -> None:
        # Input that was there before says nothing about what is still to come.
        while not until_fin and self._sock.is_readable():
            if not await self._discard():
                return
        for pause in _pauses():  # pragma: no branch - they never end
            if until_fin or self._sock.is_readable():
                while await self._discard():
                    pass
                return
            # One unacknowledged byte is our FIN.
            if (count := unacknowledged(self._sock)) is not None and count <= 1:
                return
            if pause:
                with trio.move_on_after(pause):
                    await trio.lowlevel.wait_readable(self._sock)
            else:
                await trio.lowlevel.checkpoint()

    async def _discard(self) -> bool:
        """Discard one read; return whether to go on."""
        size = len(await self._sock.recv(DISCARD_SIZE))
        self._room -= size
        return size > 0 and self._room > 0


def reset_when_closed(stream: trio.SocketStream) -> None:
    """Make ``close()`` send RST: socket(7), SO_LINGER. Unix sockets ignore it."""
    on_for_no_time = struct.pack("ii" if os.name == "posix" else "hh", 1, 0)
    with suppress(OSError):  # the connection, or the socket, has gone already
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, on_for_no_time)


def _pauses() -> Iterator[float]:
    yield from itertools.repeat(0.0, CHECKPOINTS_BEFORE_SLEEPING)
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(2 * pause, LONGEST_PAUSE)
