"""ShutdownPolicy, ShutdownOutcome, ShutdownReport."""

import math
from decimal import Decimal
from typing import Any

import attrs
import pytest

from trio_tlsdown import (
    ShutdownOutcome,
    ShutdownPolicy,
    ShutdownReport,
    TraceEvent,
    TraceKind,
)


def report(outcome: ShutdownOutcome, *, sent: bool, received: bool) -> ShutdownReport:
    return ShutdownReport(
        outcome=outcome,
        close_notify_sent=sent,
        close_notify_received=received,
        first=None,
        discarded=0,
        elapsed=0.0,
        error=None,
    )


SOME_REPORT = report(ShutdownOutcome.OPEN, sent=False, received=False)


def test_a_policy_has_documented_defaults() -> None:
    policy = ShutdownPolicy()
    assert (policy.timeout, policy.linger_timeout, policy.max_unread) == (5, 2, 2**20)
    assert policy.reset_on_abort


@pytest.mark.parametrize("made", [ShutdownPolicy(), SOME_REPORT])
def test_policy_and_report_are_made_by_keyword(made: Any) -> None:
    values = attrs.astuple(made)
    with pytest.raises(TypeError):
        type(made)(*values)


def test_a_policy_takes_for_ever_and_nothing() -> None:
    assert ShutdownPolicy(timeout=math.inf).timeout == math.inf
    assert ShutdownPolicy(timeout=0, linger_timeout=0, max_unread=0).max_unread == 0


@pytest.mark.parametrize("name", ["timeout", "linger_timeout"])
@pytest.mark.parametrize("value", [-1, -0.001, math.nan, -math.inf])
def test_negative_and_nan_seconds_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be >= 0 seconds"):
        ShutdownPolicy(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["timeout", "linger_timeout"])
@pytest.mark.parametrize(
    "value", [10**400, -(10**400), 10**5000], ids=["10^400", "-10^400", "10^5000"]
)
def test_seconds_that_no_float_can_hold_are_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name} must be >= 0 seconds and fit"):
        ShutdownPolicy(**{name: value})  # type: ignore[arg-type]


def test_seconds_may_be_of_any_size_that_a_float_has() -> None:
    assert ShutdownPolicy(timeout=10**300).timeout == 10**300


@pytest.mark.parametrize("name", ["timeout", "linger_timeout", "max_unread"])
@pytest.mark.parametrize("value", ["5", None, True, b"", [1], 1j, Decimal(5)])
def test_what_is_no_number_is_refused(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a number"):
        ShutdownPolicy(**{name: value})


def test_bytes_are_whole_and_not_negative() -> None:
    with pytest.raises(TypeError, match="number of bytes"):
        ShutdownPolicy(max_unread=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=">= 0 bytes"):
        ShutdownPolicy(max_unread=-1)


def test_policy_and_report_are_frozen() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        ShutdownPolicy().timeout = 1.0  # type: ignore[misc]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        report(ShutdownOutcome.OPEN, sent=False, received=False).elapsed = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("outcome", "sent", "secure"),
    [
        (ShutdownOutcome.OPEN, False, False),
        (ShutdownOutcome.COMPLETE, True, True),
        (ShutdownOutcome.SENT, True, True),
        (ShutdownOutcome.ABORTED, True, True),
        (ShutdownOutcome.ABORTED, False, False),
        (ShutdownOutcome.TRUNCATED, True, False),
        (ShutdownOutcome.RESET, True, False),
        (ShutdownOutcome.FAILED, True, False),
    ],
)
def test_secure_rests_on_facts(
    outcome: ShutdownOutcome, *, sent: bool, secure: bool
) -> None:
    assert report(outcome, sent=sent, received=False).secure is secure


@pytest.mark.parametrize("received", [True, False])
def test_the_peers_data_are_complete_when_it_said_so(*, received: bool) -> None:
    reported = report(ShutdownOutcome.RESET, sent=False, received=received)
    assert reported.peer_data_complete is received


def test_only_four_outcomes_are_final() -> None:
    assert {outcome for outcome in ShutdownOutcome if outcome.final} == {
        ShutdownOutcome.COMPLETE,
        ShutdownOutcome.TRUNCATED,
        ShutdownOutcome.RESET,
        ShutdownOutcome.FAILED,
    }


def test_only_two_events_end_a_connection() -> None:
    assert {kind for kind in TraceKind if kind.ends_connection} == {
        TraceKind.TRANSPORT_CLOSED,
        TraceKind.UNWRAPPED,
    }


def test_an_event_is_frozen_and_has_no_size_but_for_bytes() -> None:
    event = TraceEvent(0.0, "client", TraceKind.HANDSHAKE_DONE)
    assert event.size == 0
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.size = 1  # type: ignore[misc]
