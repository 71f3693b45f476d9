"""What a session tells beyond what `trio.SSLStream` forwards."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Awaitable, Callable
from typing import Any
from unittest.mock import Mock

import pytest
import trio
import trio.testing

from tests.support import (
    CA,
    NAME,
    Maker,
    client_context,
    server_context,
    tcp_transports,
)
from trio_tlsdown import ShutdownOutcome, TLSFailedError, TLSStream


async def shaken(
    client: ssl.SSLContext, server: ssl.SSLContext
) -> tuple[TLSStream[Any], TLSStream[Any]]:
    ours, theirs = await tcp_transports()
    streams = (
        TLSStream(ours, client, server_hostname=NAME),
        TLSStream(theirs, server, server_side=True),
    )
    async with trio.open_nursery() as nursery:
        for stream in streams:
            nursery.start_soon(stream.do_handshake)
    return streams


async def close(*streams: TLSStream[Any]) -> None:
    for stream in streams:
        await trio.aclose_forcefully(stream)


def contexts(
    *, certificate: bool, willing: bool = True
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    client, server = client_context("TLSv1.3"), server_context("TLSv1.3")
    client.post_handshake_auth = willing
    server.post_handshake_auth = True
    server.verify_mode = ssl.CERT_REQUIRED
    CA.configure_trust(server)
    if certificate:
        CA.issue_cert("client.example").configure_cert(client)
    return client, server


async def ask(client: TLSStream[Any], server: TLSStream[Any]) -> bytes:
    server.verify_client_post_handshake()
    await server.send_all(b"who are you?")
    assert await client.receive_some() == b"who are you?"
    await client.send_all(b"look")
    return await server.receive_some()


async def test_a_server_asks_for_a_certificate_after_the_handshake() -> None:
    client, server = await shaken(*contexts(certificate=True))
    assert server.getpeercert() is None
    assert await ask(client, server) == b"look"
    certificate = server.getpeercert()
    assert certificate is not None
    assert ("DNS", "client.example") in certificate["subjectAltName"]
    await close(client, server)


async def end_by_shutdown(stream: TLSStream[Any]) -> None:
    await stream.shutdown(wait=False)


@pytest.mark.parametrize(
    "end",
    [end_by_shutdown, TLSStream.send_eof, TLSStream.aclose],
    ids=lambda f: f.__name__,
)
async def test_an_ending_sends_the_question_that_nothing_else_has_sent(
    end: Callable[[TLSStream[Any]], Awaitable[object]],
) -> None:
    client, server = await shaken(*contexts(certificate=True))
    await server.send_all(b"all there is")
    server.verify_client_post_handshake()
    with trio.fail_after(3):  # an idle client says nothing that could be waited for
        await end(server)
    assert server.report.close_notify_sent
    assert await client.receive_some() == b"all there is"
    assert await client.receive_some() == b""
    await close(client, server)


async def test_a_question_that_cannot_be_made_fails_an_ending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, server = await shaken(*contexts(certificate=True))
    server.verify_client_post_handshake()
    error = ssl.SSLError(ssl.SSL_ERROR_SSL, "out of order")
    monkeypatch.setattr(ssl.SSLObject, "do_handshake", Mock(side_effect=error))
    assert (await server.shutdown()).outcome is ShutdownOutcome.FAILED
    await close(client, server)


async def test_a_client_that_has_none_is_refused() -> None:
    client, server = await shaken(*contexts(certificate=False))
    with pytest.raises(TLSFailedError, match="certificate"):
        await ask(client, server)
    await close(client, server)


async def test_a_client_that_is_not_willing_is_not_asked_and_goes_on() -> None:
    client, server = await shaken(*contexts(certificate=True, willing=False))
    with pytest.raises(ssl.SSLError, match="EXTENSION_NOT_RECEIVED"):
        server.verify_client_post_handshake()
    with pytest.raises(ssl.SSLError, match="NOT_SERVER"):
        client.verify_client_post_handshake()
    await server.send_all(b"never mind")
    assert await client.receive_some() == b"never mind"
    await close(client, server)


async def test_on_tls_1_2_nobody_is_asked(tls12: Maker) -> None:
    client, server = await tls12.pair()
    with pytest.raises(ssl.SSLError, match="WRONG_SSL_VERSION"):
        server.verify_client_post_handshake()
    await close(client, server)


async def test_httpcore_finds_the_sslobject_where_trio_has_it(tls: Maker) -> None:
    client, server = await tls.pair()
    assert isinstance(client._ssl_object, ssl.SSLObject)
    await close(client, server)


async def test_the_certificate_cannot_be_had_in_the_middle_of_a_message(
    tls13: Maker,
) -> None:
    async with tls13.client_and_bare_server("tcp") as (client, peer):
        assert client.getpeercert()
        await peer.send(peer.record(22, b"\x04\x00\x00\x40"))  # the head of a ticket
        await trio.testing.wait_all_tasks_blocked()
        client.peer_state_nowait()
        with pytest.raises(ValueError, match="handshake not done yet"):
            client.getpeercert()
        assert client.version() == "TLSv1.3"


async def test_it_takes_a_handshake() -> None:
    ours, theirs = await tcp_transports()
    stream = TLSStream(ours, server_context(), server_side=True)
    with pytest.raises(trio.NeedHandshakeError, match="verify_client_post_handshake"):
        stream.verify_client_post_handshake()
    await close(stream)
    await theirs.aclose()


if sys.version_info >= (3, 13):

    async def test_the_chain_of_certificates_is_told(tls: Maker) -> None:
        client, server = await tls.pair()
        chain = client.get_verified_chain()
        assert chain[0] == client.getpeercert(binary_form=True)
        assert len(chain) == 2  # and the CA
        assert client.get_unverified_chain() == chain[:1]
        assert server.get_verified_chain() == server.get_unverified_chain() == []
        await close(client, server)
