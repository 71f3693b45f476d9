"""TLS 1.2 lets the peer start a new handshake at any time.

Only pyOpenSSL can be made to. Trio's own suite renegotiates at random on top of
this; here are the endings.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from OpenSSL import SSL

from tests.support import (
    BAD_RECORD,
    CA,
    CERT,
    NAME,
    TRANSPORTS,
    client_context,
    memory_transports,
    must_raise,
    tcp_transports,
)
from trio_tlsdown import (
    PeerState,
    ShutdownOutcome,
    ShutdownPolicy,
    TLSFailedError,
    TLSStream,
)
from trio_tlsdown.testing import Cancellation, ScriptedPeer, cancel_everywhere
from trio_tlsdown.testing._record_keys import HEADER, TAG_SIZE, TLS12, RecordKeys


class RenegotiatingServer:
    """pyOpenSSL with its ciphertext in our hands."""

    def __init__(self, transport: trio.abc.Stream) -> None:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        CERT.configure_cert(context)
        self.transport = transport
        self.tls = SSL.Connection(context, None)
        self.tls.set_accept_state()

    async def handshake(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except SSL.WantReadError:
                await self.flush()
                self.tls.bio_write(bytes(await self.transport.receive_some()))
            else:
                await self.flush()
                return

    async def flush(self) -> None:
        with suppress(SSL.WantReadError):
            await self.transport.send_all(self.tls.bio_read(2**16))

    async def ask_for_a_new_handshake(self) -> None:
        self.tls.renegotiate()
        self.tls.do_handshake()
        await self.flush()

    async def receive(self) -> bytes:
        """The next data; a handshake that comes before them is done."""
        while True:
            try:
                return self.tls.recv(100)
            except SSL.WantReadError:
                await self.flush()
                self.tls.bio_write(bytes(await self.transport.receive_some()))


@asynccontextmanager
async def connected(
    policy: ShutdownPolicy = ShutdownPolicy(), transport: str = "memory"
) -> AsyncIterator[tuple[TLSStream[Any], RenegotiatingServer]]:
    ours, theirs = await TRANSPORTS[transport]()
    client = TLSStream(
        ours, client_context("TLSv1.2"), server_hostname=NAME, policy=policy
    )
    server = RenegotiatingServer(theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        nursery.start_soon(server.handshake)
    yield client, server
    await trio.aclose_forcefully(client)


@asynccontextmanager
async def asked_to_renegotiate(
    policy: ShutdownPolicy = ShutdownPolicy(), transport: str = "memory"
) -> AsyncIterator[tuple[TLSStream[Any], RenegotiatingServer]]:
    """A client that has read the server's wish for a new handshake."""
    async with connected(policy, transport) as (client, server):
        await server.ask_for_a_new_handshake()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.receive_some)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        yield client, server


async def test_a_receive_that_is_cancelled_before_it_answers_breaks_nothing() -> None:
    """What it wanted to answer goes out with the next call."""
    fates = []

    async def scenario(cancellation: Cancellation) -> None:
        async with connected() as (client, server):
            async with trio.open_nursery() as nursery:

                async def ask() -> None:
                    await trio.testing.wait_all_tasks_blocked()
                    await server.ask_for_a_new_handshake()
                    await trio.testing.wait_all_tasks_blocked()
                    blocked.cancel()

                with trio.CancelScope() as blocked:
                    nursery.start_soon(ask)
                    with cancellation:
                        await client.receive_some()
                await trio.testing.wait_all_tasks_blocked()
                try:
                    await client.send_all(b"")
                except trio.BrokenResourceError:
                    fates.append("cut while it answered")
                else:
                    fates.append("unharmed")
                    nursery.start_soon(client.send_all, b"on and on")
                    assert await server.receive() == b"on and on"

    assert await cancel_everywhere(scenario) >= 3
    assert fates.index("cut while it answered") >= 3


async def test_data_can_be_sent_while_the_peer_renegotiates() -> None:
    async with asked_to_renegotiate() as (client, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, b"on and on")
            assert await server.receive() == b"on and on"
        assert server.tls.total_renegotiations() == 1


@pytest.mark.parametrize("transport", ["memory", "tcp", "stapled"])
@pytest.mark.parametrize("ending", ["shutdown", "send_eof", "aclose"])
async def test_a_close_notify_waits_for_the_end_of_a_renegotiation(
    ending: str, transport: str
) -> None:
    """OpenSSL refuses to send one in the middle: SHUTDOWN_WHILE_IN_INIT."""
    async with asked_to_renegotiate(transport=transport) as (client, server):
        end: dict[str, Callable[[], Awaitable[object]]] = {
            "shutdown": client.shutdown,
            "send_eof": partial(client.send_eof, allow_tls12=True),
            "aclose": client.aclose,
        }
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end[ending])
            with pytest.raises(SSL.ZeroReturnError):
                await server.receive()
            assert server.tls.total_renegotiations() == 1
            await server.transport.aclose()
        assert client.report.close_notify_sent


