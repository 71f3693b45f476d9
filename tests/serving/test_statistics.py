"""What a server tells of itself."""

from __future__ import annotations

import time
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from tests.servers import (
    Stream,
    answer_each,
    client_of,
    port_of,
    rogue_of,
    serving,
    until,
)
from tests.support import Maker
from trio_tlsdown import (
    ShutdownOutcome,
    TLSServerStatistics,
    cancel_on_drain,
)
from trio_tlsdown._serving.drain import NextLook, ServedConnection, Waits

COMPLETE = ShutdownOutcome.COMPLETE
FAILED = ShutdownOutcome.FAILED
TRUNCATED = ShutdownOutcome.TRUNCATED


def doing(statistics: TLSServerStatistics) -> tuple[int, int, int]:
    return statistics.handshaking, statistics.open, statistics.idle


async def test_it_tells_what_its_connections_do(tls: Maker) -> None:
    async def handler(stream: Stream) -> None:
        await answer_each(stream)
        await go_on.wait()

    go_on = trio.Event()
    async with serving(tls.version, handler) as (tasks, server):
        assert doing(server.statistics()) == (0, 0, 0)
        client = await client_of(port_of(server), tls.version, handshake=False)
        await until(lambda: doing(server.statistics()) == (1, 0, 0))
        await client.do_handshake()
        await until(lambda: doing(server.statistics()) == (0, 1, 1))
        await client.send_all(b"hello")
        assert await client.receive_some() == b"answer to hello"
        await trio.testing.wait_all_tasks_blocked()
        assert doing(server.statistics()) == (0, 1, 1)
        tasks.start_soon(client.shutdown)
        await until(lambda: doing(server.statistics()) == (0, 1, 0))
        assert not server.statistics().draining
        go_on.set()
        await until(lambda: doing(server.statistics()) == (0, 0, 0))
        await client.aclose()
        await server.drain()
        assert server.statistics().draining


async def test_it_tells_how_they_ended_and_who_ended_them_first(tls: Maker) -> None:
    async with serving(tls.version, answer_each) as (tasks, server):
        port = port_of(server)
        for name in ("cut_before_close_notify", "cut_in_handshake"):
            rogue = await rogue_of(port, tasks, name, tls.version)
            await until(lambda: not server.connections)
            await rogue.finish()
        client = await client_of(port, tls.version)
        await client.shutdown()
        await client.aclose()
        idle = await client_of(port, tls.version)
        await until(lambda: doing(server.statistics())[2] == 1)

        async def goodbye() -> None:
            assert await idle.receive_some() == b""
            await idle.shutdown()
            await idle.aclose()

        tasks.start_soon(goodbye)
        await server.drain()
        statistics = server.statistics()
        assert statistics.ended == {COMPLETE: 2, TRUNCATED: 1, FAILED: 1}
        assert statistics.ended == server.tally
        assert statistics.ended_by == {"local": 1, "peer": 1, None: 2}
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            statistics.open = 5  # type: ignore[misc]
        statistics.ended.clear()
        assert server.tally


async def test_a_connection_whose_tasks_wait_twice_is_idle_once(tls: Maker) -> None:
    async def wait(over: trio.Event) -> None:
        with cancel_on_drain():
            await over.wait()

    async def handler(stream: Stream) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, over)
            nursery.start_soon(wait, trio.Event())

    over = trio.Event()
    async with serving(tls.version, handler) as (tasks, server):
        client = await client_of(port_of(server), tls.version)
        await until(lambda: server.statistics().idle)
        await trio.testing.wait_all_tasks_blocked()
        assert doing(server.statistics()) == (0, 1, 1)
        over.set()
        await trio.testing.wait_all_tasks_blocked()
        assert doing(server.statistics()) == (0, 1, 1)
        tasks.start_soon(client.shutdown)
        await server.drain()
        await client.aclose()
    assert doing(server.statistics()) == (0, 0, 0)


