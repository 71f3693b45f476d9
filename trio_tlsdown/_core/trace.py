"""Tracing many connections: naming them, and collecting the events of one."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final, Literal, TypeAlias

import attrs

from .report import TraceEvent, TraceKind

BYTES: Final = frozenset({TraceKind.BYTES_SENT, TraceKind.BYTES_RECEIVED})

# The most byte-carrying events that a `ConnectionTrace` keeps.
MAX_BYTE_EVENTS: Final = 1000


@attrs.frozen
class TracedConnection:
    """The connection of a `TraceEvent`, for ``open_tls_nursery(trace=...)``.

    It is a TLS connection: TLS in TLS is two of them, one over the other, and so is TLS
    that begins anew on a transport that `TLSStream.unwrap` has returned. What a transport
    carries before TLS, such as STARTTLS, is not traced.
    """

    id: int
    """A number that is unique in this process."""

    side: Literal["client", "server"]
    """Our role in it."""

    peer: str
    """The other end, as in log lines: ``"example.org:443"``."""

    def __str__(self) -> str:
        """Name it in a log line."""
        return f"{self.side} {self.id} of {self.peer}"


Trace: TypeAlias = Callable[[TracedConnection, TraceEvent], object]

connection_ids: Final = itertools.count(1)


def trace_of(
    trace: Trace | None, id_: int, side: Literal["client", "server"], peer: str
) -> Callable[[TraceEvent], object] | None:
    """The ``trace=`` argument for the stream of a connection."""
    if trace is None:
        return None
    return partial(trace, TracedConnection(id_, side, peer))


@attrs.define(eq=False)
class ConnectionTrace:
    """Collects the events of one connection; ``str()`` makes a log line of them.

    Pass its `add` to a stream: ``TLSStream(..., trace=collected.add)``. Or keep one for
    each connection of a nursery, whose last event is TRANSPORT_CLOSED or UNWRAPPED::

        traces: dict[TracedConnection, ConnectionTrace] = {}


        def trace(connection: TracedConnection, event: TraceEvent) -> None:
            traces.setdefault(connection, ConnectionTrace()).add(event)
            if event.kind.ends_connection:
                logging.info("%s: %s", connection, traces.pop(connection))


        async with open_tls_nursery(trace=trace) as tls: ...
    """

    events: list[TraceEvent] = attrs.field(factory=list[TraceEvent], init=False)
    """The events in order. Of those that carry bytes, only the first 1000."""

    _bytes: Counter[TraceKind] = attrs.field(factory=Counter[TraceKind], init=False)
    _byte_events: int = attrs.field(default=0, init=False)

    @property
    def bytes_sent(self) -> int:
        """Bytes of ciphertext given to the transport, over all events."""
        return self._bytes[TraceKind.BYTES_SENT]

    @property
    def bytes_received(self) -> int:
        """Bytes of ciphertext received from the transport, over all events."""
        return self._bytes[TraceKind.BYTES_RECEIVED]

    def add(self, event: TraceEvent) -> None:
        """Add an event. Pass this method as ``trace=`` to a stream."""
        if event.kind in BYTES:
            self._bytes[event.kind] += event.size
            self._byte_events += 1
            if self._byte_events > MAX_BYTE_EVENTS:
                return
        self.events.append(event)

    def __str__(self) -> str:
        """The byte counts, then the other events with their times.

        Times are in milliseconds since the first event.
        """
        words = [f"{self.bytes_sent} bytes sent", f"{self.bytes_received} received"]
        words += [
            f"{event.kind.value} at {(event.time - self.events[0].time) * 1000:.1f} ms"
            for event in self.events
            if event.kind not in BYTES
        ]
        return ", ".join(words)
