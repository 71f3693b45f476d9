"""receive_until_drain(): as cancel_on_drain() round receive_some(), and cheaper."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.testing

from tests.servers import (
    Stream,
    SyncClient,
    answer_each,
    client_of,
    port_of,
    serving,
    until,
)
from tests.support import NAME, Maker, client_context, server_context
from trio_tlsdown import (
    PeerState,
    ShutdownOutcome,
    TLSStream,
    receive_until_drain,
)
from trio_tlsdown.testing import Cancellation, cancel_everywhere, memory_tls_pair

COMPLETE = ShutdownOutcome.COMPLETE
ABORTED = ShutdownOutcome.ABORTED

OLD = 10.0  # seconds: what is older is not new
BIG = 2**23  # bytes: more than two kernels buffer

Clock = trio.testing.MockClock


async def test_it_waits_without_a_cancel_scope(
    tls: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is what makes it cheap."""
    async with serving(tls.version, answer_each) as (tasks, server):
        client = await client_of(port_of(server), tls.version)
        await client.send_all(b"one")
        assert await client.receive_some() == b"answer to one"
        with monkeypatch.context() as patch:
            patch.setattr("trio_tlsdown._serving.drain.Wait", None)
            await client.send_all(b"two")
            assert await client.receive_some() == b"answer to two"
        tasks.start_soon(client.shutdown)
        assert (await server.drain()).tally == {COMPLETE: 1}
        await client.aclose()


@pytest.mark.parametrize("seconds", [60, math.inf])
async def test_a_drain_ends_all_idle_connections_at_once(
    seconds: float, tls: Maker, autojump_clock: Clock
) -> None:
    async def handler(stream: Stream) -> None:
        assert await receive_until_drain(stream, timeout=seconds) == b""

    async with serving(tls.version, handler) as (tasks, server):
        clients = [await SyncClient.connect(server, tls.version) for _ in range(20)]
        await trio.sleep(OLD)
        assert server.statistics().idle == 20
        for client in clients:
            tasks.start_soon(client.goodbye)
        report = await server.drain()
    assert report.tally == {COMPLETE: 20}
    assert report.elapsed < 0.1
    assert server.statistics().idle == 0


async def test_a_drain_without_grace_cancels_no_idle_handler(
    tls: Maker, autojump_clock: Clock
) -> None:
    async with serving(tls.version, answer_each) as (tasks, server):
        clients = [await SyncClient.connect(server, tls.version) for _ in range(20)]
        await trio.sleep(OLD)
        for client in clients:
            tasks.start_soon(client.goodbye)
        report = await server.drain(grace=0)
    assert report.tally == {COMPLETE: 20}
    assert report.handlers_cancelled == 0


async def test_a_sender_beside_is_not_disturbed(
    tls: Maker, autojump_clock: Clock
) -> None:
    """It waits for the same socket, and Trio can only wake both."""
    woken = trio.Event()

    async def handler(stream: Stream) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, bytes(BIG))
            assert await receive_until_drain(stream) == b""
            woken.set()

    async with serving(tls.version, handler) as (tasks, server):
        client = await client_of(port_of(server), tls.version)
        await trio.sleep(OLD)
        tasks.start_soon(server.drain)
        await woken.wait()
        received = 0
        async for chunk in client:
            received += len(chunk)
        await client.aclose()
    assert received == BIG
    assert server.tally == {COMPLETE: 1}


@pytest.mark.parametrize("wait", ["wait_peer_ended", "wait_send_all_might_not_block"])
@pytest.mark.parametrize("before", [False, True])
async def test_a_watcher_beside_gets_no_error(
    wait: str, before: bool, tls: Maker
) -> None:
    connected, ended = trio.Event(), trio.Event()

    async def handler(stream: Stream) -> None:
        await connected.wait()  # what follows is no TLS
        if wait == "wait_send_all_might_not_block":
            with suppress(BlockingIOError):
                while True:
                    os.write(stream.transport_stream.socket.fileno(), bytes(2**16))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(getattr(stream, wait))
            if before:  # it is the watcher that waits for the socket
                await trio.testing.wait_all_tasks_blocked()
            assert await receive_until_drain(stream) == b""
            ended.set()
            nursery.cancel_scope.cancel()
        await trio.aclose_forcefully(stream)

    async with serving(tls.version, handler) as (_, server):
        client = await client_of(port_of(server), tls.version)
        connected.set()
        await until(lambda: server.statistics().idle)
        await server.drain()
        await trio.aclose_forcefully(client)
    assert ended.is_set()
    assert server.tally == {ABORTED: 1}


async def test_the_rest_of_a_request_is_received_in_a_drain(
    tls: Maker, autojump_clock: Clock
) -> None:
    async def handler(stream: Stream) -> None:
        assert await receive_until_drain(stream, 4) == b"head"
        await server.draining.wait()
        await stream.send_all(b"answer to " + await stream.receive_some())

    async with serving(tls.version, handler) as (tasks, server):
        client = await SyncClient.connect(server, tls.version)
        client.send(b"head")
        await trio.sleep(OLD)
        tasks.start_soon(server.drain)
        await trio.sleep(1)  # of five
        client.send(b"body")
        assert await client.receive() == b"answer to body"
        await client.goodbye()
    assert server.tally == {COMPLETE: 1}


