"""The four scenarios with the standard library's `ssl.SSLSocket` as the peer.

It can play every part.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

import pytest
import trio

from tests.cuts import is_cut
from tests.support import Maker

from . import we
from .blocking import (
    blocking_peer,
    receive_all,
    receive_exactly,
    reset,
    send_close_notify,
    wait_until_readable,
)
from .data import DATA, digest
from .endings import TABLE, Saw, check


def it_closes_the_transport(peer: ssl.SSLSocket) -> Saw:
    peer.close()
    return Saw.NOTHING


def it_resets_the_transport(peer: ssl.SSLSocket) -> Saw:
    reset(peer)
    return Saw.NOTHING


def it_reads_and_closes_the_transport(peer: ssl.SSLSocket) -> Saw:
    assert peer.recv(1) == b""
    peer.close()
    return Saw.CLOSE_NOTIFY


def it_closes_the_transport_unread(peer: ssl.SSLSocket) -> Saw:
    wait_until_readable(peer)
    peer.close()
    return Saw.NOTHING


def it_shuts_down(peer: ssl.SSLSocket) -> Saw:
    try:
        # Returns when both alerts have crossed.
        peer.unwrap().close()
    except ConnectionResetError:
        return Saw.RESET
    except ssl.SSLError as error:
        return Saw.CUT if is_cut(error) else Saw.FAILED
    return Saw.CLOSE_NOTIFY


def it_shuts_down_when_we_are_gone(peer: ssl.SSLSocket) -> Saw:
    wait_until_readable(peer)
    return it_shuts_down(peer)


def it_shuts_down_too(peer: ssl.SSLSocket) -> Saw:
    assert peer.recv(1) == b""
    return it_shuts_down(peer)


def it_shuts_down_and_closes_at_once(peer: ssl.SSLSocket) -> Saw:
    send_close_notify(peer)
    peer.close()
    return Saw.NOTHING


PARTS: dict[str, tuple[we.Part, Callable[[ssl.SSLSocket], Saw]]] = {
    "1A": (we.shut_down_when_it_is_gone, it_closes_the_transport),
    "1A reset": (we.shut_down_after_a_reset, it_resets_the_transport),
    "1B": (we.close_the_transport, it_shuts_down_when_we_are_gone),
    "2A": (we.shut_down, it_reads_and_closes_the_transport),
    "2A reset": (we.shut_down, it_closes_the_transport_unread),
    "2B": (we.read_and_close_the_transport, it_shuts_down),
    "2B reset": (we.close_the_transport_unread, it_shuts_down),
    "3A": (we.shut_down, it_shuts_down_too),
    "3B": (we.shut_down_too, it_shuts_down),
    "4A": (we.shut_down_and_close_at_once, it_shuts_down_too),
    # unwrap() would consume our answer if it came at once.
    "4B": (we.shut_down_too_when_it_is_gone, it_shuts_down_and_closes_at_once),
}
both_roles = pytest.mark.parametrize("ours_is", ["client", "server"])


def test_an_sslsocket_plays_every_scenario() -> None:
    assert {*PARTS, "1B reset"} == set(TABLE)  # which needs session tickets


@pytest.mark.parametrize("cell", PARTS)
@both_roles
async def test_an_sslsocket_and_we_agree_how_it_ended(
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


@both_roles
@pytest.mark.parametrize("cell", ["3A", "4A"])
async def test_what_we_sent_right_before_closing_reaches_an_sslsocket(
    tls: Maker, ours_is: str, cell: str
) -> None:
    def script(peer: ssl.SSLSocket) -> str:
        peer.sendall(DATA)
        data = receive_all(peer)
        assert it_shuts_down(peer) is Saw.CLOSE_NOTIFY
        return digest(data)

    our_part, _ = PARTS[cell]
    async with blocking_peer(
        script, version=tls.version, server_side=ours_is == "server", tickets=2
    ) as (ours, peer):
        received = await we.receive(ours, len(DATA))
        await ours.send_all(DATA)
        await our_part(ours, peer)
        check(ours.report, cell)
        assert digest(received) == digest(DATA)
    assert peer.saw == digest(DATA)


@both_roles
@pytest.mark.parametrize("cell", ["3B", "4B"])
async def test_what_an_sslsocket_sent_right_before_closing_reaches_us(
    tls: Maker, ours_is: str, cell: str
) -> None:
    our_part, close = PARTS[cell]

    def script(peer: ssl.SSLSocket) -> str:
        data = receive_exactly(peer, len(DATA))
        peer.sendall(DATA)
        close(peer)
        return digest(data)

    async with blocking_peer(
        script, version=tls.version, server_side=ours_is == "server", tickets=2
    ) as (ours, peer):
        await ours.send_all(DATA)
        received = await we.receive(ours, len(DATA))
        await our_part(ours, peer)
        check(ours.report, cell)
        assert digest(received) == digest(DATA)
    assert peer.saw == digest(DATA)
