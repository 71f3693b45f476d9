"""check_endings sees what does not agree."""

from __future__ import annotations

import pytest
import trio

from tests.support import Maker
from trio_tlsdown.testing import (
    ScriptedPeer,
    check_endings,
    memory_tls_pair,
    tcp_tls_pair,
)


@pytest.mark.parametrize("make", [memory_tls_pair, tcp_tls_pair])
async def test_ends_agree_wherever_the_connection_stands(
    tls: Maker, make: object
) -> None:
    pair = memory_tls_pair if make is memory_tls_pair else tcp_tls_pair
    for ending in ("none", "half", "both", "aclose", "abort", "cut"):
        async with await pair(version=tls.version) as (client, server):
            await server.send_all(b"on its way")
            match ending:
                case "half":
                    await client.send_eof(allow_tls12=True)
                case "both":
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(server.shutdown)
                        nursery.start_soon(client.shutdown)
                case "aclose":
                    await server.aclose()
                case "abort":
                    await trio.aclose_forcefully(server)
                case "cut":
                    await server.transport_stream.send_eof()
                case _:
                    pass
            await check_endings(client, server)
            await check_endings(server, client)


async def test_ends_that_never_shook_hands_agree() -> None:
    async with await memory_tls_pair(handshake=False) as (client, server):
        await check_endings(client, server)


async def test_what_is_on_its_way_is_read_first(tls: Maker) -> None:
    async with tls.client_and_bare_server() as (stream, peer):
        await stream.send_all(b"hello")
        await stream.send_eof(allow_tls12=True)
        assert not peer.close_notify_received
        await check_endings(stream, peer)
        assert peer.received == b"hello"
        assert peer.close_notify_received


async def test_a_close_notify_that_nobody_has_sent_is_a_false_end(tls: Maker) -> None:
    async with tls.client_and_bare_server() as (stream, peer):
        await peer.send(peer.close_notify())
        peer.close_notify_sent = False
        with pytest.raises(
            AssertionError, match=r"a false end: .*TLSStream.* received"
        ):
            await check_endings(stream, peer)


async def test_a_close_notify_that_never_came_was_not_sent(tls: Maker) -> None:
    async with tls.client_and_bare_server() as (stream, peer):
        peer.close_notify_sent = True
        with pytest.raises(AssertionError, match=r"never came to .*TLSStream"):
            await check_endings(peer, stream)


async def test_an_end_that_has_closed_need_not_know_what_came_later(tls: Maker) -> None:
    async with tls.client_and_bare_server() as (stream, peer):
        await peer.transport.aclose()
        peer.close_notify_sent = True  # as it would be if the transport had taken it
        await trio.aclose_forcefully(stream)
        await check_endings(stream, peer)


async def test_an_end_that_was_reset_need_not_know_what_was_lost(tls: Maker) -> None:
    async with await tcp_tls_pair(version=tls.version) as (client, server):
        await server.send_all(b"unread, so that closing resets")
        await trio.testing.wait_all_tasks_blocked()
        await client.aclose()
        assert client.report.close_notify_sent
        await check_endings(client, server)


async def test_a_scripted_peer_tells_which_side_it_is() -> None:
    one, _ = trio.testing.memory_stream_pair()
    assert repr(ScriptedPeer(one, server_side=True)) == "<ScriptedPeer, the server>"
    assert repr(ScriptedPeer(one, server_side=False)) == "<ScriptedPeer, the client>"
