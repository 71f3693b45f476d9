"""Tracing many connections: which one an event is of, and what became of one."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final, Literal, TypeAlias

import attrs

from .report import TraceEvent, TraceKind

BYTES: Final = frozenset({TraceKind.BYTES_SENT, TraceKind.BYTES_RECEIVED})

# Events that a `ConnectionTrace` keeps at most, of those that carry bytes.
MAX_BYTE_EVENTS: Final = 1000


@attrs.frozen
class TracedConnection:
    """Which connection a `TraceEvent` is of, for ``open_tls_nursery(trace=...)``."""

    id: int
    """Its number: no other connection of this process has it."""

    side: Literal["client", "server"]
    """Our role in it."""

    peer: str
    """Who is at the other end, as log lines have it: ``"example.org:443"``."""

    def __str__(self) -> str:
        """Name it in a log line."""
        return f"{self.side} {self.id} of {self.peer}"


Trace: TypeAlias = Callable[[TracedConnection, TraceEvent], object]

_ids: Final = itertools.count(1)


def trace_of(
    trace: Trace | None, side: Literal["client", "server"], peer: str
) -> Callable[[TraceEvent], object] | None:
    """The ``trace=`` of one more connection's stream."""
    if trace is None:
        return None
    return partial(trace, TracedConnection(next(_ids), side, peer))


@attrs.define(eq=False)
class ConnectionTrace:
    """Collects what happened on one connection; ``str()`` is a line for a log.

    Give its `add` to one stream, as ``TLSStream(..., trace=collected.add)``. Or have one
    for each connection of a nursery, which ends with TRANSPORT_CLOSED or UNWRAPPED::

        traces: dict[TracedConnection, ConnectionTrace] = {}


        def trace(connection: TracedConnection, event: TraceEvent) -> None:
            traces.setdefault(connection, ConnectionTrace()).add(event)
            if event.kind.ends_connection:
                logging.info("%s: %s", connection, traces.pop(connection))


        async with open_tls_nursery(trace=trace) as tls: ...
    """

    events: list[TraceEvent] = attrs.field(factory=list[TraceEvent], init=False)
    """What happened, in order. Of the events that carry bytes it has the first 1000."""

    _bytes: Counter[TraceKind] = attrs.field(factory=Counter[TraceKind], init=False)
    _byte_events: int = attrs.field(default=0, init=False)

    @property
    def bytes_sent(self) -> int:
        """Ciphertext given to the transport, in bytes, of all events."""
        return self._bytes[TraceKind.BYTES_SENT]

    @property
    def bytes_received(self) -> int:
        """Ciphertext received from the transport, in bytes, of all events."""
        return self._bytes[TraceKind.BYTES_RECEIVED]

    def add(self, event: TraceEvent) -> None:
        """Add an event: this is the ``trace=`` of a stream."""
        if event.kind in BYTES:
            self._bytes[event.kind] += event.size
            self._byte_events += 1
            if self._byte_events > MAX_BYTE_EVENTS:
                return
        self.events.append(event)

    def __str__(self) -> str:
        """Say how many bytes there were, and when what else happened.

        Times are in milliseconds since the first event.
        """
        words = [f"{self.bytes_sent} bytes sent", f"{self.bytes_received} received"]
        words += [
            f"{event.kind.value} at {(event.time - self.events[0].time) * 1000:.1f} ms"
            for event in self.events
            if event.kind not in BYTES
        ]
        return ", ".join(words)
