"""The socket under a transport, called without waiting.

Trio's SocketStream asks the kernel by way of four coroutines, and is told to wait by an
exception. A descriptor is never kept: it is asked of the open socket for each call, so
that it cannot be that of somebody else by then.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Final

import trio

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
