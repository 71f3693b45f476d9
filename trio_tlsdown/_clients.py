"""The client connections of a nursery: which there are, and how they ended."""

from __future__ import annotations

from collections import Counter
from typing import Final

from ._accept import SocketTLSStream
from ._ending import outcome_if_closed
from ._shutdown import ShutdownOutcome

# So many clients there may be before it is worth looking which have been closed.
SWEEP_AT_LEAST: Final = 64


class Clients:
    """The streams that have to end with the nursery, and a tally of the others."""

    def __init__(self) -> None:
        self.over = False
        self._established: dict[SocketTLSStream, bool] = {}
        self._tally: Counter[ShutdownOutcome] = Counter()
        self._sweep_at = SWEEP_AT_LEAST

    @property
    def streams(self) -> list[SocketTLSStream]:
        """Those that have not been counted."""
        return list(self._established)

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
        """Take responsibility for a stream that is about to shake hands."""
        if len(self._established) >= self._sweep_at:
            self._sweep()
            self._sweep_at = max(2 * len(self._established), SWEEP_AT_LEAST)
        self._established[stream] = False

    def established(self, stream: SocketTLSStream) -> None:
        """Its handshake is done."""
        if stream in self._established:  # it has not been ended meanwhile
            self._established[stream] = True

    def count(self, stream: SocketTLSStream) -> None:
        """Let go of a stream that has ended, unless that was done already."""
        established = self._established.pop(stream, None)
        if established is not None:
            failed = ShutdownOutcome.FAILED
            self._tally[stream.report.outcome if established else failed] += 1

    def _sweep(self) -> None:
        # Nobody tells when the user closes a stream, so it is looked for: seldom
        # enough that it costs each connection the same.
        for stream in self.streams:
            if outcome_if_closed(stream) is not None:
                self.count(stream)
