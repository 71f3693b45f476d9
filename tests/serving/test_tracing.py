"""`open_tls_nursery(trace=...)`, and a log line for each connection."""

from __future__ import annotations

import re
from typing import Any

import pytest
import trio
import trio.testing

from tests.servers import HOST, client_of, port_of
from tests.support import (
    NAME,
    Maker,
    client_context,
    memory_transports,
    must_raise,
    server_context,
)
from trio_tlsdown import (
    ConnectionTrace,
    ShutdownOutcome,
    TLSFailedError,
    TLSStream,
    TracedConnection,
    TraceEvent,
    TraceKind,
    open_tls_nursery,
    peer_name,
)
from trio_tlsdown._core.trace import MAX_BYTE_EVENTS, connection_ids
from trio_tlsdown.cli._rows import Shape, rows_of
from trio_tlsdown.testing import echo


class Log:
    """As the docstring of `ConnectionTrace` shows it."""

    def __init__(self) -> None:
        self.traces: dict[TracedConnection, ConnectionTrace] = {}
        self.lines: list[str] = []
        self.over: dict[TracedConnection, ConnectionTrace] = {}

    def trace(self, connection: TracedConnection, event: TraceEvent) -> None:
        assert connection not in self.over
        assert connection.side == event.side
        self.traces.setdefault(connection, ConnectionTrace()).add(event)
        if event.kind.ends_connection:
            self.over[connection] = trace = self.traces.pop(connection)
            self.lines.append(f"{connection}: {trace}")


async def test_each_connection_of_clients_and_servers_gets_its_line(tls: Maker) -> None:
    log = Log()
    async with open_tls_nursery(trace=log.trace) as nursery:
        server = await nursery.start_server(
            echo, 0, server_context(tls.version), host=HOST
        )
        for _ in range(2):
            client = await nursery.connect(
                HOST, port_of(server), ssl_context=client_context(tls.version)
            )
            await client.send_all(b"hello")
            assert await client.receive_some() == b"hello"
    assert log.traces == {}
    assert len({connection.id for connection in log.over}) == 4
    assert sorted(connection.side for connection in log.over) == [
        "client",
        "client",
        "server",
        "server",
    ]
    for line in log.lines:
        assert re.fullmatch(
            r"(client \d+ of 127.0.0.1:\d+|server \d+ of 127.0.0.1:\d+): "
            r"\d+ bytes sent, \d+ received, handshake done at \d+\.\d ms, "
            r"(close_notify (sent|received) at \d+\.\d ms, ){2}"
            r"(FIN received at \d+\.\d ms, )?transport closed at \d+\.\d ms",
            line,
        )
    peers = {connection.peer for connection in log.over if connection.side == "client"}
    assert peers == {f"{HOST}:{port_of(server)}"}


async def test_two_traces_of_one_connection_make_a_swimlane(tls: Maker) -> None:
    log = Log()
    async with open_tls_nursery(trace=log.trace) as nursery:
        server = await nursery.start_server(
            echo, 0, server_context(tls.version), host=HOST
        )
        await nursery.connect(
            HOST, port_of(server), ssl_context=client_context(tls.version)
        )
    one, other = log.over.values()
    rows = rows_of([*one.events, *other.events])
    kinds = [row.mark.kind for row in rows if row.shape is Shape.ARROW]
    assert kinds.count(TraceKind.CLOSE_NOTIFY_SENT) == 2
    assert one.bytes_sent == other.bytes_received


@pytest.mark.parametrize("named", [False, True])
async def test_a_client_over_any_transport_is_named(tls: Maker, *, named: bool) -> None:
    log = Log()
    ours, theirs = await memory_transports()
    context = client_context(tls.version)
    context.check_hostname = named
    server = TLSStream(theirs, server_context(tls.version), server_side=True)

    async def serve() -> None:
        async with server:
            assert [data async for data in server] == []

    async with trio.open_nursery() as tasks:
        tasks.start_soon(serve)
        async with open_tls_nursery(trace=log.trace) as nursery:
            await nursery.start_tls(
                ours, context, server_hostname=NAME if named else None
            )
    [connection] = log.over
    assert connection.peer == (NAME if named else "a server over StapledStream")


async def test_each_tls_over_one_transport_is_a_connection(tls: Maker) -> None:
    """TLS in TLS, and TLS that begins anew on what unwrap() has returned."""
    log = Log()

    async def handler(outer: TLSStream[Any]) -> None:
        context = server_context(tls.version)
        inner = TLSStream(outer, context, server_side=True)
        assert [data async for data in inner] == []
        await inner.unwrap()
        async with TLSStream(outer, context, server_side=True) as another:
            assert [data async for data in another] == []

    async with open_tls_nursery(trace=log.trace) as nursery:
        server = await nursery.start_server(
            handler, 0, server_context(tls.version), host=HOST
        )
        context = client_context(tls.version)
        context.check_hostname = False
        outer = await nursery.connect(HOST, port_of(server), ssl_context=context)
        inner = await nursery.start_tls(outer, context, server_hostname="inner.test")
        transport, _ = await inner.unwrap()
        await nursery.start_tls(transport, context, server_hostname="another.test")
    clients = [one for one in log.over if one.side == "client"]
    assert {one.peer for one in clients} == {
        f"{HOST}:{port_of(server)}",
        "inner.test",
        "another.test",
    }
    assert len({one.id for one in clients}) == len(clients) == 3
    assert [one.side for one in log.over].count("server") == 1


