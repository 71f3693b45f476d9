"""`repr(stream)`: side, peer, version and state, whatever that is."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.servers import HOST
from tests.support import (
    NAME,
    Maker,
    client_context,
    memory_transports,
    server_context,
)
from trio_tlsdown import TLSStream, open_tls_nursery, testing
from trio_tlsdown._stream.stream import connected_to

MEMORY = "StapledStream"


async def test_repr_says_that_there_was_no_handshake() -> None:
    ours, theirs = await memory_transports()
    client = TLSStream(ours, client_context(), server_hostname=NAME)
    server = TLSStream(theirs, server_context(), server_side=True)
    assert repr(client) == f"<TLSStream client over {MEMORY} no handshake, open>"
    assert repr(server) == f"<TLSStream server over {MEMORY} no handshake, open>"
    await trio.aclose_forcefully(client)
    assert "no handshake, closed: aborted" in repr(client)
    await trio.aclose_forcefully(server)


async def test_a_server_and_its_nursery_say_what_they_do(tls: Maker) -> None:
    async with open_tls_nursery() as nursery:
        server = await nursery.start_server(
            testing.echo, 0, server_context(tls.version), host=HOST
        )
        [address] = server.addresses
        client = await nursery.connect(
            NAME, address[1], ssl_context=client_context(tls.version)
        )
        assert repr(server) == f"<TLSServer at {address!r}, 1 connections>"
        assert repr(nursery) == "<TLSNursery, 1 clients, 1 servers>"
        await client.aclose()
        await server.drain()
        assert repr(server) == f"<TLSServer at {address!r}, 0 connections, draining>"
    assert repr(nursery) == "<TLSNursery, 0 clients, 0 servers, over>"


async def test_repr_follows_a_stream_to_its_end(tls: Maker) -> None:
    client, server = await tls.pair()
    assert repr(client) == f"<TLSStream client over {MEMORY} {tls.version} open>"
    await client.shutdown(wait=False)
    assert repr(client) == f"<TLSStream client over {MEMORY} {tls.version} sent>"
    await server.shutdown()
    await server.aclose()
    ended = f"over {MEMORY} {tls.version} closed: complete>"
    assert repr(server) == f"<TLSStream server {ended}"
    await client.shutdown()
    await client.aclose()
    assert repr(client) == f"<TLSStream client {ended}"


async def test_repr_says_that_a_stream_was_unwrapped(tls: Maker) -> None:
    client, server = await tls.pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.unwrap)
        await client.unwrap()
    assert repr(client) == f"<TLSStream client over {MEMORY} {tls.version} unwrapped>"


async def test_repr_has_the_peers_address_while_tcp_is_connected(
    tls: Maker,
) -> None:
    client, server = await tls.pair("tcp")
    peer = client.transport_stream.socket.getpeername()
    assert repr(client) == f"<TLSStream client of {peer} {tls.version} open>"
    await trio.aclose_forcefully(client)
    assert (
        repr(client)
        == f"<TLSStream client over SocketStream {tls.version} closed: aborted>"
    )
    await trio.aclose_forcefully(server)


async def test_repr_has_the_address_that_connect_was_given(tls: Maker) -> None:
    async with open_tls_nursery() as nursery:
        server = await nursery.start_server(
            testing.echo, 0, server_context(tls.version), host=HOST
        )
        port = server.addresses[0][1]
        context = client_context(tls.version)
        client = await nursery.connect(HOST, port, ssl_context=context)
        assert (
            repr(client)
            == f"<TLSStream client of ('{HOST}', {port}) {tls.version} open>"
        )
    assert "closed: complete" in repr(client)


async def test_nothing_that_a_transport_does_makes_repr_raise(
    monkeypatch: pytest.MonkeyPatch, tls: Maker
) -> None:
    client, server = await tls.pair("tcp")
    with monkeypatch.context() as patch:
        patch.setattr(client.transport_stream, "socket", None)
        assert repr(client).startswith("<TLSStream client over SocketStream ")

    with monkeypatch.context() as patch:
        patch.setattr(trio.SocketStream, "__repr__", None)
        assert repr(server).startswith("<TLSStream server of (")
    await trio.aclose_forcefully(client)
    await trio.aclose_forcefully(server)


async def test_repr_has_the_name_that_was_connected_to(tls: Maker) -> None:
    client, server = await tls.pair("tcp")
    connected_to(client, "example.org", 443)
    assert "client of ('example.org', 443)" in repr(client)
    await trio.aclose_forcefully(client)
    await trio.aclose_forcefully(server)
