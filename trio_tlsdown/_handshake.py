"""A handshake that does not take for ever."""

from __future__ import annotations

import trio

from ._errors import HandshakeTimeoutError
from ._log import LOGGER
from ._stream import T_Stream, TLSStream


async def shake_hands(stream: TLSStream[T_Stream], seconds: float) -> None:
    """Do the handshake within so many seconds, or close the stream.

    Cancellation:
      The stream is closed.

    Raises:
      HandshakeTimeoutError: it took longer.
      TLSFailedError: refused, by either side.
      TruncatedError: the peer's transport ended first.
      TransportBrokenError: the transport failed.
    """
    try:
        with trio.move_on_after(seconds) as scope:
            await stream.do_handshake()
        if scope.cancelled_caught:
            raise HandshakeTimeoutError(seconds)
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise


def log_failed_handshake(peer: str, error: Exception) -> None:
    """In one line: there is nothing to mend, and anybody can cause it."""
    LOGGER.warning("no handshake with %s: %s", peer, error)
