"""What was seen on a connection, by both parties, in order.

While TLS is on, that is what the streams trace. A connection that is used again
in clear text after `TLSStream.unwrap` has no stream that could trace it: these
few events are recorded by whoever uses it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Literal, TypeAlias

import attrs
import trio

from trio_tlsdown import TraceEvent, TraceKind

Side: TypeAlias = Literal["client", "server"]


class ClearKind(enum.Enum):
    """What happens after `TLSStream.unwrap`, beside what `TraceKind` has."""

    UNWRAPPED = "unwrapped"
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
    _muted: set[Side] = attrs.field(factory=set[Side])

    def tracer(self, side: Side) -> Callable[[TraceEvent], None]:
        """Make what a stream of that side takes as its ``trace=``."""

        def trace(event: TraceEvent) -> None:
            if side not in self._muted:
                self._add(event)

        return trace

    def mute(self, side: Side) -> None:
        """Leave out what the stream of this side traces from now on.

        `TLSStream.unwrap` ends the stream, which then says that the transport
        was closed, and that is not so.
        """
        self._muted.add(side)

    def clear(self, side: Side, kind: ClearKind, size: int = 0) -> None:
        """Add what this side did or saw in clear text."""
        self._add(ClearEvent(trio.current_time(), side, kind, size))

    def transport(self, side: Side, kind: TraceKind) -> None:
        """Add what became of the transport that this side has unwrapped."""
        self._add(TraceEvent(trio.current_time(), side, kind))

    async def wait_for(self, side: Side, kind: TraceKind) -> None:
        """Wait until that side has seen something of that kind.

        Cancellation:
          Nothing is lost.
        """
        while not any(e.side == side and e.kind is kind for e in self.events):
            await self._arrived.wait()

    def _add(self, event: Event) -> None:
        self.events.append(event)
        self._arrived.set()
        self._arrived = trio.Event()
