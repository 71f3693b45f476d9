"""How a connection begins and ends, outside of its handler."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

import trio

from trio_tlsdown._core.report import ShutdownOutcome
from trio_tlsdown._errors import HandshakeTimeoutError, TLSFailedError
from trio_tlsdown._stream.sslstream import SSLStreamCloser
from trio_tlsdown._stream.stream import T_Stream, TLSStream, abort, is_over
from trio_tlsdown._util import LOGGER


async def wait_first_bytes(transport: trio.abc.Stream) -> bytes | None:
    """Wait until the peer has sent something.

    A connection that ends without a byte is not a failed handshake, but a visitor: a
    health check, or a browser that connected in advance.

    Returns:
      The bytes that had to be read from the transport: none from a socket, whose kernel
      keeps them. None if the peer disconnected without sending a byte.

    Cancellation:
      Nothing is lost, if the transport loses nothing.

    Raises:
      TLSFailedError: the transport is a TLS stream, and its handshake failed.
    """
    try:
        if not isinstance(transport, trio.SocketStream):
            return bytes(await transport.receive_some()) or None
        return b"" if await transport.socket.recv(1, socket.MSG_PEEK) else None
    except TLSFailedError:
        raise  # it has sent something, which was not TLS
    except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
        return None  # reset by the peer, or closed by us


async def do_handshake(
    stream: TLSStream[T_Stream], limit: float, *, since: float | None = None
) -> None:
    """Do the handshake within a time limit; close a stream that fails.

    Args:
      stream: The stream.
      limit: Seconds.
      since: When the limit starts to count, on Trio's clock. Default: now.

    Cancellation:
      The stream is closed.

    Raises:
      HandshakeTimeoutError: it took longer.
      TLSFailedError: refused, by either side.
      TruncatedError: the peer's transport ended first.
      TransportBrokenError: the transport failed.
    """
    began = trio.current_time() if since is None else since
    try:
        with trio.CancelScope(deadline=began + limit) as scope:
            await stream.do_handshake()
        if scope.cancelled_caught:
            raise HandshakeTimeoutError(limit)
    except BaseException:
        await end_abruptly(stream)  # noqa: ASYNC102 - at once when it is cancelled
        raise


def log_failed_handshake(peer: str, error: Exception) -> None:
    """Log a failed handshake, in one line: anybody can cause one."""
    reason = str(error).removeprefix("the TLS handshake failed: ")
    LOGGER.warning("TLS handshake with %s failed: %s", peer, reason)


def log_refusal(peer: str, error: Exception) -> None:
    """Log that *prepare* refused a client; in one line, for the same reason."""
    LOGGER.warning(
        "refused %s before the TLS handshake: %s: %s", peer, type(error).__name__, error
    )


def log_visitor(peer: str, *, prepared: bool = False) -> None:
    """Log a connection that ended before any TLS."""
    what = "left before the TLS handshake" if prepared else "connected and sent nothing"
    LOGGER.debug("%s %s", peer, what)


async def end_gracefully(stream: TLSStream[Any] | SSLStreamCloser) -> None:
    """Shut down within the policy, then close; abort if that is not possible.

    With *https_compatible* it is only closed. If another task is closing the stream, this
    waits for it. A stream that was closed or unwrapped is left alone.

    Cancellation:
      The stream is closed at once.

    Raises:
      trio.BusyResourceError: another task was sending. It was aborted.
    """
    try:
        if not stream.https_compatible:
            report = await stream.shutdown()
            failed = report.outcome is ShutdownOutcome.FAILED
            if not report.close_notify_sent and not failed:
                # It could not be sent, or not in time: aclose() would try again.
                await trio.aclose_forcefully(stream)
                return
        await stream.aclose()
    except trio.ClosedResourceError:
        # Another task closed it first, and may still linger; or closed the transport.
        await stream.aclose()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise


async def end_abruptly(stream: TLSStream[T_Stream]) -> None:
    """Abort a stream; but if TLS has failed, send our alert first.

    It waits no longer than the policy allows a close to wait.

    Cancellation:
      The stream is closed at once.
    """
    if stream.report.outcome is ShutdownOutcome.FAILED:
        with suppress(trio.BrokenResourceError):
            await stream.aclose()
    else:
        await abort(stream)


def outcome_if_over(
    stream: TLSStream[Any] | SSLStreamCloser,
) -> ShutdownOutcome | None:
    """How a stream ended; None if it still has to be closed."""
    over = stream.is_over if isinstance(stream, SSLStreamCloser) else is_over(stream)
    outcome = stream.report.outcome
    # OPEN: somebody closed only the transport.
    return outcome if over and outcome is not ShutdownOutcome.OPEN else None
