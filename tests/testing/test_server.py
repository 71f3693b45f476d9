"""A server on loopback serves, and tells how its connections ended."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
import trustme

from tests.support import VERSIONS, cancelled_at, each_step
from trio_tlsdown import ShutdownOutcome, ShutdownPolicy, TLSFailedError, TLSStream
from trio_tlsdown.testing import (
    NAME,
    LoopbackServer,
    client_context,
    echo,
    memory_tls_pair,
    server_context,
    start_server,
)


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    result: str = request.param
    return result


async def test_a_server_echoes_and_ends_well(
    nursery: trio.Nursery, version: str
) -> None:
    server = await start_server(nursery, client=client_context(version=version))
    async with await server.connect() as stream:
        assert stream.version() == version
        await stream.send_all(b"ping")
        assert await stream.receive_some() == b"ping"
        report = await stream.shutdown()
        assert report.outcome is ShutdownOutcome.COMPLETE
    [report] = await server.wait_reports()
    assert (report.outcome, report.first) == (ShutdownOutcome.COMPLETE, "peer")


async def test_the_servers_context_is_that_asked_for(nursery: trio.Nursery) -> None:
    server = await start_server(nursery, server=server_context(version="TLSv1.2"))
    async with await server.connect() as stream:
        assert stream.version() == "TLSv1.2"


async def test_reports_are_in_the_order_of_the_endings(nursery: trio.Nursery) -> None:
    server = await start_server(nursery)
    first, second = await server.connect(), await server.connect()
    await trio.aclose_forcefully(second)
    assert len(await server.wait_reports()) == 1
    await first.aclose()
    outcomes = [report.outcome for report in await server.wait_reports(2)]
    assert outcomes == [ShutdownOutcome.TRUNCATED, ShutdownOutcome.COMPLETE]
    assert await server.wait_reports(2) is server.reports


async def test_an_open_connection_has_no_report_yet(nursery: trio.Nursery) -> None:
    server = await start_server(nursery)
    async with await server.connect() as stream:
        await stream.send_all(b"x")
        await stream.receive_some()
        assert server.reports == []


async def test_the_server_has_the_policy(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(stream: TLSStream[Any]) -> None:
        await stream.shutdown()

    policy = ShutdownPolicy(timeout=77, linger_timeout=0)
    server = await start_server(nursery, handler, policy=policy)
    async with await server.connect():
        began = trio.current_time()
        [report] = await server.wait_reports()
        assert trio.current_time() - began == pytest.approx(77)
    assert report.outcome is ShutdownOutcome.ABORTED


async def test_a_handler_that_returns_closes_with_close_notify(
    nursery: trio.Nursery, version: str
) -> None:
    async def handler(stream: TLSStream[Any]) -> None:
        pass

    server = await start_server(
        nursery, handler, client=client_context(version=version)
    )
    async with await server.connect() as stream:
        assert await stream.receive_some() == b""


async def test_what_a_handler_raises_is_raised_in_the_nursery() -> None:
    """And the connection is closed without close_notify."""
    servers: list[LoopbackServer] = []

    async def handler(stream: TLSStream[Any]) -> None:
        await stream.receive_some()
        raise ArithmeticError

    with pytest.RaisesGroup(ArithmeticError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            servers.append(await start_server(nursery, handler))
            stream = await servers[0].connect()
            await stream.send_all(b"x")
            await trio.sleep_forever()
    await trio.aclose_forcefully(stream)
    [report] = servers[0].reports
    assert report.outcome is ShutdownOutcome.ABORTED
    assert not report.close_notify_sent


async def test_a_client_that_refuses_the_server_is_only_a_report(
    nursery: trio.Nursery,
) -> None:
    handled: list[object] = []

    async def handler(stream: TLSStream[Any]) -> None:
        handled.append(stream)

    server = await start_server(
        nursery, handler, client=client_context(ca=trustme.CA())
    )
    with pytest.raises(TLSFailedError) as caught:
        await server.connect()
    assert caught.value.reason == "CERTIFICATE_VERIFY_FAILED"
    [report] = await server.wait_reports()
    assert report.outcome is ShutdownOutcome.FAILED
    assert handled == []
    transport = await trio.open_tcp_stream(server.host, server.port)
    async with TLSStream(transport, client_context(), server_hostname=NAME) as stream:
        await stream.do_handshake()
        assert len(await server.wait_reports(2)) == 2
    assert len(handled) == 1


async def test_connecting_to_a_server_that_has_gone_fails() -> None:
    async with trio.open_nursery() as nursery:
        server = await start_server(nursery)
        nursery.cancel_scope.cancel()
    with pytest.raises(OSError, match=r"all attempts to connect|refused"):
        await server.connect()


async def test_a_cancelled_connect_leaves_nothing_open(nursery: trio.Nursery) -> None:
    """A socket left open would be a ResourceWarning, which is an error here."""
    server = await start_server(nursery)

    async def attempt(step: int) -> bool:
        async def connect_and_close() -> None:
            stream = await server.connect()
            with trio.CancelScope(shield=True):
                await stream.aclose()

        return await cancelled_at(step, connect_and_close)

    await each_step(attempt, at_least=3)


async def test_echo_sends_back_until_the_peer_has_said_all(
    nursery: trio.Nursery,
) -> None:
    async with await memory_tls_pair(version="TLSv1.3") as (client, server):
        nursery.start_soon(echo, server)
        await client.send_all(b"one")
        assert await client.receive_some() == b"one"
        await client.send_all(b"two")
        await client.send_eof()
        assert await client.receive_some() == b"two"


async def test_echo_returns_when_the_peer_has_gone() -> None:
    async with await memory_tls_pair() as (client, server):
        await trio.aclose_forcefully(client)
        await echo(server)
        assert server.report.outcome is ShutdownOutcome.TRUNCATED
