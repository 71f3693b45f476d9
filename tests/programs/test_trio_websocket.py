"""trio-websocket asks whether a stream is a trio.SSLStream, and so a TLSStream is one."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import trio

from tests.interop.programs import require_module
from tests.servers import HOST, client_of, port_of, serving
from tests.support import Maker, client_context, server_context
from trio_tlsdown import open_tls_over_tcp_listeners

require_module("trio_websocket")

import trio_websocket
from trio_websocket import ConnectionClosed, Endpoint

MESSAGE = "x" * 2**17  # many records


async def echo(request: Any) -> None:
    socket = await request.accept()
    with suppress(ConnectionClosed):
        while True:
            await socket.send_message(await socket.get_message())


def url_of(endpoint: Endpoint | str) -> str:
    """A str is the repr of a stream that it does not know."""
    assert isinstance(endpoint, Endpoint)
    return endpoint.url


async def check_echo(socket: Any) -> None:
    for message in "hello", MESSAGE:
        await socket.send_message(message)
        assert await socket.get_message() == message


@pytest.mark.usefixtures("in_place")
async def test_a_websocket_client_and_server_talk_over_tls(tls: Maker) -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            trio_websocket.serve_websocket,
            echo,
            HOST,
            0,
            server_context(tls.version),
        )
        context = client_context(tls.version)
        async with trio_websocket.open_websocket(
            HOST, server.port, "/", use_ssl=context
        ) as socket:
            await check_echo(socket)
            assert url_of(socket.remote) == f"wss://{HOST}:{server.port}"
        nursery.cancel_scope.cancel()


async def test_websockets_run_on_tls_streams_made_elsewhere(tls: Maker) -> None:
    """None of trio's names is replaced: what is asked is `isinstance()`."""
    seen = []

    async def serve(stream: Any) -> None:
        async with trio.open_nursery() as nursery:
            request = await trio_websocket.wrap_server_stream(nursery, stream)
            seen.append(url_of(request.remote))
            await echo(request)

    async with serving(tls.version, serve) as (_, server):
        stream: Any = await client_of(port_of(server), tls.version)
        _, port = stream.transport_stream.socket.getsockname()
        async with stream, trio.open_nursery() as nursery:
            socket = await trio_websocket.wrap_client_stream(nursery, stream, HOST, "/")
            await check_echo(socket)
            assert url_of(socket.local) == f"wss://{HOST}:{port}"
            assert url_of(socket.remote) == f"wss://{HOST}:{port_of(server)}"
            await socket.aclose()
    assert seen == [f"wss://{HOST}:{port}"]


async def test_a_websocket_server_runs_on_listeners_made_elsewhere(tls: Maker) -> None:
    listeners: Any = await open_tls_over_tcp_listeners(
        0, server_context(tls.version), host=HOST
    )
    server = trio_websocket.WebSocketServer(echo, listeners)
    assert server.port == port_of(listeners)
    await listeners[0].aclose()
