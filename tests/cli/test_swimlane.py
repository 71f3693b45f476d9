"""Drawings of traces that are made by hand."""

from __future__ import annotations

from collections.abc import Iterable

from trio_tlsdown import TraceEvent, TraceKind
from trio_tlsdown.cli._paper import ASCII, UNICODE, WIDEST, Paper
from trio_tlsdown.cli._record import Side
from trio_tlsdown.cli._swimlane import draw

HEADS: dict[Side, str] = {"client": "A", "server": "B"}
FEET: dict[Side, list[str]] = {"client": ["COMPLETE"], "server": ["SENT"]}
BEGAN = 100.0


def saw(milliseconds: float, side: Side, kind: TraceKind, size: int = 0) -> TraceEvent:
    return TraceEvent(BEGAN + milliseconds / 1000, side, kind, size)


def drawing(*events: TraceEvent) -> list[str]:
    """The lines between head and foot, in ASCII."""
    lines = draw(events, began=BEGAN, heads=HEADS, feet=FEET, paper=Paper(glyphs=ASCII))
    return [line.plain for line in lines[1:-1]]


def words(*events: TraceEvent) -> list[str]:
    """The same without what is only there to fill the line."""
    return [shortened(line) for line in drawing(*events)]


def shortened(line: str) -> str:
    for filling in ("-", " "):
        while filling * 2 in line:
            line = line.replace(filling * 2, filling)
    return line.strip()


def test_what_one_sent_and_the_other_received_is_one_arrow() -> None:
    assert drawing(
        saw(1, "client", TraceKind.CLOSE_NOTIFY_SENT),
        saw(2, "server", TraceKind.CLOSE_NOTIFY_RECEIVED),
        saw(3, "server", TraceKind.CLOSE_NOTIFY_SENT),
        saw(4, "client", TraceKind.CLOSE_NOTIFY_RECEIVED),
    ) == [
        "    1.00  |------------------------- close_notify ------------------------>|",
        "    3.00  |<------------------------- close_notify ------------------------|",
    ]


def test_an_arrow_that_nobody_received_does_not_arrive() -> None:
    cases: list[tuple[Side, Side, str]] = [
        ("client", "server", "|- close_notify ->x |"),
        ("server", "client", "| x<- close_notify -|"),
    ]
    for sender, receiver, arrow in cases:
        assert words(
            saw(0, receiver, TraceKind.HANDSHAKE_DONE),
            saw(1, sender, TraceKind.CLOSE_NOTIFY_SENT),
        )[1:] == [f"1.00 {arrow}"]


def test_if_only_one_party_is_traced_nobody_knows_what_the_other_received() -> None:
    assert words(
        saw(1, "client", TraceKind.CLOSE_NOTIFY_SENT),
        saw(2, "client", TraceKind.CLOSE_NOTIFY_RECEIVED),
        saw(3, "client", TraceKind.RESET_RECEIVED),
    ) == [
        "1.00 |- close_notify -> . . . |",
        "2.00 |<- close_notify - . . . |",
        "3.00 |<- RST - . . . |",
    ]


def test_alerts_that_cross_keep_both_of_their_ends() -> None:
    assert words(
        saw(1, "client", TraceKind.CLOSE_NOTIFY_SENT),
        saw(2, "server", TraceKind.CLOSE_NOTIFY_SENT),
        saw(3, "client", TraceKind.CLOSE_NOTIFY_RECEIVED),
        saw(4, "server", TraceKind.CLOSE_NOTIFY_RECEIVED),
    ) == [
        "1.00 |- close_notify -> . . . |",
        "2.00 |<- close_notify -|",
        "4.00 | . . . - close_notify ->|",
    ]


def test_the_order_in_which_a_party_saw_things_is_kept() -> None:
    lines = words(
        saw(1, "server", TraceKind.TRANSPORT_CLOSED),
        saw(2, "client", TraceKind.CLOSE_NOTIFY_SENT),
        saw(3, "client", TraceKind.FIN_RECEIVED),
    )
    assert lines == [
        "1.00 | . . . <- transport closed -|",
        "2.00 |- close_notify ->x :",
        "3.00 |<- FIN - . . . :",
    ]


def test_sending_that_was_noted_late_is_still_one_arrow() -> None:
    """A stream traces what it sent when the transport has taken it."""
    assert words(
        saw(1, "server", TraceKind.CLOSE_NOTIFY_RECEIVED),
        saw(2, "client", TraceKind.CLOSE_NOTIFY_SENT),
    ) == ["1.00 |- close_notify ->|"]


