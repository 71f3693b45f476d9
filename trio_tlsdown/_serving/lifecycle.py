"""The life of one connection, beside its handler: its handshake, and its end."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

import trio

from trio_tlsdown._core.report import ShutdownOutcome
from trio_tlsdown._errors import HandshakeTimeoutError
from trio_tlsdown._stream.sslstream import SSLStreamCloser
from trio_tlsdown._stream.stream import T_Stream, TLSStream, is_over
from trio_tlsdown._util import LOGGER


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


async def end_gracefully(stream: TLSStream[Any] | SSLStreamCloser) -> None:
    """Shut down within the policy, then close; abort what does not go.

    With *https_compatible* it is only closed. A task that is closing the stream
    already is waited for. Nothing happens to one that was closed or unwrapped.

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
                # It cannot be sent, or not in time: aclose() would try again.
                await trio.aclose_forcefully(stream)
                return
        await stream.aclose()
    except trio.ClosedResourceError:
        # Somebody was faster, and may still linger; or has closed the transport.
        await stream.aclose()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise


async def end_abruptly(stream: TLSStream[T_Stream]) -> None:
    """Abort a stream, unless TLS has failed: then the peer hears our alert first.

    It waits for no longer than the policy lets a close wait.

    Cancellation:
      The stream is closed at once.
    """
    if stream.report.outcome is ShutdownOutcome.FAILED:
        with suppress(trio.BrokenResourceError):
            await stream.aclose()
    else:
        await trio.aclose_forcefully(stream)


def outcome_if_over(
    stream: TLSStream[Any] | SSLStreamCloser,
) -> ShutdownOutcome | None:
    """How a stream ended that is over; None if there is more to do."""
    over = stream.is_over if isinstance(stream, SSLStreamCloser) else is_over(stream)
    outcome = stream.report.outcome
    # Somebody may have closed just the transport.
    return outcome if over and outcome is not ShutdownOutcome.OPEN else None
