"""The signs of an ending: on the wire, and in our trace."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias

from trio_tlsdown import ShutdownOutcome as Outcome, TraceEvent, TraceKind

from .capture import CLOSE_NOTIFY, Packet

Sign: TypeAlias = tuple[Literal[">", "<"], str]
"""Who sent it (``>`` is us), and what: an alert, ``FIN`` or ``RST``."""

TRACED: Final[dict[TraceKind, Sign]] = {
    TraceKind.CLOSE_NOTIFY_SENT: (">", CLOSE_NOTIFY),
    TraceKind.CLOSE_NOTIFY_RECEIVED: ("<", CLOSE_NOTIFY),
    TraceKind.FIN_RECEIVED: ("<", "FIN"),
    TraceKind.RESET_RECEIVED: ("<", "RST"),
}


ENDS: Final = {Outcome.TRUNCATED: ["FIN"], Outcome.RESET: ["RST"]}
"""The ends of the transport that an outcome implies."""

# RFC 9846 section 6, RFC 5246 section 7.2: level and description.
ALERTS: Final = {
    CLOSE_NOTIFY: "close_notify",
    "alert 2/10": "unexpected_message",
    "alert 2/20": "bad_record_mac",
    "alert 2/50": "decode_error",
    "alert 2/80": "internal_error",
    "alert 1/90": "user_canceled",
}


def told(trace: Iterable[TraceEvent]) -> list[Sign]:
    """The signs in our trace."""
    return [TRACED[event.kind] for event in trace if event.kind in TRACED]


def on_the_wire(packets: Iterable[Packet], our_port: int) -> list[Sign]:
    """The signs on the wire, from tshark."""
    signs: list[Sign] = []
    for packet in packets:
        who: Literal[">", "<"] = ">" if packet.source == our_port else "<"
        signs += [(who, record) for record in packet.records if "alert" in record]
        signs += [(who, "FIN")] * packet.fin
        signs += [(who, "RST")] * packet.reset
    return signs


def by(who: Literal[">", "<"], signs: Sequence[Sign]) -> list[str]:
    """What one of the parties sent."""
    return [sign for sender, sign in signs if sender == who]


def alerts(signs: Iterable[Sign]) -> str:
    """The names of the alerts that were sent."""
    return ", ".join(
        f"{who} {ALERTS.get(sign, sign)}" for who, sign in signs if "alert" in sign
    )


def bytes_sent(packets: Iterable[Packet], our_port: int) -> int:
    """How many bytes we have sent, each counted once."""
    return sum(packet.size for packet in packets if packet.source == our_port)
