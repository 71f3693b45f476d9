"""How servers and nurseries end a connection: that went well, or did not."""

from __future__ import annotations

from contextlib import suppress

import trio

from ._shutdown import ShutdownOutcome
from ._stream import T_Stream, TLSStream


async def end_gracefully(stream: TLSStream[T_Stream]) -> None:
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


def outcome_if_closed(stream: TLSStream[trio.SocketStream]) -> ShutdownOutcome | None:
    """How a stream ended that was closed or unwrapped; None if there is more to do."""
    transport: trio.SocketStream | None = stream.transport_stream
    unwrapped = transport is None  # pyright: ignore[reportUnnecessaryComparison]
    if not unwrapped and stream.transport_stream.socket.fileno() != -1:
        return None
    outcome = stream.report.outcome
    # Somebody may have closed just the transport.
    return None if outcome is ShutdownOutcome.OPEN else outcome
