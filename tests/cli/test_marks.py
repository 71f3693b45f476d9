"""What of a trace is worth drawing."""

from __future__ import annotations

from trio_tlsdown import TraceEvent, TraceKind
from trio_tlsdown.cli._marks import marks_of
from trio_tlsdown.cli._record import Side

SENT = TraceKind.BYTES_SENT
RECEIVED = TraceKind.BYTES_RECEIVED
DONE = TraceKind.HANDSHAKE_DONE


def drawn(*seen: tuple[Side, TraceKind, int]) -> list[tuple[Side, TraceKind, int]]:
    """Trace what was seen, one thing a second, and tell what remains of it."""
    events = [
        TraceEvent(float(second), side, kind, size)
        for second, (side, kind, size) in enumerate(seen)
    ]
    return [(mark.side, mark.kind, mark.size) for mark in marks_of(events)]


def test_the_bytes_of_a_handshake_are_left_out() -> None:
    assert drawn(
        ("client", SENT, 200),
        ("server", RECEIVED, 200),
        ("server", SENT, 900),
        ("client", RECEIVED, 900),
        ("client", DONE, 0),
        ("client", SENT, 80),  # TLS 1.3: done, and yet to say so
        ("server", RECEIVED, 80),
        ("server", DONE, 0),
        ("client", SENT, 50),
        ("server", RECEIVED, 50),
    ) == [
        ("client", DONE, 0),
        ("server", DONE, 0),
        ("client", SENT, 50),
        ("server", RECEIVED, 50),
    ]


def test_the_bytes_of_a_handshake_that_failed_are_shown() -> None:
    assert drawn(
        ("client", SENT, 200),
        ("client", RECEIVED, 7),
        ("client", TraceKind.TLS_FAILED, 0),
    ) == [
        ("client", SENT, 200),
        ("client", RECEIVED, 7),
        ("client", TraceKind.TLS_FAILED, 0),
    ]


def test_the_bytes_that_carry_a_close_notify_are_left_out() -> None:
    assert drawn(
        ("client", SENT, 1000),
        ("client", SENT, 24),
        ("client", TraceKind.CLOSE_NOTIFY_SENT, 0),
        ("client", RECEIVED, 24),
        ("client", TraceKind.CLOSE_NOTIFY_RECEIVED, 0),
    ) == [
        ("client", SENT, 1000),
        ("client", TraceKind.CLOSE_NOTIFY_SENT, 0),
        ("client", TraceKind.CLOSE_NOTIFY_RECEIVED, 0),
    ]


def test_bytes_are_added_up_until_the_party_sees_something_else() -> None:
    assert drawn(
        ("client", SENT, 10),
        ("server", RECEIVED, 4),
        ("client", SENT, 20),
        ("server", RECEIVED, 26),
        ("client", RECEIVED, 5),
        ("client", SENT, 1),
    ) == [
        ("client", SENT, 30),
        ("server", RECEIVED, 30),
        ("client", RECEIVED, 5),
        ("client", SENT, 1),
    ]


def test_a_mark_has_the_time_of_the_first_of_its_bytes() -> None:
    [mark] = marks_of(
        [TraceEvent(2.0, "client", SENT, 1), TraceEvent(1.0, "client", SENT, 1)]
    )
    assert mark.time == 1.0
    assert mark.size == 2
