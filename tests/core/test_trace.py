from __future__ import annotations

import inspect

from trio_tlsdown import ConnectionTrace, TraceEvent, TraceKind


def test_the_times_of_a_trace_count_from_its_first_event() -> None:
    trace = ConnectionTrace()
    trace.add(TraceEvent(1000.25, "client", TraceKind.HANDSHAKE_DONE))
    trace.add(TraceEvent(1000.5, "client", TraceKind.TRANSPORT_CLOSED))
    assert str(trace) == (
        "0 bytes sent, 0 received, "
        "handshake done at 0.0 ms, transport closed at 250.0 ms"
    )


def test_a_trace_begins_empty_whatever_its_maker_says() -> None:
    assert not inspect.signature(ConnectionTrace).parameters


def test_two_traces_are_two_even_if_nothing_has_happened_in_either() -> None:
    assert len({ConnectionTrace(), ConnectionTrace()}) == 2
