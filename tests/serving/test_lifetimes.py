"""How long connections go on, and how a handler learns that it should end."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
import trio.testing

from tests.servers import Stream, SyncClient, client_of, port_of, serving, until
from tests.support import TLS13_FIRST, Maker, server_context
from trio_tlsdown import (
    ShutdownOutcome,
    cancel_on_drain,
    draining,
    open_tls_nursery,
    receive_until_drain,
)
from trio_tlsdown._serving import server as _server
from trio_tlsdown._serving.drain import (
    DRAIN_PATIENCE,
    FIRST_REQUEST_TIME,
    REST_TIME,
    Wait,
)
from trio_tlsdown.testing import Cancellation, cancel_everywhere, echo

COMPLETE = ShutdownOutcome.COMPLETE
ABORTED = ShutdownOutcome.ABORTED

AGE = 100.0  # seconds

Clock = trio.testing.MockClock


async def answer_each(stream: Stream) -> None:
    while await receive_until_drain(stream):
        await stream.send_all((b"last " if draining() else b"") + b"answer")


async def ask(client: SyncClient, answer: bytes = b"answer") -> None:
    client.send(b"request")
    assert await client.receive() == answer


# max_age:


async def test_a_connection_that_is_old_and_idle_is_told_goodbye(
    tls: Maker, autojump_clock: Clock
) -> None:
    async with serving(tls.version, answer_each, max_age=AGE) as (_, server):
        client = await SyncClient.connect(server, tls.version)
        await ask(client)
        await client.goodbye()
        assert 0.9 * AGE <= trio.current_time() <= 1.12 * AGE
        await until(lambda: server.tally == {COMPLETE: 1})
        await ask(young := await SyncClient.connect(server, tls.version))
        young.sock.close()


async def test_connections_that_came_together_do_not_leave_together(
    tls: Maker, autojump_clock: Clock
) -> None:
    ends: list[float] = []

    async def visit() -> None:
        client = await SyncClient.connect(server, tls.version)
        await client.goodbye()
        ends.append(trio.current_time())

    async with serving(tls.version, answer_each, max_age=AGE) as (_, server):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(visit)
    assert max(ends) - min(ends) > 0.02 * AGE


async def test_an_old_connection_that_is_busy_has_its_last_answer(
    tls: Maker, autojump_clock: Clock
) -> None:
    """And its client is told that it is the last."""

    async def handler(stream: Stream) -> None:
        while True:
            request = b""
            with cancel_on_drain():
                request = await stream.receive_some()
            if not request:
                return
            await trio.sleep(7)
            await stream.send_all(b"last answer" if draining() else b"answer")

    async with serving(tls.version, handler, max_age=AGE) as (_, server):
        client = await SyncClient.connect(server, tls.version)
        answer = b""
        while answer != b"last answer":
            client.send(b"request")
            answer = await client.receive()
            assert answer
        assert 0.9 * AGE <= trio.current_time() <= 1.1 * AGE + 7.1
        await client.goodbye()
        assert trio.current_time() <= 1.1 * AGE + 7.1


async def test_an_old_connection_finishes_what_it_does(
    tls: Maker, autojump_clock: Clock
) -> None:
    async def handler(stream: Stream) -> None:
        assert not draining()
        await trio.sleep(2 * AGE)
        assert draining()
        with cancel_on_drain() as scope:
            await stream.receive_some()
        assert scope.cancelled_caught

    async with serving(tls.version, handler, max_age=AGE) as (_, server):
        client = await SyncClient.connect(server, tls.version)
        await client.goodbye()
        assert trio.current_time() == pytest.approx(2 * AGE, abs=0.1)
        await until(lambda: server.tally == {COMPLETE: 1})


async def test_a_request_that_has_come_when_it_is_old_is_answered(
    tls: Maker, autojump_clock: Clock
) -> None:
    async def handler(stream: Stream) -> None:
        await trio.sleep(2 * AGE)
        await answer_each(stream)

    async with serving(tls.version, handler, max_age=AGE) as (_, server):
        client = await SyncClient.connect(server, tls.version)
        await ask(client, b"last answer")
        await client.goodbye()


async def test_a_new_connection_has_its_first_request_however_short_its_age(
    tls: Maker, autojump_clock: Clock
) -> None:
    async with serving(tls.version, answer_each, max_age=0) as (_, server):
        client = await SyncClient.connect(server, tls.version)
        await trio.sleep(FIRST_REQUEST_TIME / 2)
        await ask(client, b"last answer")
        await client.goodbye()
        assert trio.current_time() == pytest.approx(FIRST_REQUEST_TIME / 2, abs=0.02)


async def test_a_connection_costs_nothing_until_it_is_old(
    tls: Maker, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    cut_short = Wait.cut_short

    def look(wait: Wait) -> None:
        looks.append(trio.current_time())
        cut_short(wait)

    async with serving(tls.version, answer_each, max_age=AGE) as (_, server):
        clients = [await SyncClient.connect(server, tls.version) for _ in range(3)]
        for client in clients:
            await ask(client)
        await trio.testing.wait_all_tasks_blocked()
        monkeypatch.setattr(Wait, "cut_short", look)
        for client in clients:
            await client.goodbye()
        assert len(looks) == 3
        assert min(looks) >= 0.9 * AGE


async def test_connections_that_end_before_they_are_old_are_forgotten(
    tls: Maker, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_server, "FORGET_AT_LEAST", 2)
    async with serving(tls.version, answer_each, max_age=AGE) as (_, server):
        stays = await SyncClient.connect(server, tls.version)
        for _ in range(20):
            client = await SyncClient.connect(server, tls.version)
            client.sock.close()
            await until(lambda: len(server.connections) == 1)
            assert len(server._retirements) <= 2 * 2 + 2 + 1
        await ask(stays)
        await stays.goodbye()
        assert trio.current_time() >= 0.9 * AGE


async def test_a_drain_tells_goodbye_to_those_who_are_not_old(
    tls: Maker, autojump_clock: Clock
) -> None:
    async with serving(tls.version, answer_each, max_age=AGE) as (tasks, server):
        old = await SyncClient.connect(server, tls.version)
        await trio.sleep(AGE / 2)
        young, slow = [await SyncClient.connect(server, tls.version) for _ in range(2)]
        await trio.sleep(1)
        first, second, third = await in_parts(slow)
        slow.sock.send(first)
        for client in (old, young):
            tasks.start_soon(client.goodbye)
        tasks.start_soon(lambda: server.drain(grace=10))
        await trio.sleep(2 * DRAIN_PATIENCE)
        assert len(server.connections) == 1
        slow.sock.send(second + third)
        assert await slow.receive() == b"last answer"
        await slow.goodbye()
    assert server.tally == {COMPLETE: 3}


async def test_an_age_that_never_comes_costs_no_task(tls: Maker) -> None:
    before = trio.lowlevel.current_statistics().tasks_living
    async with serving(tls.version, answer_each, max_age=math.inf):
        assert trio.lowlevel.current_statistics().tasks_living == before + 1


@pytest.mark.parametrize(
    ("age", "error"), [(None, TypeError), (-1, ValueError), (math.nan, ValueError)]
)
async def test_an_age_that_cannot_be_one_is_refused(
    age: Any, error: type[Exception]
) -> None:
    async with open_tls_nursery() as tls:
        with pytest.raises(error, match="max_age"):
            await tls.start_server(echo, 0, server_context(), max_age=age)


@pytest.mark.parametrize("version", TLS13_FIRST)
async def test_wherever_it_is_cancelled_nothing_is_left_of_a_server_with_an_age(
    tls: Maker, autojump_clock: Clock
) -> None:
    async def scenario(cancellation: Cancellation) -> None:
        with cancellation:
            async with serving(tls.version, answer_each, max_age=0.02) as (_, server):
                client = await client_of(port_of(server), tls.version, handshake=False)
                try:
                    assert await client.receive_some() == b""
                    await client.shutdown()
                finally:
                    await trio.aclose_forcefully(client)

    await cancel_everywhere(scenario)


# draining():


async def test_a_handler_learns_that_its_server_drains(
    tls: Maker, autojump_clock: Clock
) -> None:
    """From the beginning of the notice."""
    async with serving(tls.version, answer_each) as (tasks, server):
        client = await SyncClient.connect(server, tls.version)
        await ask(client)
        tasks.start_soon(lambda: server.drain(notice=5))
        await trio.sleep(1)
        await ask(client, b"last answer")
        await client.goodbye()
        assert trio.current_time() == pytest.approx(5, abs=0.1)


async def test_outside_of_a_handler_there_is_nothing_that_drains() -> None:
    with pytest.raises(RuntimeError, match=r"draining\(\) is for handlers"):
        draining()


# A request that comes in parts:


async def in_parts(client: SyncClient) -> list[bytes]:
    client.encrypt(b"request")
    whole = client._outgoing.read()
    return [whole[:3], whole[3:20], whole[20:]]


async def test_a_request_that_comes_in_parts_is_answered_in_a_drain(
    tls: Maker, autojump_clock: Clock
) -> None:
    """A slow link may need longer than a moment for one record."""
    async with serving(tls.version, answer_each) as (tasks, server):
        client = await SyncClient.connect(server, tls.version)
        await trio.sleep(10)
        first, second, third = await in_parts(client)
        client.sock.send(first)
        await trio.sleep(1)
        began = trio.current_time()
        tasks.start_soon(lambda: server.drain(grace=10))
        await trio.sleep(2 * DRAIN_PATIENCE)
        client.sock.send(second)
        await trio.sleep(2 * DRAIN_PATIENCE)
        client.sock.send(third)
        assert await client.receive() == b"last answer"
        await client.goodbye()
        assert trio.current_time() - began == pytest.approx(4 * DRAIN_PATIENCE, abs=0.1)
    assert server.tally == {COMPLETE: 1}


async def test_so_is_one_whose_first_part_is_in_the_kernel(
    tls: Maker, autojump_clock: Clock
) -> None:
    async with serving(tls.version, answer_each) as (tasks, server):
        client = await SyncClient.connect(server, tls.version)
        await trio.sleep(10)
        first, second, third = await in_parts(client)
        tasks.start_soon(lambda: server.drain(grace=10))
        client.sock.send(first)
        await trio.sleep(2 * DRAIN_PATIENCE)
        client.sock.send(second + third)
        assert await client.receive() == b"last answer"
        await client.goodbye()


async def test_a_part_that_is_never_followed_does_not_keep_an_old_connection_open(
    tls: Maker, autojump_clock: Clock
) -> None:
    async with serving(tls.version, answer_each, max_age=AGE) as (_, server):
        client = await SyncClient.connect(server, tls.version)
        await trio.sleep(0.8 * AGE)
        client.sock.send((await in_parts(client))[0])
        await until(lambda: not server.connections)
        ended = trio.current_time() - REST_TIME
        assert 0.9 * AGE <= ended <= 1.12 * AGE + 7  # it answers no close_notify
        assert server.tally == {ABORTED: 1}
        client.sock.close()


async def test_a_part_that_is_never_followed_has_half_of_the_grace(
    tls: Maker, autojump_clock: Clock
) -> None:
    async with serving(tls.version, answer_each) as (tasks, server):
        client = await SyncClient.connect(server, tls.version)
        await trio.sleep(10)
        client.sock.send((await in_parts(client))[0])
        await trio.sleep(1)
        tasks.start_soon(client.receive)
        report = await server.drain(grace=10)
        assert 5 + 5 <= report.elapsed <= 5 + 5 + 2  # and its goodbye
        assert report.tally == {ABORTED: 1}
        assert report.handlers_cancelled == 0
        client.sock.close()