async def test_a_wait_that_begins_in_a_drain_is_cut_short(
    tls: Maker, autojump_clock: Clock
) -> None:
    async def handler(stream: Stream) -> None:
        await server.draining.wait()
        await trio.sleep(1)
        assert await receive_until_drain(stream) == b""

    async with serving(tls.version, handler) as (tasks, server):
        client = await SyncClient.connect(server, tls.version)
        tasks.start_soon(client.goodbye)
        report = await server.drain()
    assert report.tally == {COMPLETE: 1}
    assert report.elapsed == pytest.approx(1, abs=0.01)


async def test_another_stream_than_the_handlers_own_can_be_waited_for(
    tls: Maker, autojump_clock: Clock
) -> None:
    async def handler(stream: Stream) -> None:
        near, far = await memory_tls_pair(version=tls.version)
        async with near, far:
            await far.send_all(b"from afar")
            assert await receive_until_drain(near) == b"from afar"
            assert await receive_until_drain(near) == b""
            assert server.draining.is_set()

    async with serving(tls.version, handler) as (tasks, server):
        client = await SyncClient.connect(server, tls.version)
        await trio.sleep(OLD)
        tasks.start_soon(client.goodbye)
        assert (await server.drain()).tally == {COMPLETE: 1}


@pytest.mark.parametrize("over", ["the transport", "the stream"])
async def test_a_request_that_was_decrypted_in_a_stream_of_the_handler_is_answered(
    over: str, tls: Maker, autojump_clock: Clock
) -> None:
    """After STARTTLS, and back, and again; or TLS in TLS."""

    async def handler(stream: Stream) -> None:
        below, rest = await peel(stream)
        context = server_context(tls.version)
        async with TLSStream(
            below, context, server_side=True, initial_bytes=rest
        ) as own:
            while request := await receive_until_drain(own, 4):
                received.set()
                await server.draining.wait()
                await trio.sleep(1)
                await own.send_all(b"answer to " + request + b".")
            await own.shutdown()

    async def peel(stream: Stream) -> tuple[trio.abc.Stream, bytes]:
        return await stream.unwrap() if over == "the transport" else (stream, b"")

    received = trio.Event()
    async with serving(tls.version, handler) as (tasks, server):
        below, rest = await peel(await client_of(port_of(server), tls.version))
        client = TLSStream(
            below,
            client_context(tls.version),
            server_hostname=NAME,
            initial_bytes=rest,
        )
        await client.send_all(b"one.two.")
        await received.wait()
        await trio.sleep(OLD)
        tasks.start_soon(server.drain)
        assert b"".join([chunk async for chunk in client]) == (
            b"answer to one..answer to two.."
        )
        await client.aclose()
    assert server.tally.total() == 1


async def test_only_one_task_can_receive(tls: Maker, autojump_clock: Clock) -> None:
    async def handler(stream: Stream) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive_until_drain, stream)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await receive_until_drain(stream)

    async with serving(tls.version, handler) as (tasks, server):
        client = await SyncClient.connect(server, tls.version)
        await trio.sleep(OLD)
        assert server.statistics().idle == 1
        tasks.start_soon(client.goodbye)
        assert (await server.drain()).tally == {COMPLETE: 1}


async def test_a_cancelled_wait_loses_nothing(tls: Maker) -> None:
    """At whatever checkpoint it is cancelled."""

    async def scenario(cancellation: Cancellation) -> None:
        received = b""

        async def handler(stream: Stream) -> None:
            nonlocal received
            with cancellation:
                received += await receive_until_drain(stream)
            while received != b"request":
                received += await receive_until_drain(stream)
            assert stream.peer_state_nowait() is PeerState.IDLE
            await stream.send_all(b"answer")

        async with serving(tls.version, handler) as (_, server):
            client = await client_of(port_of(server), tls.version)
            await client.send_all(b"request")
            assert await client.receive_some() == b"answer"
            await client.shutdown()
            await client.aclose()
            await until(lambda: server.tally == {COMPLETE: 1})

    await cancel_everywhere(scenario)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"timeout": "1"}, TypeError),
        ({"timeout": -1}, ValueError),
        ({"max_bytes": 0}, ValueError),
    ],
)
async def test_wrong_arguments_are_refused(
    arguments: dict[str, Any], error: type[Exception], tls13: Maker
) -> None:
    async def handler(stream: Stream) -> None:
        with pytest.raises(error, match=next(iter(arguments))):
            await receive_until_drain(stream, **arguments)
        refused.set()

    refused = trio.Event()
    async with serving(tls13.version, handler) as (_, server):
        client = await client_of(port_of(server), tls13.version)
        assert await client.receive_some() == b""
        await client.aclose()
    assert refused.is_set()


async def test_outside_of_a_handler_it_is_an_error(tls13: Maker) -> None:
    a, b = await tls13.pair()
    with pytest.raises(RuntimeError, match="receive_until_drain"):
        await receive_until_drain(a)
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)
