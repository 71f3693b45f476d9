"""What `suite` does not play, with the standard library's `ssl.SSLSocket` as the peer.

Resets where a FIN is meant, tickets that nobody reads, and clear text behind TLS.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

import pytest
import trio

from tests.support import Maker

from . import we
from .blocking import blocking_peer, reset, wait_until_readable
from .endings import TABLE, Saw, check
from .situations import SITUATIONS


def it_resets_the_transport(peer: ssl.SSLSocket) -> Saw:
    reset(peer)
    return Saw.NOTHING


def it_closes_the_transport_unread(peer: ssl.SSLSocket) -> Saw:
    wait_until_readable(peer)
    peer.close()
    return Saw.NOTHING


def it_shuts_down(peer: ssl.SSLSocket) -> Saw:
    with pytest.raises(ConnectionResetError):
        peer.unwrap()
    return Saw.RESET


def it_shuts_down_when_we_are_gone(peer: ssl.SSLSocket) -> Saw:
    wait_until_readable(peer)
    return it_shuts_down(peer)


PARTS: dict[str, tuple[we.Part, Callable[[ssl.SSLSocket], Saw]]] = {
    "1A reset": (we.shut_down_after_a_reset, it_resets_the_transport),
    "2A reset": (we.shut_down, it_closes_the_transport_unread),
    "2B reset": (we.close_the_transport_unread, it_shuts_down),
}
both_roles = pytest.mark.parametrize("ours_is", ["client", "server"])


def test_the_suite_and_an_sslsocket_play_every_scenario() -> None:
    assert {*PARTS, "1B reset", *SITUATIONS} >= set(TABLE)


@pytest.mark.parametrize("cell", PARTS)
@both_roles
async def test_an_sslsocket_and_we_agree_that_it_was_reset(
    tls: Maker, ours_is: str, cell: str
) -> None:
    our_part, script = PARTS[cell]
    async with blocking_peer(
        script, version=tls.version, server_side=ours_is == "server"
    ) as (ours, peer):
        await our_part(ours, peer)
        check(ours.report, cell)
        await ours.aclose()
        check(ours.report, cell)
        await peer.ended.wait()
    assert peer.saw is TABLE[cell].peer_saw


async def test_a_client_that_has_not_read_its_tickets_closes_with_a_reset(
    tls13: Maker,
) -> None:
    """Servers send tickets unasked: scenario 1, with a RST where a FIN is meant."""
    async with blocking_peer(
        it_shuts_down_when_we_are_gone,
        version=tls13.version,
        server_side=False,
        tickets=2,
    ) as (ours, peer):
        await we.close_the_transport_unread(ours, peer)
        check(ours.report, "1B reset")
        await peer.ended.wait()
    assert peer.saw is TABLE["1B reset"].peer_saw


async def test_a_goodbye_arrives_though_tickets_lie_unread(tls13: Maker) -> None:
    """Scenario 4 by a client straight after the handshake."""

    def script(peer: ssl.SSLSocket) -> Saw:
        assert peer.recv(1) == b""
        return Saw.CLOSE_NOTIFY

    async with blocking_peer(
        script, version=tls13.version, server_side=False, tickets=2
    ) as (ours, peer):
        await trio.lowlevel.wait_readable(ours.transport_stream.socket)
        await we.shut_down_and_close_at_once(ours, peer)
        check(ours.report, "4A")
        await peer.ended.wait()
    assert peer.saw is TABLE["4A"].peer_saw


@both_roles
@pytest.mark.parametrize("we_start", [True, False])
async def test_after_scenario_3_both_use_the_transport_again(
    tls: Maker, ours_is: str, *, we_start: bool
) -> None:
    def script(peer: ssl.SSLSocket) -> bytes:
        if we_start:
            assert peer.recv(1) == b""
        with peer.unwrap() as bare:
            bare.sendall(b"their clear text")
            return bare.recv(100)

    async with blocking_peer(
        script, version=tls.version, server_side=ours_is == "server"
    ) as (ours, peer):
        if not we_start:
            assert await ours.receive_some() == b""
        bare, trailing = await ours.unwrap()
        async with bare:
            text = trailing
            while len(text) < len(b"their clear text"):
                text += await bare.receive_some()
            assert text == b"their clear text"
            await bare.send_all(b"our clear text")
    assert peer.saw == b"our clear text"
