"""What was seen on a connection, by both parties, in order.

While TLS is on, that is what the streams trace. A connection that is used again
in clear text after `TLSStream.unwrap` has no stream that could trace it: these
few events are recorded by whoever uses it.
"""

from __future__ import annotations

import enum
from typing import Literal, TypeAlias

import attrs
import trio

from trio_tlsdown import TraceEvent, TraceKind

Side: TypeAlias = Literal["client", "server"]


class ClearKind(enum.Enum):
    """What happens after `TLSStream.unwrap`, beside what `TraceKind` has."""

    SENT = "clear text sent"
    RECEIVED = "clear text received"


@attrs.frozen
class ClearEvent:
    """One thing that happened after `TLSStream.unwrap`."""

    time: float
    """Seconds on Trio's clock."""

    side: Side
    """Which party saw it."""

    kind: ClearKind
    """What it was."""

    size: int = 0
    """Bytes, for the two kinds that carry bytes."""


Event: TypeAlias = TraceEvent | ClearEvent


@attrs.define(eq=False)
class Record:
    """Collects the events of both parties."""

    events: list[Event] = attrs.field(factory=list[Event])
    _arrived: trio.Event = attrs.field(factory=trio.Event)

    def add(self, event: Event) -> None:
        """Add what a stream traces: this is its ``trace=``."""
        self.events.append(event)
        self._arrived.set()
        self._arrived = trio.Event()

    def clear(self, side: Side, kind: ClearKind, size: int = 0) -> None:
        """Add what this side did or saw in clear text."""
        self.add(ClearEvent(trio.current_time(), side, kind, size))

    def transport(self, side: Side, kind: TraceKind) -> None:
        """Add what became of the transport that this side has unwrapped."""
        self.add(TraceEvent(trio.current_time(), side, kind))

    async def wait_for(self, side: Side, kind: TraceKind) -> None:
        """Wait until that side has seen something of that kind.

        Cancellation:
          Nothing is lost.
        """
        while not any(e.side == side and e.kind is kind for e in self.events):
            await self._arrived.wait()