async def read_name(transport: trio.SocketStream) -> None:
    name = b""
    while not name.endswith(b"\n"):
        name += await transport.receive_some(1)
    peer_name.set(name.decode().strip())


async def test_a_connection_that_is_wrapped_again_keeps_its_id(tls: Maker) -> None:
    """After *prepare*, which gives it a name, and for a new context."""
    log = Log()
    prepared: list[TLSStream[Any]] = []

    async def handler(stream: TLSStream[Any]) -> None:
        assert stream not in prepared
        await echo(stream)

    async def prepare(transport: trio.SocketStream) -> None:
        prepared.extend(server.connections)
        await read_name(transport)
        server.ssl_context = server_context(tls.version)

    ids: list[int] = []
    async with open_tls_nursery(trace=log.trace) as nursery:
        server = await nursery.start_server(
            handler, 0, server_context(tls.version), host=HOST, prepare=prepare
        )
        for name in (b"a friend", b"another"):
            ids.append(next(connection_ids))
            transport = await trio.open_tcp_stream(HOST, port_of(server))
            await transport.send_all(name + b"\n")
            context = client_context(tls.version)
            async with TLSStream(transport, context, server_hostname=NAME) as client:
                await client.send_all(b"hello")
                assert await client.receive_some() == b"hello"
    assert [str(one) for one in log.over] == [
        f"server {ids[0] + 1} of a friend",
        f"server {ids[1] + 1} of another",
    ]


async def test_a_handshake_that_fails_is_traced(tls: Maker) -> None:
    log = Log()
    async with open_tls_nursery(trace=log.trace) as nursery:
        server = await nursery.start_server(
            echo, 0, server_context(tls.version), host=HOST
        )
        with pytest.raises(TLSFailedError):
            await nursery.connect(HOST, port_of(server))
    kinds = [[event.kind for event in trace.events] for trace in log.over.values()]
    assert all(TraceKind.TLS_FAILED in each for each in kinds)
    assert len(kinds) == 2


async def test_nothing_is_traced_behind_the_end(
    tls: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though its transport takes long to close, as another TLS stream may."""
    kinds: list[TraceKind] = []
    client, server = await tls.pair(
        client={"trace": lambda event: kinds.append(event.kind)}
    )
    aclose, may_close = client.transport_stream.aclose, trio.Event()

    async def close_late() -> None:
        await may_close.wait()
        await aclose()

    monkeypatch.setattr(client.transport_stream, "aclose", close_late)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(must_raise, trio.ClosedResourceError, client.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(client.aclose)
        await trio.testing.wait_all_tasks_blocked()
        await server.send_all(b"late")
        await trio.testing.wait_all_tasks_blocked()
        may_close.set()
    assert kinds[-1] is TraceKind.TRANSPORT_CLOSED
    await trio.aclose_forcefully(server)


async def test_a_stream_that_is_unwrapped_ends_its_trace(tls: Maker) -> None:
    log = Log()

    async def handler(stream: TLSStream[Any]) -> None:
        assert [data async for data in stream] == []
        transport, _ = await stream.unwrap()
        await transport.aclose()

    async with open_tls_nursery(trace=log.trace) as nursery:
        server = await nursery.start_server(
            handler, 0, server_context(tls.version), host=HOST
        )
        client = await client_of(port_of(server), tls.version)
        await client.shutdown()
        await client.aclose()
    assert nursery.tally == {ShutdownOutcome.COMPLETE: 1}
    [line] = log.lines
    assert "unwrapped at" in line


@pytest.mark.parametrize("trace", [1, "trace", ConnectionTrace()])
async def test_a_trace_that_cannot_be_called_is_refused(trace: Any) -> None:
    with pytest.raises(TypeError, match="trace"):
        await open_tls_nursery(trace=trace).__aenter__()


def test_a_trace_of_a_long_connection_stays_small() -> None:
    trace = ConnectionTrace()
    assert str(trace) == "0 bytes sent, 0 received"
    for number in range(2 * MAX_BYTE_EVENTS):
        trace.add(TraceEvent(number, "client", TraceKind.BYTES_SENT, 10))
        trace.add(TraceEvent(number, "client", TraceKind.BYTES_RECEIVED, 1))
    trace.add(TraceEvent(7, "client", TraceKind.TRANSPORT_CLOSED))
    assert len(trace.events) == MAX_BYTE_EVENTS + 1
    assert trace.bytes_sent == 20 * MAX_BYTE_EVENTS
    assert trace.bytes_received == 2 * MAX_BYTE_EVENTS
    assert str(trace).endswith("2000 received, transport closed at 7000.0 ms")
