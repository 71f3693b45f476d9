"""A handshake that does not take for ever."""

from __future__ import annotations

import trio

from ._errors import HandshakeTimeoutError
from ._log import LOGGER
from ._stream import T_Stream, TLSStream


async def shake_hands(
    stream: TLSStream[T_Stream], limit: float, *, since: float | None = None
) -> None:
    """Do the handshake within a limit of time, or close the stream.

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
        began = trio.current_time() if since is None else since
        with trio.CancelScope(deadline=began + limit) as scope:
            await stream.do_handshake()
        if scope.cancelled_caught:
            raise HandshakeTimeoutError(limit)
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise


def log_failed_handshake(peer: str, error: Exception) -> None:
    """In one line: there is nothing to mend, and anybody can cause it."""
    LOGGER.warning("no handshake with %s: %s", peer, error)