def test_closing_shows_what_the_other_party_saw_of_it() -> None:
    for kind, name in (
        (TraceKind.FIN_RECEIVED, "FIN"),
        (TraceKind.RESET_RECEIVED, "RST"),
    ):
        assert words(
            saw(1, "client", TraceKind.TRANSPORT_CLOSED), saw(2, "server", kind)
        ) == [f"1.00 |- transport closed: {name} ->|"]


def test_closing_is_no_arrow_if_nobody_looked() -> None:
    assert words(
        saw(1, "client", TraceKind.TRANSPORT_CLOSED),
        saw(2, "server", TraceKind.TRANSPORT_CLOSED),
    ) == ["1.00 | transport closed |", "2.00 : transport closed |"]


def test_the_lifeline_of_a_party_that_has_closed_is_dotted() -> None:
    lines = drawing(
        saw(1, "client", TraceKind.TRANSPORT_CLOSED),
        saw(2, "server", TraceKind.CLOSE_NOTIFY_SENT),
    )
    assert lines[0][10] == "|"
    assert lines[1][10] == ":"


def test_what_a_party_did_alone_stands_on_its_side() -> None:
    left, right = drawing(
        saw(1, "client", TraceKind.CANCELLED), saw(2, "server", TraceKind.TLS_FAILED)
    )
    assert "| cancelled  " in left
    assert "  TLS failed |" in right


def test_what_both_did_is_one_line() -> None:
    assert words(
        saw(1, "server", TraceKind.HANDSHAKE_DONE),
        saw(2, "client", TraceKind.HANDSHAKE_DONE),
        saw(3, "client", TraceKind.UNWRAPPED),
        saw(4, "server", TraceKind.UNWRAPPED),
    ) == [
        "1.00 |<- handshake ->|",
        "3.00 | - unwrap: TLS is over, TCP stays - |",
    ]


def test_a_handshake_of_one_party_only_stands_on_its_side() -> None:
    assert words(
        saw(1, "client", TraceKind.HANDSHAKE_DONE),
        saw(2, "server", TraceKind.TLS_FAILED),
    ) == ["1.00 | handshake |", "2.00 | TLS failed |"]


def test_data_show_their_size() -> None:
    assert words(
        saw(1, "client", TraceKind.BYTES_SENT, 1000),
        saw(2, "server", TraceKind.BYTES_RECEIVED, 600),
        saw(3, "client", TraceKind.BYTES_SENT, 400),
        saw(4, "server", TraceKind.BYTES_RECEIVED, 800),
    ) == ["1.00 |- data, 1,400 B ->|"]


def test_data_after_an_unwrap_are_clear_text() -> None:
    assert words(
        saw(1, "client", TraceKind.UNWRAPPED),
        saw(2, "client", TraceKind.BYTES_SENT, 5),
        saw(3, "server", TraceKind.UNWRAPPED),
        saw(4, "server", TraceKind.BYTES_RECEIVED, 5),
        saw(5, "client", TraceKind.TRANSPORT_CLOSED),
    )[1:] == ["2.00 |- clear text, 5 B ->|", "5.00 | transport closed |"]


def test_data_that_did_not_all_arrive_are_not_said_to_be_lost() -> None:
    assert words(
        saw(1, "client", TraceKind.BYTES_SENT, 1000),
        saw(2, "server", TraceKind.BYTES_RECEIVED, 600),
    ) == ["1.00 |- data, 1,000 B -> . . . |", "2.00 | . . . - data, 600 B ->|"]


def every_shape() -> Iterable[TraceEvent]:
    for milliseconds, kind in enumerate(TraceKind):
        yield saw(milliseconds, "client", kind, 0)
        yield saw(milliseconds * 1e3 + 0.5, "server", kind, 0)


def test_every_line_is_as_wide_as_the_others() -> None:
    for glyphs in (ASCII, UNICODE):
        for columns in (40, 60, 80):
            paper = Paper(columns, glyphs)
            lines = draw(
                every_shape(), began=BEGAN, heads=HEADS, feet=FEET, paper=paper
            )
            assert {line.cell_len for line in lines} == {min(columns, WIDEST)}


def test_the_parties_stand_above_and_below_their_lifelines() -> None:
    head, line, foot = draw(
        [saw(1, "client", TraceKind.CANCELLED)], began=BEGAN, heads=HEADS, feet=FEET
    )
    assert head.plain.split() == ["ms", "A", "B"]
    assert foot.plain.split() == ["COMPLETE", "SENT"]
    assert head.plain.index("A") == foot.plain.index("COMPLETE") == 10
    assert line.plain.index(UNICODE.from_left) == 10
    assert head.plain.endswith("B")
    assert foot.plain.endswith("SENT")
