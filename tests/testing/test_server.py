"""A server on loopback serves, and tells how its connections ended."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
import trustme

from tests.support import descriptors
from trio_tlsdown import (
    ConnectFailedError,
    ShutdownOutcome,
    ShutdownPolicy,
    TLSFailedError,
    TLSStream,
    cancel_on_drain,
)
from trio_tlsdown.testing import (
    NAME,
    Cancellation,
    cancel_everywhere,
    client_context,
    echo,
    memory_tls_pair,
    server_context,
    start_server,
)


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
    assert outcomes == [ShutdownOutcome.RESET, ShutdownOutcome.COMPLETE]
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
        pass

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


async def test_a_handler_that_raises_aborts_its_connection_and_no_other(
    nursery: trio.Nursery, version: str
) -> None:
    failed: list[tuple[Exception, TLSStream[Any]]] = []

    async def handler(stream: TLSStream[Any]) -> None:
        if await stream.receive_some() == b"fail":
            raise ArithmeticError

    server = await start_server(
        nursery,
        handler,
        client=client_context(version=version),
        on_error=lambda *arguments: failed.append(arguments),
    )
    async with await server.connect() as other, await server.connect() as stream:
        await stream.send_all(b"fail")
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        [report] = await server.wait_reports()
        assert report.outcome is ShutdownOutcome.ABORTED
        assert not report.close_notify_sent
        await other.send_all(b"x")
        assert await other.receive_some() == b""
    await server.wait_reports(2)
    [error] = server.errors
    assert isinstance(error, ArithmeticError)
    [(told, served)] = failed
    assert told is error
    assert served.report.outcome is ShutdownOutcome.ABORTED


async def test_a_handler_that_returns_shuts_down(
    nursery: trio.Nursery, version: str
) -> None:
    """Both alerts cross: COMPLETE, and not SENT."""

    async def handler(stream: TLSStream[Any]) -> None:
        await stream.send_all(b"bye")

    server = await start_server(
        nursery, handler, client=client_context(version=version)
    )
    async with await server.connect() as stream:
        assert await stream.receive_some() == b"bye"
        assert await stream.receive_some() == b""
    [report] = await server.wait_reports()
    assert (report.outcome, report.first) == (ShutdownOutcome.COMPLETE, "local")


async def test_a_drain_cuts_short_a_wait_in_cancel_on_drain(
    nursery: trio.Nursery, version: str
) -> None:
    async def handler(stream: TLSStream[Any]) -> None:
        with cancel_on_drain():
            await stream.receive_some()

    server = await start_server(
        nursery, handler, client=client_context(version=version)
    )
    async with await server.connect() as stream:
        nursery.start_soon(server.server.drain)
        assert await stream.receive_some() == b""
        await stream.shutdown()
    [report] = await server.wait_reports()
    assert report.outcome is ShutdownOutcome.COMPLETE
    assert server.server.tally == {ShutdownOutcome.COMPLETE: 1}
    with pytest.raises(ConnectFailedError):
        await server.connect()


async def test_the_server_is_on_the_address_asked_for(nursery: trio.Nursery) -> None:
    for host in "127.0.0.1", "::1":
        server = await start_server(nursery, host=host)
        assert server.server.addresses[0][:2] == (host, server.port)
        async with await server.connect() as stream:
            assert stream.transport_stream.socket.getpeername()[0] == host


async def test_an_option_of_tlsservers_is_passed_on(nursery: trio.Nursery) -> None:
    server = await start_server(nursery, max_connections=1)
    async with await server.connect():
        with trio.move_on_after(0.05) as scope:
            await server.connect()
        assert scope.cancelled_caught


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (
            {"policies": 1},
            r"start_server\(\) has no option 'policies'; there are: server, cl",
        ),
        ({"policies": 1}, "max_connections, max_handshakes, handshake_timeout"),
        ({"policy": 5}, "policy must be a ShutdownPolicy, not 5"),
        ({"client": "x"}, "client must be SSLContext, not 'x'"),
        ({"server": "x"}, "ssl_context must be an SSLContext, not 'x'"),
        ({"handler": "x"}, "handler must be an async function, not 'x'"),
        (
            {"handler": partial(lambda _: None)},
            "handler must be an async function, not f",
        ),
        ({"handler": lambda _: None}, "handler must be an async function, not <f"),
        ({"max_connections": "x"}, "max_connections must be an int, not 'x'"),
    ],
)
async def test_a_mistake_is_told_at_once_and_leaves_nothing_running(
    options: dict[str, Any], error: str
) -> None:
    before = descriptors()
    async with trio.open_nursery() as nursery:  # and not wrapped in a group
        with pytest.raises(TypeError, match=error):
            await start_server(nursery, **options)
    assert descriptors() <= before


async def test_a_handler_in_place_of_the_nursery_is_told() -> None:
    wrong: Any = echo
    with pytest.raises(TypeError, match="nursery must be Nursery, not <function"):
        await start_server(wrong)


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
    assert len(server.errors) == 1
    transport = await trio.open_tcp_stream(server.host, server.port)
    async with TLSStream(transport, client_context(), server_hostname=NAME) as stream:
        await stream.do_handshake()
    assert len(await server.wait_reports(2)) == 2
    assert len(handled) == 1


async def test_connecting_to_a_server_that_has_gone_fails() -> None:
    async with trio.open_nursery() as nursery:
        server = await start_server(nursery)
        nursery.cancel_scope.cancel()
    with pytest.raises(RuntimeError, match="TLSNursery is over"):
        await server.connect()


async def test_a_cancelled_connect_leaves_nothing_open() -> None:
    async def connect_and_close(cancellation: Cancellation) -> None:
        async with trio.open_nursery() as nursery:
            server = await start_server(nursery)
            with cancellation:
                stream = await server.connect()
                with trio.CancelScope(shield=True):
                    await stream.aclose()
            nursery.cancel_scope.cancel()

    assert await cancel_everywhere(connect_and_close) >= 3


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
