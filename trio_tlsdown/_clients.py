"""The client connections of a nursery: which there are, and how they ended."""

from __future__ import annotations

from collections import Counter
from typing import Final

import trio

from ._accept import SocketTLSStream
from ._shutdown import ShutdownOutcome

# So many clients there may be before it is worth looking which have been closed.
SWEEP_AT_LEAST: Final = 64


class Clients:
    """The streams that have to end with the nursery, and a tally of the others."""

    def __init__(self) -> None:
        self.over = False
        self._streams: set[SocketTLSStream] = set()
        self._tally: Counter[ShutdownOutcome] = Counter()
        self._sweep_at = SWEEP_AT_LEAST

    @property
    def streams(self) -> list[SocketTLSStream]:
        """Those that have not been counted."""
        return list(self._streams)

    @property
    def tally(self) -> Counter[ShutdownOutcome]:
        """How many have ended, by how they ended: a copy."""
        self._sweep()
        return self._tally.copy()

    def check_open(self) -> None:
        """Raise `RuntimeError` if no more can be added."""
        if self.over:
            raise RuntimeError("this TLSNursery is over: it cannot open connections")

    def add(self, stream: SocketTLSStream) -> None:
        """Take responsibility for a stream."""
        if len(self._streams) >= self._sweep_at:
            self._sweep()
            self._sweep_at = max(2 * len(self._streams), SWEEP_AT_LEAST)
        self._streams.add(stream)

    def count(
        self, stream: SocketTLSStream, outcome: ShutdownOutcome | None = None
    ) -> None:
        """Let go of a stream that has ended; by default as its report says."""
        self._streams.discard(stream)
        self._tally[outcome or stream.report.outcome] += 1

    def _sweep(self) -> None:
        # Nobody tells when the user closes a stream, so it is looked for: seldom
        # enough that it costs each connection the same.
        for stream in self.streams:
            if _is_closed(stream):
                self.count(stream)


def _is_closed(stream: SocketTLSStream) -> bool:
    transport: trio.SocketStream | None = stream.transport_stream
    unwrapped = transport is None  # pyright: ignore[reportUnnecessaryComparison]
    return unwrapped or stream.transport_stream.socket.fileno() == -1
