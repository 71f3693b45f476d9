"""What shows of an ending: on the wire, and in our trace."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias

from trio_tlsdown import TraceKind

from .capture import CLOSE_NOTIFY, Packet
from .playing import Run

Sign: TypeAlias = tuple[Literal[">", "<"], str]
"""Who sent it (``>`` is us), and what: an alert, ``FIN`` or ``RST``."""

TRACED: Final[dict[TraceKind, Sign]] = {
    TraceKind.CLOSE_NOTIFY_SENT: (">", CLOSE_NOTIFY),
    TraceKind.CLOSE_NOTIFY_RECEIVED: ("<", CLOSE_NOTIFY),
    TraceKind.FIN_RECEIVED: ("<", "FIN"),
    TraceKind.RESET_RECEIVED: ("<", "RST"),
}


def told(run: Run) -> list[Sign]:
    """What our trace says."""
    return [TRACED[event.kind] for event in run.trace if event.kind in TRACED]


def on_the_wire(packets: Iterable[Packet], run: Run) -> list[Sign]:
    """What tshark saw."""
    signs: list[Sign] = []
    for packet in packets:
        who: Literal[">", "<"] = ">" if packet.source == run.our_port else "<"
        signs += [(who, record) for record in packet.records if "alert" in record]
        signs += [(who, "FIN")] * packet.fin
        signs += [(who, "RST")] * packet.reset
    return signs


def by(who: Literal[">", "<"], signs: Sequence[Sign]) -> list[str]:
    """What one of the two sent."""
    return [sign for sender, sign in signs if sender == who]
