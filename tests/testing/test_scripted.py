"""A scripted peer does what it is told, and tells what it saw."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
import trio.testing
import trustme

from tests.support import VERSIONS, descriptors, must_raise
from trio_tlsdown import (
    ShutdownOutcome,
    TLSFailedError,
    TLSStream,
    TransportBrokenError,
    TruncatedError,
)
from trio_tlsdown.testing import (
    NAME,
    ScriptedPeer,
    client_context,
    memory_transports,
    server_context,
    tcp_transports,
)
from trio_tlsdown.testing._transports import abort, reset

APPLICATION_DATA = 23
FATAL = 2
INTERNAL_ERROR = 80


@attrs.frozen
class Connect:
    """Connects a TLSStream to a scripted peer."""

    kind: str
    version: str

    async def transports(self) -> tuple[Any, Any]:
        return memory_transports() if self.kind == "memory" else await tcp_transports()

    @asynccontextmanager
    async def strangers(
        self, *, server_side: bool = True, **options: Any
    ) -> AsyncIterator[tuple[TLSStream[Any], ScriptedPeer]]:
        """The two, before they have shaken hands."""
        ours, theirs = await self.transports()
        peer = ScriptedPeer(
            theirs, server_side=server_side, version=self.version, **options
        )
        context = (client_context if server_side else server_context)(**options)
        stream = TLSStream(
            ours,
            context,
            server_hostname=NAME if server_side else None,
            server_side=not server_side,
        )
        try:
            yield stream, peer
        finally:
            await abort(stream, theirs)

    @asynccontextmanager
    async def __call__(
        self, **options: Any
    ) -> AsyncIterator[tuple[TLSStream[Any], ScriptedPeer]]:
        """The two, when they have."""
        async with self.strangers(**options) as (stream, peer):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.do_handshake)
                nursery.start_soon(peer.handshake)
            yield stream, peer


@pytest.fixture(params=["memory", "tcp"])
def kind(request: pytest.FixtureRequest) -> str:
    result: str = request.param
    return result


@pytest.fixture(params=VERSIONS)
def connect(request: pytest.FixtureRequest, kind: str) -> Connect:
    return Connect(kind, request.param)


# Opening:


@pytest.mark.parametrize("server_side", [True, False], ids=["server", "client"])
async def test_a_scripted_peer_shakes_hands_and_talks_on_either_side(
    connect: Connect, server_side: bool
) -> None:
    async with connect(server_side=server_side) as (stream, peer):
        assert stream.version() == connect.version
        await peer.send(peer.encrypt(b"hello"))
        assert await stream.receive_some() == b"hello"
        await stream.send_all(b"hello yourself")
        await peer.hear(5)
        assert peer.received == b"hello yourself"


@pytest.mark.parametrize("server_side", [True, False], ids=["server", "client"])
async def test_the_repr_of_a_scripted_peer_names_its_side(server_side: bool) -> None:
    transport, _ = memory_transports()
    peer = ScriptedPeer(transport, server_side=server_side)
    side = "server" if server_side else "client"
    assert repr(peer) == f"<ScriptedPeer, the {side}>"


async def test_the_context_of_a_scripted_peer_is_as_asked_for(connect: Connect) -> None:
    options = {"alpn": ["x"], "client_certificate": True, "ca": trustme.CA()}
    async with connect(**options) as (stream, _):
        assert stream.selected_alpn_protocol() == "x"


async def test_data_behind_the_last_flight_of_the_handshake_is_received(
    connect: Connect,
) -> None:
    """It came along with what ended the handshake; nothing follows."""
    ours, theirs = await connect.transports()
    client = ScriptedPeer(ours, server_side=False, version=connect.version)
    server = ScriptedPeer(theirs, server_side=True, version=connect.version)
    first, then = (client, server) if connect.version == "TLSv1.3" else (server, client)

    async def shake_hands_and_talk_in_one_breath() -> None:
        while not first.step_of_handshake():
            await first.send(first.flight())
            await first.receive_ciphertext()
        last = first.flight()
        await first.send(last + first.encrypt(b"at once"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(then.handshake)
        nursery.start_soon(shake_hands_and_talk_in_one_breath)
    assert then.received == b"at once"
    await abort(ours, theirs)


async def test_a_refused_handshake_is_told_to_both(connect: Connect) -> None:
    ours, theirs = await connect.transports()
    stream = TLSStream(ours, client_context(ca=trustme.CA()), server_hostname=NAME)
    peer = ScriptedPeer(theirs, server_side=True, version="TLSv1.2")

    async def refused() -> None:
        with pytest.raises(ssl.SSLError, match="ALERT_UNKNOWN_CA"):
            await peer.handshake()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(refused)
        with pytest.raises(TLSFailedError):
            await stream.do_handshake()
    assert peer.error is not None
    assert peer.error.reason == "TLSV1_ALERT_UNKNOWN_CA"
    await abort(stream, theirs)


async def test_a_scripted_peer_that_refuses_sends_its_alert(kind: str) -> None:
    ours, theirs = await Connect(kind, "").transports()
    stream = TLSStream(ours, server_context(version="TLSv1.2"), server_side=True)
    peer = ScriptedPeer(theirs, server_side=False, ca=trustme.CA())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(must_raise, ssl.SSLCertVerificationError, peer.handshake)
        with pytest.raises(TLSFailedError) as caught:
            await stream.do_handshake()
    assert caught.value.reason == "TLSV1_ALERT_UNKNOWN_CA"
    await abort(stream, theirs)


async def test_a_cut_in_the_handshake_is_told(connect: Connect) -> None:
    async with connect.strangers() as (stream, peer):
        await stream.transport_stream.aclose()
        with pytest.raises(trio.BrokenResourceError, match="transport has ended"):
            await peer.handshake()
        assert peer.transport_end == "FIN"


async def test_the_key_log_goes_with_the_handshake(connect: Connect) -> None:
    """The file, and its descriptor."""
    before = descriptors()
    async with connect.strangers() as (stream, peer):
        assert peer._key_log.exists()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.do_handshake)
            nursery.start_soon(peer.handshake)
        assert not peer._key_log.exists()
    assert descriptors() <= before


async def test_the_key_log_goes_when_the_handshake_fails(connect: Connect) -> None:
    async with connect.strangers() as (stream, peer):
        await stream.transport_stream.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await peer.handshake()
        assert not peer._key_log.exists()


# Records:


async def test_data_goes_in_as_many_records_as_it_takes(connect: Connect) -> None:
    async with connect() as (stream, peer):
        assert peer.encrypt(b"") == b""
        records = peer.encrypt(bytes(40000))
        assert len(records) > 40000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.send, records)
            received = b""
            while len(received) < 40000:
                received += await stream.receive_some()
        assert received == bytes(40000)


async def test_close_notify_ends_its_direction(connect: Connect) -> None:
    async with connect() as (stream, peer):
        await peer.send(peer.close_notify())
        assert await stream.receive_some() == b""
        assert peer.close_notify_sent


async def test_close_notify_counts_as_sent_when_it_was(connect: Connect) -> None:
    async with connect() as (_, peer):
        data = peer.encrypt(b"data")
        alert = peer.close_notify()
        counted = [peer.close_notify_sent]
        for part in data, alert[:1], alert[1:-1], alert[-1:] + b"more", bytes(1000):
            await peer.send(part)
            counted.append(peer.close_notify_sent)
    assert counted == [False, False, False, False, True, True]


async def test_close_notify_that_could_not_be_sent_was_not(connect: Connect) -> None:
    async with connect() as (_, peer):
        await peer.close()
        with pytest.raises(trio.ClosedResourceError):
            await peer.send(peer.close_notify())
        assert not peer.close_notify_sent


async def test_an_alert_is_the_one_asked_for(connect: Connect) -> None:
    async with connect() as (stream, peer):
        await peer.send(peer.alert(FATAL, INTERNAL_ERROR))
        with pytest.raises(TLSFailedError) as caught:
            await stream.receive_some()
        assert caught.value.reason is not None
        assert "INTERNAL_ERROR" in caught.value.reason


async def test_a_record_is_the_one_asked_for(connect: Connect) -> None:
    async with connect() as (stream, peer):
        await peer.send(peer.record(APPLICATION_DATA, b"by hand"))
        assert await stream.receive_some() == b"by hand"


async def test_a_tampered_record_fails_its_check(connect: Connect) -> None:
    async with connect() as (stream, peer):
        await peer.send(peer.tampered())
        with pytest.raises(TLSFailedError) as caught:
            await stream.receive_some()
        assert caught.value.reason == "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"
        await trio.aclose_forcefully(stream)
        await peer.hear_to_end()
        assert peer.error is not None
        assert "BAD_RECORD_MAC" in peer.error.reason


# Receiving:


async def test_a_scripted_peer_hears_close_notify_and_the_data_before_it(
    connect: Connect,
) -> None:
    async with connect() as (stream, peer):
        await stream.send_all(b"data")
        await stream.shutdown(wait=False)
        await peer.hear_close_notify()
        assert peer.close_notify_received
        assert peer.received == b"data"


async def test_what_follows_close_notify_is_not_read(connect: Connect) -> None:
    async with connect() as (stream, peer):
        await stream.shutdown(wait=False)
        await stream.transport_stream.send_all(b"in clear text")
        await stream.transport_stream.send_eof()
        await peer.hear_to_end()
        assert peer.error is None
        assert peer.received == b""


@pytest.mark.parametrize("end", ["close", "abort", "alert"])
async def test_a_scripted_peer_does_not_wait_for_what_will_not_come(
    connect: Connect, end: str
) -> None:
    async with connect() as (stream, peer):
        if end == "close":
            await stream.aclose()
        elif end == "abort":
            await trio.aclose_forcefully(stream)
        else:
            await peer.send(peer.tampered())
            with pytest.raises(TLSFailedError):
                await stream.receive_some()
        with pytest.raises(trio.BrokenResourceError, match="has ended before"):
            await peer.hear(1)
        if end != "close":
            with pytest.raises(trio.BrokenResourceError, match="has ended before"):
                await peer.hear_close_notify()
        assert peer.close_notify_received is (end == "close")
        assert (peer.error is not None) is (end == "alert")


async def test_a_scripted_peer_tells_a_fin_from_a_reset(connect: Connect) -> None:
    # A client: to close with its session tickets unread would be a reset.
    async with connect(server_side=False) as (stream, peer):
        await stream.aclose()
        await peer.hear_to_end()
        assert peer.transport_end == "FIN"
    async with connect() as (stream, peer):
        await reset(stream.transport_stream)
        await peer.hear_to_end()
        assert peer.transport_end == "reset"


async def test_a_send_that_fails_tells_the_end_of_the_transport(
    connect: Connect,
) -> None:
    async with connect() as (stream, peer):
        await reset(stream.transport_stream)
        with pytest.raises(trio.BrokenResourceError):
            await peer.send(b"x")
        assert peer.transport_end == "reset"
    async with connect(server_side=False) as (stream, peer):
        await stream.aclose()
        await peer.hear_to_end()
        with pytest.raises(trio.BrokenResourceError):  # noqa: PT012 - or the next
            await peer.send(b"x")
            await peer.send(b"x")
        assert peer.transport_end == "FIN"


# The transport:


async def test_cut_is_a_fin_in_this_direction_only(connect: Connect) -> None:
    async with connect() as (stream, peer):
        await peer.cut()
        with pytest.raises(TruncatedError):
            await stream.receive_some()
        await stream.send_all(b"still")
        await peer.hear(5)
        assert peer.received == b"still"


async def test_close_closes_the_transport(connect: Connect) -> None:
    async with connect() as (stream, peer):
        await peer.close()
        with pytest.raises(TruncatedError):
            await stream.receive_some()
        with pytest.raises(trio.ClosedResourceError):
            await peer.receive()


async def test_reset_is_a_reset(connect: Connect) -> None:
    async with connect() as (stream, peer):
        await peer.reset()
        with pytest.raises(TransportBrokenError) as caught:
            await stream.receive_some()
        assert type(caught.value.__cause__) is ConnectionResetError
        assert stream.report.outcome is ShutdownOutcome.RESET


async def test_a_sender_that_meets_a_reset_knows_why(connect: Connect) -> None:
    async with connect() as (stream, peer):
        await peer.reset()
        with pytest.raises(TransportBrokenError) as caught:
            await stream.send_all(b"x")
        assert type(caught.value.__cause__) is ConnectionResetError
