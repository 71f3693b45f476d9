"""`TLSStream.wait_peer_ended`: a handler learns that its client has gone."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from tests.support import NAME, Maker, client_context, reset
from trio_tlsdown import PeerState, ShutdownOutcome, ShutdownPolicy, TLSStream
from trio_tlsdown.testing import (
    BEHAVIOURS,
    Cancellation,
    cancel_everywhere,
    connect_rogue,
    memory_tls_pair,
)

TRANSPORTS = pytest.mark.parametrize("transport", ["memory", "tcp", "stapled"])


async def wait(stream: TLSStream[Any], ended: list[str], name: str = "") -> None:
    await stream.wait_peer_ended()
    ended.append(name)


@TRANSPORTS
@pytest.mark.parametrize("how", ["close_notify", "cut", "reset"])
async def test_it_returns_however_the_peer_has_ended(
    how: str, transport: str, tls: Maker
) -> None:
    client, server = await tls.pair(transport)
    ended: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, server, ended)
        await trio.testing.wait_all_tasks_blocked()
        assert ended == []
        if how == "close_notify":
            await client.shutdown(wait=False)
        else:
            if how == "reset" and transport == "tcp":
                reset(client)
            await client.transport_stream.aclose()
    assert ended == [""]
    expected = {
        "close_notify": ShutdownOutcome.OPEN,  # nothing of ours has ended
        "cut": ShutdownOutcome.TRUNCATED,
        "reset": ShutdownOutcome[("RESET" if transport == "tcp" else "TRUNCATED")],
    }
    assert server.report.outcome is expected[how]
    assert server.report.close_notify_received is (how == "close_notify")
    await server.wait_peer_ended()  # and again
    await trio.aclose_forcefully(client)
    await trio.aclose_forcefully(server)


@pytest.mark.parametrize(
    "behaviour", [name for name, one in BEHAVIOURS.items() if not one.in_handshake]
)
async def test_it_returns_when_a_rogue_has_ended(
    behaviour: str,
    tls: Maker,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trio_tlsdown.testing._behaviours.FLOOD", 2**19)
    async with trio.open_nursery() as nursery:
        rogue = await connect_rogue(nursery, behaviour, version=tls.version)
        async with rogue as stream:
            await stream.do_handshake()
            with trio.move_on_after(60) as scope:
                await stream.wait_peer_ended()
            # These wait for our close_notify, which we do not send.
            waits = {
                "never_answer",
                "answer_late",
                "cut_after_close_notify",
                "reset_after_close_notify",
                "keep_sending_after_close_notify",
            }
            assert scope.cancelled_caught is (behaviour in waits)
            await trio.aclose_forcefully(stream)


@TRANSPORTS
async def test_what_has_come_is_received_afterwards(transport: str, tls: Maker) -> None:
    client, server = await tls.pair(transport)
    await client.send_all(b"before ")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.wait_peer_ended)
        await trio.testing.wait_all_tasks_blocked()
        await client.send_all(b"the end")
        await client.shutdown(wait=False)
    assert server.peer_state_nowait() is PeerState.DATA_WAITING
    assert b"".join([data async for data in server]) == b"before the end"
    assert server.peer_state_nowait() is PeerState.CLOSED
    await trio.aclose_forcefully(client)
    await trio.aclose_forcefully(server)


@TRANSPORTS
@pytest.mark.parametrize("reader_first", [False, True])
async def test_a_task_that_is_receiving_gets_everything(
    transport: str, tls: Maker, *, reader_first: bool
) -> None:
    client, server = await tls.pair(transport)
    received = bytearray()
    ended: list[str] = []

    async def read() -> None:
        async for data in server:
            received.extend(data)

    async with trio.open_nursery() as nursery:
        tasks: list[Any] = [
            read,
            lambda: wait(server, ended),
            lambda: wait(server, ended),
        ]
        for task in tasks if reader_first else tasks[::-1]:
            nursery.start_soon(task)
            await trio.testing.wait_all_tasks_blocked()
        for number in range(20):
            await client.send_all(b"%d " % number)
            await trio.testing.wait_all_tasks_blocked()
            assert received.endswith(b"%d " % number)
        await client.shutdown(wait=False)
    assert received.split() == [b"%d" % number for number in range(20)]
    assert len(ended) == 2
    await trio.aclose_forcefully(client)
    await trio.aclose_forcefully(server)


async def test_sending_goes_on_beside_it(tls: Maker) -> None:
    client, server = await tls.pair("tcp")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.wait_peer_ended)
        for _ in range(3):
            await server.send_all(b"an answer")
            assert await client.receive_some() == b"an answer"
        await client.shutdown(wait=False)
    await server.send_all(b"the last one")
    assert await client.receive_some() == b"the last one"
    await trio.aclose_forcefully(client)
    await trio.aclose_forcefully(server)


async def test_it_takes_in_no_more_than_the_policy_allows_until_somebody_reads(
    tls: Maker,
) -> None:
    policy = ShutdownPolicy(max_unread=2**14)
    client, server = await tls.pair("lockstep", server={"policy": policy})
    ended: list[str] = []

    async def send() -> None:
        for _ in range(8):
            await client.send_all(bytes(2**14))
        await client.shutdown(wait=False)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, server, ended)
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        assert 2**14 < server.pending() <= 3 * 2**14
        assert ended == []
        received = 0
        while received < 2**17:
            received += len(await server.receive_some())
    assert ended == [""]
    await trio.aclose_forcefully(client)
    await trio.aclose_forcefully(server)


@TRANSPORTS
async def test_any_number_of_tasks_wait_until_somebody_reads(
    transport: str, tls: Maker
) -> None:
    policy = ShutdownPolicy(max_unread=2**14)
    client, server = await tls.pair(transport, server={"policy": policy})
    ended: list[str] = []
    async with trio.open_nursery() as nursery:
        for name in ("first", "second"):
            nursery.start_soon(wait, server, ended, name)
        await trio.testing.wait_all_tasks_blocked()
        await client.send_all(bytes(2**17))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert server.pending() > 2**14
        received = 0
        while received < 2**17:
            received += len(await server.receive_some())
        await client.shutdown(wait=False)
        assert await server.receive_some() == b""
    assert sorted(ended) == ["first", "second"]
    await trio.aclose_forcefully(client)
    await trio.aclose_forcefully(server)


async def test_a_shutdown_beside_it_completes(tls: Maker) -> None:
    client, server = await tls.pair("tcp")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.wait_peer_ended)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(client.shutdown)
        report = await server.shutdown()
    assert report.outcome is ShutdownOutcome.COMPLETE
    await trio.aclose_forcefully(client)
    await trio.aclose_forcefully(server)


@TRANSPORTS
async def test_closing_this_side_is_told(transport: str, tls: Maker) -> None:
    client, server = await tls.pair(transport)

    async def watch() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await server.wait_peer_ended()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        nursery.start_soon(watch)
        await trio.testing.wait_all_tasks_blocked()
        await server.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await server.wait_peer_ended()
    await trio.aclose_forcefully(client)


async def test_it_needs_a_handshake() -> None:
    ours, _ = trio.testing.memory_stream_pair()
    stream = TLSStream(ours, client_context(), server_hostname=NAME)
    with pytest.raises(trio.NeedHandshakeError, match="wait_peer_ended"):
        await stream.wait_peer_ended()


async def test_wherever_it_is_cancelled_nothing_is_lost_and_others_go_on(
    tls: Maker,
) -> None:
    async def scenario(cancellation: Cancellation) -> None:
        client, server = await memory_tls_pair(version=tls.version)
        received = bytearray()

        async def read() -> None:
            async for data in server:
                received.extend(data)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, client)
            with cancellation:
                await server.wait_peer_ended()
            nursery.start_soon(server.wait_peer_ended)
            await read()
        assert received == b"one two"

    async def send(client: TLSStream[Any]) -> None:
        await client.send_all(b"one ")
        await trio.lowlevel.checkpoint()
        await client.send_all(b"two")
        await client.shutdown(wait=False)

    await cancel_everywhere(scenario)