async def test_a_wait_that_goes_on_since_prepare_hides_no_idle_connection(
    tls: Maker,
) -> None:
    async def wait() -> None:
        with cancel_on_drain():
            await over.wait()

    async def prepare(_: object) -> None:
        others.start_soon(wait)

    over = trio.Event()
    async with trio.open_nursery() as others:
        async with serving(tls.version, answer_each, prepare=prepare) as (
            tasks,
            server,
        ):
            client = await client_of(port_of(server), tls.version)
            await until(lambda: server.statistics().idle)
            over.set()
            await trio.testing.wait_all_tasks_blocked()
            assert doing(server.statistics()) == (0, 1, 1)
            tasks.start_soon(client.shutdown)
            await server.drain()
            await client.aclose()
        assert doing(server.statistics()) == (0, 0, 0)


@pytest.mark.parametrize("begun", ["before", "after"])
async def test_a_wait_of_a_connection_that_has_ended_is_no_idle_connection(
    begun: str, tls: Maker
) -> None:
    """A task that its handler has started may outlive it. A drain ends it, too."""
    over, waits, cut = trio.Event(), trio.Event(), trio.Event()

    async def outlive() -> None:
        if begun == "after":
            await over.wait()
        with cancel_on_drain() as scope:
            waits.set()
            await trio.sleep_forever()
        assert scope.cancelled_caught
        cut.set()

    async def handler(stream: Stream) -> None:
        others.start_soon(outlive)
        if begun == "before":
            await waits.wait()
            assert doing(server.statistics()) == (0, 1, 1)

    async with trio.open_nursery() as others:
        async with serving(tls.version, handler) as (_, server):
            client = await client_of(port_of(server), tls.version)
            assert await client.receive_some() == b""
            await client.aclose()
            await until(lambda: server.tally == {COMPLETE: 1})
            over.set()
            await waits.wait()
            assert doing(server.statistics()) == (0, 0, 0)
            await server.drain()
            await cut.wait()
            assert doing(server.statistics()) == (0, 0, 0)


async def test_a_wait_that_is_entered_again_is_refused_and_counts_nothing(
    tls: Maker,
) -> None:
    async def handler(stream: Stream) -> None:
        wait = cancel_on_drain()
        with wait:
            assert server.statistics().idle == 1
            with pytest.raises(RuntimeError):
                wait.__enter__()
            assert server.statistics().idle == 1
        with pytest.raises(RuntimeError):
            wait.__enter__()
        assert server.statistics().idle == 0
        await answer_each(stream)

    async with serving(tls.version, handler) as (tasks, server):
        client = await client_of(port_of(server), tls.version)
        tasks.start_soon(client.shutdown)
        assert (await server.drain()).tally == {COMPLETE: 1}
        await client.aclose()


async def test_asking_costs_the_same_however_many_there_are(tls13: Maker) -> None:
    async with serving(tls13.version, answer_each) as (_, server):
        client = await client_of(port_of(server), tls13.version)
        await until(lambda: server.statistics().open)
        [stream] = server.connections

        def cost() -> float:
            best = 1.0
            for _ in range(20):
                began = time.perf_counter()
                assert server.connections
                assert len(server.connections) > 0
                assert server.tally == {}
                server.statistics()
                best = min(best, time.perf_counter() - began)
            return best

        alone = cost()
        many: list[Any] = [
            ServedConnection(
                stream, 1, "somebody", Waits(NextLook(), new=1), trio.Event()
            )
            for _ in range(10_000)
        ]
        server._connections.update(many)
        assert cost() < 3 * alone + 20e-6
        server._connections.difference_update(many)
        await trio.aclose_forcefully(client)


async def test_connections_are_a_set_that_is_up_to_date(tls: Maker) -> None:
    async with serving(tls.version, answer_each) as (_, server):
        connections = server.connections
        assert not connections
        clients = [await client_of(port_of(server), tls.version) for _ in range(3)]
        await until(lambda: len(connections) == 3)
        assert repr(connections) == "<3 connections>"
        for stream in connections:  # while they go
            assert stream in connections
            await trio.aclose_forcefully(stream)
            await until(lambda: {stream}.isdisjoint(connections))  # noqa: B023
        assert len(connections) == 0
        assert connections == set()
        assert connections | {1} == {1}
        for client in clients:
            await trio.aclose_forcefully(client)
