"""A handshake within a limit of time, and what becomes of one that fails."""

from __future__ import annotations

import socket

import trio

from ._ending import end_abruptly
from ._errors import HandshakeTimeoutError
from ._log import LOGGER
from ._stream import T_Stream, TLSStream


async def hear_from(transport: trio.SocketStream) -> bool:
    """Wait until the peer has sent something, and leave it in the kernel.

    A connection that ends without a byte is no handshake that failed, but a visitor:
    a health check, or a browser that connected in advance.

    Returns:
      Whether it has; False when it has gone without a byte.

    Cancellation:
      Nothing is lost.
    """
    try:
        return bool(await transport.socket.recv(1, socket.MSG_PEEK))
    except (OSError, trio.ClosedResourceError):  # of the peer's RST, or closed by us
        return False


async def shake_hands(
    stream: TLSStream[T_Stream], limit: float, *, since: float | None = None
) -> None:
    """Do the handshake within a limit of time; a stream that fails is closed.

    Args:
      stream: The stream.
      limit: Seconds.
      since: When they began to run, on Trio's clock. Default: now.

    Cancellation:
      The stream is closed.

    Raises:
      HandshakeTimeoutError: it took longer.
      TLSFailedError: refused, by either side.
      TruncatedError: the peer's transport ended first.
      TransportBrokenError: the transport failed.
    """
    try:
        await do_handshake(stream, limit, since=since)
    except BaseException:
        await end_abruptly(stream)  # noqa: ASYNC102 - at once when it is cancelled
        raise


async def do_handshake(
    stream: TLSStream[T_Stream], limit: float, *, since: float | None = None
) -> None:
    """The same; a stream that fails stays open."""
    began = trio.current_time() if since is None else since
    with trio.CancelScope(deadline=began + limit) as scope:
        await stream.do_handshake()
    if scope.cancelled_caught:
        raise HandshakeTimeoutError(limit)


def log_failed_handshake(peer: str, error: Exception) -> None:
    """In one line: there is nothing to mend, and anybody can cause it."""
    reason = str(error).removeprefix("the TLS handshake failed: ")
    LOGGER.warning("TLS handshake with %s failed: %s", peer, reason)


def log_visitor(peer: str) -> None:
    """A connection that ended without a byte."""
    LOGGER.debug("%s connected and sent nothing", peer)
