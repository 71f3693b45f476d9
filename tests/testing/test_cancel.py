"""cancel_everywhere cancels everywhere, and sees what does not hold."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from trio_tlsdown.testing import (
    Cancellation,
    ScriptedPeer,
    cancel_everywhere,
    connect_rogue,
    memory_tls_pair,
    memory_transports,
)
from trio_tlsdown.testing._endings import watch

AutojumpClock = trio.testing.MockClock


async def test_each_checkpoint_is_cancelled_once_before_and_once_behind() -> None:
    """And once before the first: nothing of the part has run then."""
    reached: list[list[str]] = []

    async def scenario(cancellation: Cancellation) -> None:
        steps: list[str] = []
        reached.append(steps)
        with cancellation:
            steps.append("begun")
            await trio.lowlevel.cancel_shielded_checkpoint()
            steps.append("stepped")
            await trio.lowlevel.checkpoint()
            steps.append("done")
        steps.append("behind")

    # Before the first step; when it waits, and when it goes on, at each checkpoint.
    assert await cancel_everywhere(scenario) == 5
    assert [len(steps) for steps in reached] == [3, 3, 3, 3, 3, 4]
    assert all(steps[-1] == "behind" for steps in reached)


async def test_a_task_that_waits_is_cancelled_while_it_waits(
    autojump_clock: AutojumpClock,
) -> None:
    how: set[str] = set()

    async def scenario(cancellation: Cancellation) -> None:
        event = trio.Event()

        async def wait() -> None:
            try:
                await event.wait()
            except trio.Cancelled:
                how.add("happened" if event.is_set() else "waiting")
                raise
            how.add("through")
            await trio.lowlevel.checkpoint_if_cancelled()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)
            nursery.start_soon(set_later, event)
            with cancellation:
                await wait()

    async def set_later(event: trio.Event) -> None:
        await trio.sleep(0.5)
        event.set()

    assert await cancel_everywhere(scenario) == 3
    assert how == {"waiting", "through"}


async def test_tasks_that_were_started_inside_count_and_others_do_not() -> None:
    async def steps(number: int) -> None:
        for _ in range(number):
            await trio.lowlevel.checkpoint()

    async def scenario(cancellation: Cancellation, inside: int, outside: int) -> None:
        async with trio.open_nursery() as others:
            others.start_soon(steps, outside)
            with cancellation:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(steps, inside)
                    await steps(5)

    async def points(inside: int, outside: int) -> int:
        return await cancel_everywhere(
            lambda cancellation: scenario(cancellation, inside, outside)
        )

    assert await points(inside=5, outside=0) == await points(inside=5, outside=50)
    assert await points(inside=9, outside=0) > await points(inside=5, outside=0)


async def test_a_scenario_without_a_parameter_is_cancelled_as_a_whole() -> None:
    ends = 0

    async def scenario() -> None:
        nonlocal ends
        await trio.lowlevel.checkpoint()
        ends += 1

    assert await cancel_everywhere(scenario) == 3
    assert ends == 1  # when it was not cancelled


async def test_a_parameter_that_has_its_value_is_not_for_the_cancellation() -> None:
    async def scenario(size: int = 3, *, name: str = "", **options: int) -> None:
        assert (size, name, options) in [(3, "", {}), (4, "x", {"more": 5})]
        await trio.lowlevel.checkpoint()

    assert await cancel_everywhere(scenario) == 3
    bound = partial(scenario, size=4, name="x", more=5)
    assert await cancel_everywhere(bound) == 3


async def test_what_the_scenario_raises_tells_at_which_point_it_was() -> None:
    async def scenario(cancellation: Cancellation) -> None:
        with cancellation:
            await trio.lowlevel.checkpoint()
        assert not cancellation.cancelled, "it must not be cancelled"

    with pytest.raises(AssertionError, match="must not be cancelled") as caught:
        await cancel_everywhere(scenario)
    assert caught.value.__notes__ == ["cancelled at point 0 of the scenario"]


async def test_a_scenario_that_cannot_be_cancelled_is_told_on() -> None:
    async def never_enters(cancellation: Cancellation) -> None:
        await trio.lowlevel.checkpoint()

    async def never_waits(cancellation: Cancellation) -> None:
        with cancellation:
            pass

    for scenario in (never_enters, never_waits):
        with pytest.raises(AssertionError, match="nothing to cancel"):
            await cancel_everywhere(scenario)


async def test_a_scenario_that_has_no_end_is_told_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trio_tlsdown.testing._cancel.MOST_POINTS", 50)

    async def scenario(cancellation: Cancellation) -> None:
        with cancellation:
            while True:
                await trio.lowlevel.checkpoint()

    with pytest.raises(AssertionError, match="more than 50 points"):
        await cancel_everywhere(scenario)


async def test_a_cancellation_can_be_entered_once() -> None:
    async def scenario(cancellation: Cancellation) -> None:
        with cancellation:
            await trio.lowlevel.checkpoint()
        cancellation.__enter__()

    with pytest.raises(RuntimeError, match="once"):
        await cancel_everywhere(scenario)


async def test_a_task_that_is_left_is_seen() -> None:
    async with trio.open_nursery() as nursery:

        async def scenario() -> None:
            nursery.start_soon(trio.sleep_forever)
            await trio.lowlevel.checkpoint()

        with pytest.raises(AssertionError, match="left a task"):
            await cancel_everywhere(scenario)
        nursery.cancel_scope.cancel()


async def test_a_descriptor_that_is_left_is_seen() -> None:
    left: list[int] = []

    async def scenario() -> None:
        left.extend(os.pipe())
        await trio.lowlevel.checkpoint()

    with pytest.raises(AssertionError, match="left a descriptor"):
        await cancel_everywhere(scenario)
    for descriptor in left:
        os.close(descriptor)


async def test_streams_of_the_kit_need_not_be_closed() -> None:
    async def scenario() -> None:
        client, _ = await memory_tls_pair()
        await client.send_all(b"x")

    assert await cancel_everywhere(scenario) > 10


async def test_a_report_that_does_not_agree_with_the_peer_is_seen() -> None:
    async def scenario() -> None:
        ours, theirs = memory_transports()
        liar = ScriptedPeer(theirs, server_side=True)
        liar.close_notify_sent = True
        watch(ScriptedPeer(ours, server_side=False), liar)
        await trio.lowlevel.checkpoint()

    with pytest.raises(AssertionError, match="never came"):
        await cancel_everywhere(scenario)


async def test_rogue_connections_are_watched_too(autojump_clock: AutojumpClock) -> None:
    async def scenario(cancellation: Cancellation) -> None:
        async with trio.open_nursery() as nursery:
            connection = await connect_rogue(nursery, "never_answer")
            async with connection as stream:
                with cancellation:
                    await stream.shutdown()
            # The stream says that it has sent one; what if the peer had not got it?
            connection.peer.close_notify_received = False

    with pytest.raises(AssertionError, match="never came"):
        await cancel_everywhere(scenario)


async def test_without_a_folder_of_descriptors_none_is_missed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from trio_tlsdown.testing import _cancel

    monkeypatch.setattr(_cancel, "DESCRIPTORS", tmp_path / "nowhere")
    assert await cancel_everywhere(trio.lowlevel.checkpoint) == 3
