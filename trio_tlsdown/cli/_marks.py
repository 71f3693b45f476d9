"""From what two parties saw to what is worth drawing.

The bytes of a handshake, and those that carry a close_notify, only repeat what
another event says, so they are left out. Other bytes of one direction are
added up until the party that saw them saw something else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import attrs

from trio_tlsdown import TraceEvent, TraceKind

from ._record import Side

OTHER: Final[dict[Side, Side]] = {"client": "server", "server": "client"}
CARRIER: Final[dict[TraceKind, TraceKind]] = {
    TraceKind.CLOSE_NOTIFY_SENT: TraceKind.BYTES_SENT,
    TraceKind.CLOSE_NOTIFY_RECEIVED: TraceKind.BYTES_RECEIVED,
}
BYTES: Final = frozenset(CARRIER.values())


@attrs.define(eq=False)
class Mark:
    """One thing that a party saw, as it is drawn."""

    time: float
    """Seconds on Trio's clock; of the first, if several bytes are added up."""

    side: Side
    """Whose it is."""

    kind: TraceKind
    """What it is."""

    size: int = 0
    """Bytes, of the two kinds that carry bytes."""

    clear: bool = False
    """Whether this party has unwrapped, so that bytes are clear text."""


def marks_of(events: Iterable[TraceEvent], *, data_only: bool = False) -> list[Mark]:
    """What of some events to draw, in the order of time.

    Args:
      events: What was seen.
      data_only: Whether their bytes are those of application data already.
    """
    marks: list[Mark] = []
    last: dict[Side, Mark] = {}
    unwrapped: set[Side] = set()
    in_order = sorted(events, key=lambda event: event.time)
    if not data_only:
        in_order = _without_alert_bytes(_without_handshake_bytes(in_order))
    for event in in_order:
        previous = last.get(event.side)
        if previous and event.kind in BYTES and event.kind is previous.kind:
            previous.size += event.size
        else:
            clear = event.side in unwrapped
            mark = Mark(event.time, event.side, event.kind, event.size, clear)
            last[event.side] = mark
            marks.append(mark)
        if event.kind is TraceKind.UNWRAPPED:
            unwrapped.add(event.side)
    return marks


def _without_handshake_bytes(events: Sequence[TraceEvent]) -> list[TraceEvent]:
    sent = _handshake_sizes(events)
    left = {
        (party, kind): sent[party if kind is TraceKind.BYTES_SENT else OTHER[party]]
        for party in OTHER
        for kind in BYTES
    }
    kept: list[TraceEvent] = []
    for event in events:
        if event.kind in BYTES and left[event.side, event.kind] > 0:
            left[event.side, event.kind] -= event.size
        else:
            kept.append(event)
    return kept


def _handshake_sizes(events: Sequence[TraceEvent]) -> Counter[Side]:
    # A client of TLS 1.3 is done before its last flight leaves, but the server
    # is not done before it has come. So the handshake has whatever one of them
    # had sent, or received, when it was done.
    seen: Counter[tuple[Side, TraceKind]] = Counter()
    sent: Counter[Side] = Counter()
    for event in events:
        me, peer = event.side, OTHER[event.side]
        seen[me, event.kind] += event.size
        if event.kind is TraceKind.HANDSHAKE_DONE:
            sent[me] = max(sent[me], seen[me, TraceKind.BYTES_SENT])
            sent[peer] = max(sent[peer], seen[me, TraceKind.BYTES_RECEIVED])
    return sent


def _without_alert_bytes(events: Sequence[TraceEvent]) -> list[TraceEvent]:
    kept: list[TraceEvent] = []
    following: dict[Side, TraceKind] = {}
    for event in reversed(events):
        after = following.get(event.side)
        if after is None or CARRIER.get(after) is not event.kind:
            kept.append(event)
        following[event.side] = event.kind
    return kept[::-1]