async def test_a_close_notify_does_not_wait_for_a_renegotiation_for_ever(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with asked_to_renegotiate() as (client, _):
        report = await client.shutdown()
        assert report.outcome is ShutdownOutcome.ABORTED
        assert not report.close_notify_sent
        assert trio.current_time() == ShutdownPolicy().timeout


async def test_a_send_that_has_to_listen_takes_in_what_the_policy_allows() -> None:
    """The peer may send data in the middle of it, and never come to its end."""
    policy = ShutdownPolicy(max_unread=2000)
    async with asked_to_renegotiate(policy) as (client, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, b"on and on")
            for _ in range(10):
                server.tls.send(b"x" * 1000)
                await server.flush()
                await trio.testing.wait_all_tasks_blocked()
            assert client.report.discarded == 3000

            async def read() -> None:
                received = 0
                while received < 10_000:
                    received += len(await client.receive_some())

            nursery.start_soon(read)
            assert await server.receive() == b"on and on"


async def test_closing_ends_a_send_that_waits_for_a_reader() -> None:
    async with asked_to_renegotiate(ShutdownPolicy(max_unread=0)) as (client, server):
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await client.send_all(b"never")

            nursery.start_soon(send)
            server.tls.send(b"x")
            await server.flush()
            await trio.testing.wait_all_tasks_blocked()
            await client.aclose()
        assert client.report.outcome is ShutdownOutcome.ABORTED


async def test_a_peer_that_vanishes_in_a_renegotiation_wakes_the_sender() -> None:
    async with asked_to_renegotiate() as (client, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                must_raise, trio.BrokenResourceError, client.send_all, b"never"
            )
            await trio.testing.wait_all_tasks_blocked()
            await server.transport.aclose()
        assert client.report.outcome is ShutdownOutcome.TRUNCATED


async def test_a_peer_that_breaks_tls_in_a_renegotiation_fails_the_sender() -> None:
    async with asked_to_renegotiate() as (client, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(must_raise, TLSFailedError, client.send_all, b"never")
            await trio.testing.wait_all_tasks_blocked()
            await server.transport.send_all(b"\x16\x03\x03\x00\x20" + bytes(32))
        assert client.report.outcome is ShutdownOutcome.FAILED
        assert isinstance(client.report.error, TLSFailedError)
        assert client.report.error.reason in BAD_RECORD


# HelloRequest, forged:

HELLO_REQUEST = bytes(4)  # RFC 5246 section 7.4.1.1


def with_hello_request(flight: bytes, keys: RecordKeys) -> bytes:
    """A server's last flight whose last record, Finished, holds one more message."""
    finished = len(flight) - (HEADER.size + 8 + 16 + TAG_SIZE)
    header = HEADER.pack(22, TLS12, 16)
    nonce, sealed = flight[finished + 5 :][:8], flight[finished + 13 :]
    message = keys.aead.decrypt(keys.iv + nonce, sealed, bytes(8) + header)
    return flight[:finished] + keys.seal(0, 22, message + HELLO_REQUEST)


async def test_a_hello_request_in_the_last_record_of_the_handshake_is_answered() -> (
    None
):
    """OpenSSL has taken the whole record out of its buffer by then."""
    ours, theirs = await memory_transports()
    client = TLSStream(ours, client_context("TLSv1.2"), server_hostname=NAME)
    server = ScriptedPeer(theirs, server_side=True, version="TLSv1.2", ca=CA)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        while not server.step_of_handshake():
            await server.send(server.flight())
            await server.receive_ciphertext()
        flight = server.flight()
        keys = server._forge.take_over()
        server.forget_key_log()
        await server.send(with_hello_request(flight, keys))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.receive_some)
        assert (await theirs.receive_some()).startswith(b"\x16\x03\x03")
        nursery.cancel_scope.cancel()
    await trio.aclose_forcefully(client)


@pytest.mark.parametrize("then", ["receive", "send", "shutdown"])
async def test_a_hello_request_that_a_look_has_found_is_answered(then: str) -> None:
    ours, theirs = await tcp_transports()
    client = TLSStream(ours, client_context("TLSv1.2"), server_hostname=NAME)
    server = ScriptedPeer(theirs, server_side=True, version="TLSv1.2", ca=CA)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        await server.handshake()
    await server.send(server.handshake_message(0, b""))
    await trio.testing.wait_all_tasks_blocked()
    assert client.peer_state_nowait() is PeerState.IDLE
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "receive": client.receive_some,
        "send": partial(client.send_all, b"x"),
        "shutdown": client.shutdown,
    }
    async with trio.open_nursery() as nursery:
        nursery.start_soon(calls[then])
        assert (await theirs.receive_some()).startswith(b"\x16\x03\x03")
        nursery.cancel_scope.cancel()
    await trio.aclose_forcefully(client)
    await trio.aclose_forcefully(theirs)
