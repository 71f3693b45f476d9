"""What was seen on a connection, by both parties, in order.

While TLS is on, that is what the streams trace. A connection that is used again
in clear text after `TLSStream.unwrap` has no stream that could trace it: these
few events are noted by whoever uses it. What is sent or received after a party
has unwrapped is clear text.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs
import trio

from trio_tlsdown import TraceEvent, TraceKind

Side: TypeAlias = Literal["client", "server"]


@attrs.define(eq=False)
class Record:
    """Collects the events of both parties."""

    events: list[TraceEvent] = attrs.field(factory=list[TraceEvent])
    _arrived: trio.Event = attrs.field(factory=trio.Event)

    def add(self, event: TraceEvent) -> None:
        """Add what a stream traces: this is its ``trace=``."""
        self.events.append(event)
        self._arrived.set()
        self._arrived = trio.Event()

    def note(self, side: Side, kind: TraceKind, size: int = 0) -> None:
        """Add what this side did or saw after it has unwrapped."""
        self.add(TraceEvent(trio.current_time(), side, kind, size))

    async def wait_for(self, side: Side, kind: TraceKind) -> None:
        """Wait until that side has seen something of that kind.

        Cancellation:
          Nothing is lost.
        """
        while not any(e.side == side and e.kind is kind for e in self.events):
            await self._arrived.wait()
