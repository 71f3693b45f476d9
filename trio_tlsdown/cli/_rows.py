"""From what two parties saw to the rows of a swimlane.

Each mark is a row. Two marks that are the two ends of one thing, such as a
close_notify that one party sent and the other received, become one row, an
arrow, unless that would change the order in which the party of the later one
saw things: then they crossed with something, and both ends keep their rows.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final

import attrs

from trio_tlsdown import TraceEvent, TraceKind

from ._marks import BYTES, OTHER, Mark, marks_of

# What one party does, and how the other sees it.
CROSSING: Final[dict[TraceKind, frozenset[TraceKind]]] = {
    TraceKind.BYTES_SENT: frozenset({TraceKind.BYTES_RECEIVED}),
    TraceKind.CLOSE_NOTIFY_SENT: frozenset({TraceKind.CLOSE_NOTIFY_RECEIVED}),
    TraceKind.TRANSPORT_CLOSED: frozenset(
        {TraceKind.FIN_RECEIVED, TraceKind.RESET_RECEIVED}
    ),
}
ARRIVALS: Final = frozenset(
    arrival for arrivals in CROSSING.values() for arrival in arrivals
)
# What both parties do together.
SHARED: Final = frozenset({TraceKind.HANDSHAKE_DONE, TraceKind.UNWRAPPED})


class Shape(enum.Enum):
    """What a row looks like."""

    LOCAL = "one party did or saw it, alone"
    SHARED = "both parties did it together"
    ARROW = "one party sent it, the other received it"
    LOST = "one party sent it, the other never received it"
    DEPARTS = "one party sent it; where it arrived is another row, or not known"
    ARRIVES = "one party received it; where it was sent is another row, or not known"


@attrs.frozen
class Row:
    """One line of a swimlane."""

    shape: Shape
    """What it looks like."""

    mark: Mark
    """What was seen: of an arrow, by the sender."""

    other: Mark | None = None
    """What the other party saw, if this is an arrow, or shared."""

    @property
    def time(self) -> float:
        """Seconds on Trio's clock: of the earlier end, if there are two."""
        if self.other is None:
            return self.mark.time
        return min(self.mark.time, self.other.time)


def rows_of(events: Iterable[TraceEvent], *, data_only: bool = False) -> list[Row]:
    """Make the rows of a swimlane, in the order of time.

    Args:
      events: Of both parties, or of one, if the other cannot be traced.
      data_only: As for `marks_of`.
    """
    marks = marks_of(events, data_only=data_only)
    pairs = _pairs(marks)
    groups: list[tuple[Mark, ...]] = [(mark,) for mark in marks]
    for early, late in pairs:
        start, end = groups.index((early,)), groups.index((late,))
        between = [mark for group in groups[start + 1 : end] for mark in group]
        if not any(mark.side == late.side for mark in between):
            groups[start] = (early, late)
            del groups[end]
    paired = {mark for pair in pairs for mark in pair}
    both_traced = len({mark.side for mark in marks}) == len(OTHER)
    return [
        _double(*group)
        if len(group) > 1
        else Row(_shape(*group, paired=paired, both_traced=both_traced), *group)
        for group in groups
    ]


def _pairs(marks: list[Mark]) -> list[tuple[Mark, Mark]]:
    """The two ends of each thing that has two, the earlier end first."""
    pairs: list[tuple[Mark, Mark]] = []
    free = list(marks)
    while free:
        early = free.pop(0)
        for late in free:
            if _are_two_ends(early, late):
                free.remove(late)
                pairs.append((early, late))
                break
    return pairs


def _are_two_ends(one: Mark, other: Mark) -> bool:
    if one.side == other.side or one.size != other.size:
        return False
    if one.kind in SHARED:
        return other.kind is one.kind
    return other.kind in CROSSING.get(one.kind, ()) or (
        one.kind in CROSSING.get(other.kind, ())
    )


def _double(early: Mark, late: Mark) -> Row:
    if early.kind in SHARED:
        return Row(Shape.SHARED, early, late)
    # A stream traces that it has sent something when the transport has taken
    # it, and the other party may be faster.
    if early.kind in ARRIVALS:
        return Row(Shape.ARROW, late, early)
    return Row(Shape.ARROW, early, late)


def _shape(mark: Mark, *, paired: set[Mark], both_traced: bool) -> Shape:
    if mark.kind in ARRIVALS:
        return Shape.ARRIVES
    if mark.kind not in CROSSING:
        return Shape.LOCAL
    if mark in paired:
        return Shape.DEPARTS
    if mark.kind is TraceKind.TRANSPORT_CLOSED:
        return Shape.LOCAL  # nobody looked at its FIN, or there was none
    if mark.kind in BYTES:
        return Shape.DEPARTS  # they may have arrived cut otherwise
    return Shape.LOST if both_traced else Shape.DEPARTS
