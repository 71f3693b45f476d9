"""Do the two ends of a connection agree how it ended?"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import trio

from trio_tlsdown import ShutdownOutcome, TLSStream, TruncatedError

if TYPE_CHECKING:
    from ._scripted import ScriptedPeer

End: TypeAlias = "TLSStream[Any] | ScriptedPeer"

_watched: Final[ContextVar[list[tuple[End, End]] | None]] = ContextVar(
    "watched", default=None
)


def watch(one: End, other: End) -> None:
    """Have a connection known to those who are `watching`."""
    connections = _watched.get()
    if connections is not None:
        connections.append((one, other))


@contextmanager
def watching() -> Generator[list[tuple[End, End]]]:
    """A list that gets each connection that is made inside, by child tasks too."""
    connections: list[tuple[End, End]] = []
    token = _watched.set(connections)
    try:
        yield connections
    finally:
        _watched.reset(token)


async def check_endings(one: End, other: End) -> None:
    """Check that both ends of a connection agree how it ended, or how far it is.

    It first reads everything that is on its way, so use it at the end of a test, when
    nobody else uses the two ends.

    - If an end reports that it has sent close_notify, the other one got it, unless that
      one could no longer receive; and the other way round.
    - No end saw a close_notify that the other one does not report as sent: no end is
      falsely clean.
    - A `TLSStream` is COMPLETE if and only if both alerts have crossed.

    Args:
      one: A `TLSStream` or a `ScriptedPeer`.
      other: Its peer.

    Cancellation:
      Part of what was on its way has been read.

    Raises:
      AssertionError: they do not agree.
    """
    one_hears = await _read_on(one)
    other_hears = await _read_on(other)
    for sender, receiver, hears in (one, other, other_hears), (other, one, one_hears):
        sent, received = _sent(sender), _received(receiver)
        assert sent or not received, (
            f"a false end: {receiver} received a close_notify that {sender} "
            "does not report as sent"
        )
        assert received or not (sent and hears), (
            f"{sender} reports a close_notify as sent that never came to {receiver}"
        )
    for end in (one, other):
        if isinstance(end, TLSStream):
            report = end.report
            crossed = report.close_notify_sent and report.close_notify_received
            assert (report.outcome is ShutdownOutcome.COMPLETE) is crossed, report


def _sent(end: End) -> bool:
    facts = end.report if isinstance(end, TLSStream) else end
    return facts.close_notify_sent


def _received(end: End) -> bool:
    facts = end.report if isinstance(end, TLSStream) else end
    return facts.close_notify_received


async def _read_on(end: End) -> bool:
    """Read what has come; whether *end* was able to."""
    # It imports pytest, if that is there, for which the command would wait at its start.
    from trio.testing import wait_all_tasks_blocked

    able = True

    async def read() -> None:
        nonlocal able
        able = await _read_all(end)

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            scope.cancel()  # there is no more
    return able


async def _read_all(end: End) -> bool:
    try:
        if isinstance(end, TLSStream):
            return await _read_stream(end)
        if end.transport_end is None:
            await end.hear_to_end()
    except trio.ClosedResourceError:
        return False
    return end.transport_end == "FIN" and end.error is None


async def _read_stream(stream: TLSStream[Any]) -> bool:
    try:
        stream.version()
        while await stream.receive_some():
            pass
    except trio.NeedHandshakeError:
        return False
    except TruncatedError:
        return True
    except trio.BrokenResourceError:
        return False
    return True
