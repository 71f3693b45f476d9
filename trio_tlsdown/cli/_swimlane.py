"""Draws what two parties saw of a connection, and nothing else.

The client is on the left, the server on the right, time goes down, and what
crossed the wire is an arrow::

      ms  A (client)                                      B (server)
    1.12  |<-------------------- handshake -------------------->|
    1.31  |------------------- close_notify ------------------->|
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Final

from rich.text import Text

from trio_tlsdown import TraceEvent, TraceKind

from ._marks import BYTES, OTHER, Mark
from ._paper import Glyphs, Paper
from ._record import Side
from ._rows import Row, Shape, rows_of

MARGIN: Final = 10  # columns for the time

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
    feet: Mapping[Side, Sequence[str]],
    paper: Paper = Paper(),
    data_only: bool = False,
) -> list[Text]:
    """Draw a connection, a `rich.text.Text` for each line.

    Args:
      events: What was seen, by both parties or by one.
      began: Seconds on Trio's clock; times are shown relative to it.
      heads: What stands above each party's lifeline.
      feet: What stands below: words, in one line or, if there is no room, below
        each other.
      paper: What to draw on and with. Default: 80 columns, box-drawing characters.
      data_only: Whether the bytes in *events* are those of application data already;
        else what of them is the handshake's or an alert's is left out, as far as that
        can be told. Default: False.
    """
    lines = [_outer("ms", heads, paper)]
    gone: set[Side] = set()
    for row in rows_of(events, data_only=data_only):
        lines.append(_line(row, began, gone, paper))
        if row.mark.kind is TraceKind.TRANSPORT_CLOSED:
            gone.add(row.mark.side)
    return [*lines, *_feet(feet, paper)]


def _feet(feet: Mapping[Side, Sequence[str]], paper: Paper) -> list[Text]:
    line: dict[Side, str] = {side: ", ".join(words) for side, words in feet.items()}
    if sum(map(len, line.values())) + 2 <= paper.width - MARGIN:
        return [_outer("", line, paper)]
    half = (paper.width - MARGIN) // 2 - 1
    left, right = (
        [part for words in feet[side] for part in textwrap.wrap(words, half)]
        for side in OTHER
    )
    below: list[Mapping[Side, str]] = [
        {"client": one, "server": other}
        for one, other in zip_longest(left, right, fillvalue="")
    ]
    return [_outer("", texts, paper) for texts in below]


def _outer(left: str, texts: Mapping[Side, str], paper: Paper) -> Text:
    text = Text(left.rjust(MARGIN - 2) + "  ", style="bold")
    between = paper.width - MARGIN - len(texts["client"])
    return text.append(texts["client"] + texts["server"].rjust(between))


def _line(row: Row, began: float, gone: set[Side], paper: Paper) -> Text:
    glyphs = paper.glyphs
    time = f"{(row.time - began) * 1000:.2f}".rjust(MARGIN - 2) + "  "
    style = LOST if row.shape is Shape.LOST else _look(row.mark)[1]
    lives = dict.fromkeys(OTHER, glyphs.life) | dict.fromkeys(gone, glyphs.gone)
    starts_here = row.shape in (Shape.LOCAL, Shape.ARROW, Shape.LOST, Shape.DEPARTS)
    if starts_here:
        at_client = row.mark.side == "client"
        lives[row.mark.side] = glyphs.from_left if at_client else glyphs.from_right
    return Text.assemble(
        (time, "dim"), lives["client"], (_lane(row, paper), style), lives["server"]
    )


def _lane(row: Row, paper: Paper) -> str:
    """What is between the two lifelines."""
    glyphs = paper.glyphs
    room = paper.width - MARGIN - 2
    part = room * 2 // 3  # the shaft of an arrow that does not reach across
    label = _label(row)
    if row.shape is Shape.SHARED:
        crossed = row.mark.kind is TraceKind.HANDSHAKE_DONE
        left, right = (glyphs.left, glyphs.right) if crossed else (" ", " ")
        return left + _shaft(label, room - 2, glyphs) + right
    at_client = row.mark.side == "client"
    rightward = at_client is not (row.shape is Shape.ARRIVES)
    head = glyphs.right if rightward else glyphs.left
    # As it goes: from the sender to the receiver.
    match row.shape:
        case Shape.LOCAL:
            parts = [" ", _fitting(label, room - 1)]
        case Shape.ARROW:
            parts = [_shaft(label, room - len(head), glyphs), head]
        case Shape.LOST:
            parts = [_shaft(label, part, glyphs), head, glyphs.lost]
        case Shape.DEPARTS:
            parts = [_shaft(label, part, glyphs), head, " ", glyphs.dots]
        case _:  # ARRIVES
            parts = [glyphs.dots, " ", _shaft(label, part, glyphs), head]
    lane = "".join(parts if rightward else reversed(parts))
    return lane.ljust(room) if at_client else lane.rjust(room)


def _shaft(label: str, size: int, glyphs: Glyphs) -> str:
    return f" {_fitting(label, size - 2)} ".center(size, glyphs.line)


def _fitting(label: str, size: int) -> str:
    return label if len(label) <= size else re.split("[:,]", label)[0]


def _label(row: Row) -> str:
    label, _ = _look(row.mark)
    if row.mark.size:
        return f"{label}, {row.mark.size:,} B"
    if row.mark.kind is TraceKind.TRANSPORT_CLOSED and row.other is not None:
        return f"{label}: {_look(row.other)[0]}"
    return label


def _look(mark: Mark) -> tuple[str, str]:
    return CLEAR if mark.clear and mark.kind in BYTES else LOOKS[mark.kind]
