"""The tables, without a byte of TLS."""

import itertools

import pytest

from trio_tlsdown import ShutdownOutcome
from trio_tlsdown._core.state import (
    OUTCOMES,
    TRANSITIONS,
    ConnectionState,
    Event,
    IllegalTransitionError,
    LocalState,
    Receiving,
    Sending,
)


def after(*events: Event) -> ConnectionState:
    state = ConnectionState(lambda event: None)
    for event in events:
        state.process_event(event)
    return state


OPENED = (Event.HANDSHAKE_DONE,)
SENT = (*OPENED, Event.CLOSE_NOTIFY_ENCRYPTED, Event.CLOSE_NOTIFY_SENT)
RECEIVED = (*OPENED, Event.CLOSE_NOTIFY_RECEIVED)

# DESIGN: what each history is called. A name that stands is final.
HISTORIES = {
    "nothing": ((), ShutdownOutcome.OPEN),
    "a handshake": (OPENED, ShutdownOutcome.OPEN),
    "ours only encrypted": (SENT[:2], ShutdownOutcome.OPEN),
    "ours sent": (SENT, ShutdownOutcome.SENT),
    "ours sent, closed": ((*SENT, Event.CLOSED), ShutdownOutcome.SENT),
    "theirs came": (RECEIVED, ShutdownOutcome.OPEN),
    "theirs came, closed": ((*RECEIVED, Event.CLOSED), ShutdownOutcome.ABORTED),
    "both": ((*SENT, Event.CLOSE_NOTIFY_RECEIVED), ShutdownOutcome.COMPLETE),
    "both, other order": ((*RECEIVED, *SENT[1:]), ShutdownOutcome.COMPLETE),
    "both, closed": (
        (*SENT, Event.CLOSE_NOTIFY_RECEIVED, Event.CLOSED),
        ShutdownOutcome.COMPLETE,
    ),
    "ours sent, closed, then reset": (
        (*SENT, Event.CLOSED, Event.RECEIVING_RESET),
        ShutdownOutcome.SENT,
    ),
    "closed at once, then cut": (
        (*OPENED, Event.CLOSED, Event.TRUNCATED, Event.SENDING_RESET),
        ShutdownOutcome.ABORTED,
    ),
    "closed at once": ((*OPENED, Event.CLOSED), ShutdownOutcome.ABORTED),
    "closed before a handshake": ((Event.CLOSED,), ShutdownOutcome.ABORTED),
    "given up": ((*OPENED, Event.GIVEN_UP), ShutdownOutcome.ABORTED),
    "given up after ours": ((*SENT, Event.GIVEN_UP), ShutdownOutcome.ABORTED),
    "given up, closed": (
        (*SENT, Event.GIVEN_UP, Event.CLOSED),
        ShutdownOutcome.ABORTED,
    ),
    "given up, resumed": (
        (*SENT, Event.GIVEN_UP, Event.RESUMED),
        ShutdownOutcome.SENT,
    ),
    "given up, theirs came": (
        (*SENT, Event.GIVEN_UP, Event.CLOSE_NOTIFY_RECEIVED),
        ShutdownOutcome.COMPLETE,
    ),
    "half a record left": ((*OPENED, Event.SENDING_BROKEN), ShutdownOutcome.ABORTED),
    "truncated": ((*OPENED, Event.TRUNCATED), ShutdownOutcome.TRUNCATED),
    "truncated, ours sent": ((*SENT, Event.TRUNCATED), ShutdownOutcome.TRUNCATED),
    "truncated, then reset": (
        (*OPENED, Event.TRUNCATED, Event.SENDING_RESET),
        ShutdownOutcome.TRUNCATED,
    ),
    "truncated in the handshake": ((Event.TRUNCATED,), ShutdownOutcome.TRUNCATED),
    "reset": ((*OPENED, Event.RECEIVING_RESET), ShutdownOutcome.RESET),
    "theirs came, ours did not go": (
        (*RECEIVED, Event.SENDING_RESET),
        ShutdownOutcome.RESET,
    ),
    "reset, closed": (
        (*OPENED, Event.SENDING_RESET, Event.CLOSED),
        ShutdownOutcome.RESET,
    ),
    "truncated, then failed": (
        (*OPENED, Event.TRUNCATED, Event.FAILED),
        ShutdownOutcome.TRUNCATED,
    ),
    "reset in the handshake, closed beside it": (
        (Event.SENDING_RESET, Event.FAILED, Event.CLOSED),
        ShutdownOutcome.RESET,
    ),
    "sending reset, nobody told": (
        (*OPENED, Event.SENDING_RESET),
        ShutdownOutcome.OPEN,
    ),
    "sending reset, nobody told, truncated": (
        (*OPENED, Event.SENDING_RESET, Event.TRUNCATED),
        ShutdownOutcome.TRUNCATED,
    ),
    "failed": ((*OPENED, Event.FAILED), ShutdownOutcome.FAILED),
    "failed after ours": ((*SENT, Event.FAILED), ShutdownOutcome.FAILED),
    "failed in the handshake": ((Event.FAILED,), ShutdownOutcome.FAILED),
    "failed, closed": ((*OPENED, Event.FAILED, Event.CLOSED), ShutdownOutcome.FAILED),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_each_history_has_its_outcome(name: str) -> None:
    events, outcome = HISTORIES[name]
    assert after(*events).outcome is outcome


def test_every_outcome_has_a_history() -> None:
    assert {outcome for _, outcome in HISTORIES.values()} == set(ShutdownOutcome)


def test_every_joint_state_has_an_outcome() -> None:
    state = ConnectionState(lambda event: None)
    for state.sending, state.receiving, state.local in itertools.product(
        Sending, Receiving, LocalState
    ):
        assert state.outcome in ShutdownOutcome


def test_every_row_of_the_table_is_reached() -> None:
    """A row that never wins is a mistake in the order."""
    winners = {
        next(
            (
                row
                for row in OUTCOMES
                if row[0] in {None, sending}
                and row[1] in {None, receiving}
                and row[2] in {None, life}
            ),
            None,
        )
        for sending, receiving, life in itertools.product(
            Sending, Receiving, LocalState
        )
    }
    assert winners == {*OUTCOMES, None}


@pytest.mark.parametrize("event", Event)
def test_every_event_has_moves(event: Event) -> None:
    moves = TRANSITIONS[event]
    assert moves.sending or moves.receiving or moves.local


@pytest.mark.parametrize("event", Event)
def test_a_closed_connection_refuses_what_cannot_happen_and_changes_nothing(
    event: Event,
) -> None:
    state = after(*SENT, Event.CLOSE_NOTIFY_RECEIVED, Event.CLOSED)
    assert not state.process_event_if_legal(event)
    with pytest.raises(IllegalTransitionError, match=event.name):
        state.process_event(event)
    assert (state.sending, state.receiving, state.local) == (
        Sending.CLOSED,
        Receiving.CLOSED,
        LocalState.CLOSED,
    )
    assert state.outcome is ShutdownOutcome.COMPLETE


def test_a_reset_that_a_caller_was_told_of_is_final() -> None:
    for event in Event:
        state = after(*OPENED, Event.SENDING_RESET)
        state.settle()
        assert state.outcome is ShutdownOutcome.RESET
        state.process_event_if_legal(event)
        assert state.outcome is ShutdownOutcome.RESET


def test_final_outcomes_stand_whatever_happens_next() -> None:
    for events, outcome in HISTORIES.values():
        if not outcome.final:
            continue
        for nexts in itertools.product(Event, repeat=2):
            state = after(*events)
            state.settle()
            for event in nexts:
                state.process_event_if_legal(event)
            assert state.outcome is outcome


def test_whose_alert_came_first_is_remembered() -> None:
    assert after().first is None
    assert after(*SENT[:2]).first is None
    assert after(*SENT, Event.CLOSE_NOTIFY_RECEIVED).first == "local"
    assert after(*RECEIVED, *SENT[1:]).first == "peer"


def test_each_move_is_told_after_it_was_made() -> None:
    told: list[tuple[Event, Sending]] = []
    state = ConnectionState(lambda event: told.append((event, state.sending)))
    state.process_event(Event.HANDSHAKE_DONE)
    assert told == [(Event.HANDSHAKE_DONE, Sending.OPEN)]


def test_nothing_can_be_sent_or_received_before_the_handshake() -> None:
    assert not after().can_receive
    assert not after().can_send
    assert after(*OPENED).can_receive
    assert after(*OPENED).can_send


@pytest.mark.parametrize(
    ("sending", "broken"),
    [
        (sending, sending in {Sending.BROKEN, Sending.RESET, Sending.FAILED})
        for sending in Sending
    ],
)
def test_nothing_of_ours_can_follow_what_broke_our_direction(
    sending: Sending, *, broken: bool
) -> None:
    assert sending.broken is broken


# Whether TLS has failed, whether what is due ends with our last word, and whether
# OpenSSL has been told of an end.
FACTS = {
    "opened": (OPENED, False, False, False),
    "ours encrypted": (SENT[:2], False, True, False),
    "ours sent": (SENT, False, False, True),
    "theirs came": (RECEIVED, False, False, True),
    "failed": ((*OPENED, Event.FAILED), True, True, True),
    "failed after ours": ((*SENT, Event.FAILED), True, True, True),
    "failed after theirs": ((*RECEIVED, Event.FAILED), True, True, True),
    "broken": ((*OPENED, Event.SENDING_BROKEN), False, False, False),
    "reset": ((*OPENED, Event.SENDING_RESET), False, False, False),
}


@pytest.mark.parametrize("name", FACTS)
def test_each_history_has_its_facts(name: str) -> None:
    events, failed, last_word_made, session_ended = FACTS[name]
    state = after(*events)
    assert state.failed is failed
    assert state.last_word_made is last_word_made
    assert state.session_ended is session_ended
