"""Draws what two parties saw of a connection, and nothing else.

The client is on the left, the server on the right, time goes down, and what
crossed the wire is an arrow::

      ms  A (client)                                      B (server)
    1.12  |<-------------------- handshake -------------------->|
    1.31  |------------------- close_notify ------------------->|
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import attrs
from rich.text import Text

from trio_tlsdown import TraceEvent, TraceKind

from ._marks import BYTES, OTHER, Mark
from ._record import Side
from ._rows import Row, Shape, rows_of

WIDTH: Final = 76  # of every line: fits 80 columns, and a page of documentation
MARGIN: Final = 10  # for the time
LANE: Final = WIDTH - MARGIN - 2  # between the two lifelines
PART: Final = LANE * 2 // 3  # the shaft of an arrow that does not reach across


@attrs.frozen
class Glyphs:
    """What lines are made of."""

    line: str
    right: str
    left: str
    life: str
    gone: str
    from_left: str
    from_right: str
    lost: str
    dots: str


UNICODE: Final = Glyphs(
    "─", "►", "◄", "│", "┊", "├", "┤", "\N{MULTIPLICATION SIGN}", "· · ·"
)
ASCII: Final = Glyphs("-", ">", "<", "|", ":", "|", "|", "x", ". . .")

LOST: Final = "red"
CLEAR: Final = ("clear text", "bright_blue")
# How each kind is called, and its style.
LOOKS: Final[dict[TraceKind, tuple[str, str]]] = {
    TraceKind.HANDSHAKE_DONE: ("handshake", "cyan"),
    TraceKind.BYTES_SENT: ("data", ""),
    TraceKind.BYTES_RECEIVED: ("data", ""),
    TraceKind.CLOSE_NOTIFY_SENT: ("close_notify", "green"),
    TraceKind.CLOSE_NOTIFY_RECEIVED: ("close_notify", "green"),
    TraceKind.FIN_RECEIVED: ("FIN", "yellow"),
    TraceKind.RESET_RECEIVED: ("RST", "red"),
    TraceKind.TLS_FAILED: ("TLS failed", "red"),
    TraceKind.CANCELLED: ("cancelled", "magenta"),
    TraceKind.TRANSPORT_CLOSED: ("transport closed", "yellow"),
    TraceKind.UNWRAPPED: ("unwrap: TLS is over, TCP stays", "cyan"),
}


def draw(
    events: Iterable[TraceEvent],
    *,
    began: float,
    heads: Mapping[Side, str],
    feet: Mapping[Side, str],
    glyphs: Glyphs = UNICODE,
) -> list[Text]:
    """Draw a connection, a `rich.text.Text` for each line.

    Args:
      events: What was seen, by both parties or by one.
      began: Seconds on Trio's clock; times are shown relative to it.
      heads: What stands above each party's lifeline.
      feet: What stands below.
      glyphs: What to draw with. Default: box-drawing characters.
    """
    lines = [_outer("ms", heads)]
    gone: set[Side] = set()
    for row in rows_of(events):
        lines.append(_line(row, began, gone, glyphs))
        if row.mark.kind is TraceKind.TRANSPORT_CLOSED:
            gone.add(row.mark.side)
    return [*lines, _outer("", feet)]


def _outer(left: str, texts: Mapping[Side, str]) -> Text:
    text = Text(left.rjust(MARGIN - 2) + "  ", style="bold")
    between = LANE + 2 - len(texts["client"])
    return text.append(texts["client"] + texts["server"].rjust(between))


def _line(row: Row, began: float, gone: set[Side], glyphs: Glyphs) -> Text:
    time = f"{(row.time - began) * 1000:.2f}".rjust(MARGIN - 2) + "  "
    style = LOST if row.shape is Shape.LOST else _look(row.mark)[1]
    lives = dict.fromkeys(OTHER, glyphs.life) | dict.fromkeys(gone, glyphs.gone)
    starts_here = row.shape in (Shape.LOCAL, Shape.ARROW, Shape.LOST, Shape.DEPARTS)
    if starts_here:
        at_client = row.mark.side == "client"
        lives[row.mark.side] = glyphs.from_left if at_client else glyphs.from_right
    return Text.assemble(
        (time, "dim"), lives["client"], (_lane(row, glyphs), style), lives["server"]
    )


def _lane(row: Row, glyphs: Glyphs) -> str:
    """What is between the two lifelines."""
    label = _label(row)
    if row.shape is Shape.SHARED:
        crossed = row.mark.kind is TraceKind.HANDSHAKE_DONE
        left, right = (glyphs.left, glyphs.right) if crossed else (" ", " ")
        return left + _shaft(label, LANE - 2, glyphs) + right
    at_client = row.mark.side == "client"
    rightward = at_client is not (row.shape is Shape.ARRIVES)
    head = glyphs.right if rightward else glyphs.left
    # As it goes: from the sender to the receiver.
    match row.shape:
        case Shape.LOCAL:
            parts = [" ", label]
        case Shape.ARROW:
            parts = [_shaft(label, LANE - len(head), glyphs), head]
        case Shape.LOST:
            parts = [_shaft(label, PART, glyphs), head, glyphs.lost]
        case Shape.DEPARTS:
            parts = [_shaft(label, PART, glyphs), head, " ", glyphs.dots]
        case _:  # ARRIVES
            parts = [glyphs.dots, " ", _shaft(label, PART, glyphs), head]
    lane = "".join(parts if rightward else reversed(parts))
    return lane.ljust(LANE) if at_client else lane.rjust(LANE)


def _shaft(label: str, size: int, glyphs: Glyphs) -> str:
    return f" {label} ".center(size, glyphs.line)


def _label(row: Row) -> str:
    label, _ = _look(row.mark)
    if row.mark.size:
        return f"{label}, {row.mark.size:,} B"
    if row.mark.kind is TraceKind.TRANSPORT_CLOSED and row.other is not None:
        return f"{label}: {_look(row.other)[0]}"
    return label


def _look(mark: Mark) -> tuple[str, str]:
    return CLEAR if mark.clear and mark.kind in BYTES else LOOKS[mark.kind]
