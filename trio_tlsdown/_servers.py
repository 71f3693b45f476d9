"""The servers of a nursery: which run, and how the connections of the others ended."""

from __future__ import annotations

from collections import Counter

from ._server import TLSServer
from ._shutdown import ShutdownOutcome


class Servers:
    """The servers that have to end with the nursery, and a tally of the others.

    Attributes:
      running: Those that have not been counted.
    """

    def __init__(self) -> None:
        self.running: set[TLSServer] = set()
        self._tally: Counter[ShutdownOutcome] = Counter()

    @property
    def tally(self) -> Counter[ShutdownOutcome]:
        """How many connections have ended, by how they ended: a copy."""
        return sum((server.tally for server in self.running), self._tally.copy())

    def count(self, server: TLSServer) -> None:
        """Let go of a server whose last connection has ended."""
        self.running.discard(server)
        self._tally += server.tally
