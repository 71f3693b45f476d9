"""Every interleaving of two peers and an attacker; the proof is in docs/proof.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from trio_tlsdown import ShutdownOutcome
from trio_tlsdown._core.state import OUTCOMES, TRANSITIONS, Receiving, Sending

from .two_peers import (
    RECORDS,
    Channel,
    Item,
    Machines,
    Peer,
    World,
    explore,
    explore_alone,
    leads_to,
    moved,
    outcome,
)

PROOF = Path(__file__).parents[2] / "docs" / "proof.md"


@pytest.fixture(scope="module")
def after() -> dict[World, list[World]]:
    return explore()


@pytest.fixture(scope="module")
def alone(after: dict[World, list[World]]) -> dict[Machines, list[Machines]]:
    assert after, "it tells which events may come"
    return explore_alone()


def sides(after: dict[World, list[World]]) -> Iterator[tuple[Peer, Peer, Channel]]:
    """Each peer, the other one, and what is on its way to the peer."""
    for world in after:
        yield world.one, world.other, world.to_one
        yield world.other, world.one, world.to_other


def test_docs_proof_md_says_how_many_states_there_are(
    after: dict[World, list[World]], alone: dict[Machines, list[Machines]]
) -> None:
    found = re.findall(r"\*\*([\d,]+)\*\* (\w+)", PROOF.read_text("utf-8"))
    assert {word: int(number.replace(",", "")) for number, word in found} == {
        "states": len(after),
        "steps": sum(map(len, after.values())),
        "combinations": len(alone),
    }


def test_a_clean_end_never_hides_what_the_peer_had_to_say(
    after: dict[World, list[World]],
) -> None:
    for peer, other, _ in sides(after):
        if peer.machines.receiving is Receiving.CLOSED:
            assert peer.heard == other.said
            assert other.said in {0, RECORDS}
            assert not other.gave_up_message or other.said == RECORDS
            assert not other.machines.state().can_send


def test_what_is_received_was_sent_before(after: dict[World, list[World]]) -> None:
    for peer, other, _ in sides(after):
        assert peer.heard <= other.said


def test_a_close_notify_that_is_reported_as_sent_has_left(
    after: dict[World, list[World]],
) -> None:
    for peer, other, coming in sides(after):
        if (
            other.machines.sending is Sending.CLOSED
            and peer.machines.receiving is Receiving.OPEN
            and not peer.closed
        ):
            assert coming, "it is neither there nor on its way, and nothing cut it off"
            assert coming[-1] in {
                Item.CLOSE_NOTIFY,
                Item.CHANGED,
                Item.FIN,
                Item.RST,
            }


def test_complete_is_said_just_if_both_alerts_crossed(
    after: dict[World, list[World]],
) -> None:
    for peer, _, _ in sides(after):
        state = peer.machines.state()
        crossed = state.close_notify_sent and state.close_notify_received
        assert (peer.outcome is ShutdownOutcome.COMPLETE) is crossed


def test_no_state_is_a_dead_end_before_both_have_closed(
    after: dict[World, list[World]],
) -> None:
    ends = {world for world in after if world.one.closed and world.other.closed}
    assert leads_to(after, ends) == set(after)


def test_without_an_attacker_or_a_mistake_both_can_always_end_cleanly(
    after: dict[World, list[World]],
) -> None:
    """From wherever both may still send and receive, on to COMPLETE at both sides."""
    ends = {
        world
        for world in after
        if world.one.outcome is world.other.outcome is ShutdownOutcome.COMPLETE
    }
    able = {
        world
        for world in after
        if all(
            peer.machines.sending is Sending.OPEN
            and peer.machines.receiving is Receiving.OPEN
            and not peer.closed
            for peer in (world.one, world.other)
        )
        and not any(
            item in {Item.CHANGED, Item.FIN, Item.RST}
            for item in world.to_one + world.to_other
        )
    }
    assert able
    assert able <= leads_to(after, ends)


def test_each_row_of_each_table_is_used(
    alone: dict[Machines, list[Machines]],
) -> None:
    for event, rows in TRANSITIONS.items():
        used = [machines for came, machines in moved if came is event]
        assert set(rows.sending) <= {machines.sending for machines in used}
        assert set(rows.receiving) <= {machines.receiving for machines in used}
        assert set(rows.local) <= {machines.local for machines in used}
    winners = {
        next((row for row in OUTCOMES if fits(row, machines)), None)
        for machines in alone
    }
    assert winners == {*OUTCOMES, None}


def fits(row: tuple[object, object, object, ShutdownOutcome], state: Machines) -> bool:
    return all(
        wanted is None or wanted is got
        for wanted, got in zip(row[:3], state[:3], strict=True)
    )


def test_a_final_outcome_stays(alone: dict[Machines, list[Machines]]) -> None:
    for machines, nexts in alone.items():
        if outcome(machines).final:
            assert {outcome(following) for following in nexts} <= {outcome(machines)}


def test_every_state_can_be_left_until_it_is_closed(
    alone: dict[Machines, list[Machines]],
) -> None:
    for machines, nexts in alone.items():
        assert bool(nexts) is not Peer(machines).closed
