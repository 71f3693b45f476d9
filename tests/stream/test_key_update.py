"""TLS 1.3 lets the peer ask for new keys at any time; the ssl module cannot.

tlslite-ng can. It plays the client, blocking, in a thread.
"""

from __future__ import annotations

import socket
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from tests.support import Maker, collect, server_context
from trio_tlsdown import ShutdownOutcome, TLSStream

with warnings.catch_warnings(action="ignore"):  # asyncore, on Python 3.11
    from tlslite.api import TLSConnection
    from tlslite.constants import KeyUpdateMessageType


async def served(
    client: Callable[[Any, socket.socket], bytes],
) -> tuple[TLSStream[trio.SocketStream], Callable[[], Any]]:
    """A server stream, and the call that runs *client* opposite to it."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(10)

    def run() -> bytes:
        with theirs:
            connection = TLSConnection(theirs)
            connection.handshakeClientCert()
            return client(connection, theirs)

    transport = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    stream = TLSStream(transport, server_context("TLSv1.3"), server_side=True)
    return stream, lambda: trio.to_thread.run_sync(run)


def ask_for_new_keys(connection: Any) -> None:
    # A generator, for programs that do not block.
    deque(connection.send_keyupdate_request(KeyUpdateMessageType.update_requested))


@pytest.mark.parametrize("half_closed", [False, True])
async def test_a_key_update_is_answered_and_costs_nothing(*, half_closed: bool) -> None:
    def client(connection: Any, bare: socket.socket) -> bytes:
        if half_closed:
            # tlslite-ng would close if it read the close_notify: only look.
            bare.recv(1, socket.MSG_PEEK)
        connection.write(b"old keys, ")
        ask_for_new_keys(connection)
        connection.write(b"new keys")
        answer = b""
        while not half_closed and len(answer) < len(b"answer"):
            answer += connection.read(max=100, min=1)  # b"" for a session ticket
        # If it closed at once our close_notify, unless it is there, may meet EPIPE.
        connection.closeSocket = half_closed
        connection.close()
        return answer

    stream, run = await served(client)
    answers: list[bytes] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect, answers, run)
        await stream.do_handshake()
        if half_closed:
            await stream.send_eof()
        received = b""
        while len(received) < len(b"old keys, new keys"):
            received += await stream.receive_some()
        assert received == b"old keys, new keys"
        if not half_closed:
            await stream.send_all(b"answer")  # under keys of its own, new as well
        report = await stream.shutdown()
    assert answers == [b"" if half_closed else b"answer"]
    assert report.outcome is ShutdownOutcome.COMPLETE
    await stream.aclose()


@pytest.mark.parametrize("transport", ["memory", "tcp"])
async def test_tickets_go_ahead_of_the_answer(tls13: Maker, transport: str) -> None:
    """They are older; and OpenSSL answers when it reads on: to the first of two."""
    async with tls13.server_and_bare_client(transport) as (server, client):
        await client.send(
            client.key_update() + client.key_update() + client.encrypt(b"x")
        )
        assert await server.receive_some() == b"x"
        await server.send_all(b"under new keys")
        await client.hear(len(b"under new keys"))
        assert client.tls.session is not None
        assert client.tls.session.has_ticket


async def test_no_answer_follows_our_close_notify(tls13: Maker) -> None:
    async with tls13.server_and_bare_client("tcp") as (server, client):
        await server.send_eof()
        await client.hear_close_notify()
        await client.send(
            client.key_update() + client.key_update() + client.encrypt(b"x")
        )
        assert await server.receive_some() == b"x"
        await trio.testing.wait_all_tasks_blocked()
        await server.aclose()
        assert await client.transport.receive_some() == b""


@pytest.mark.parametrize("size", [1000, 2**20])
async def test_a_send_that_is_cancelled_when_an_answer_is_due_never_looks_whole(
    tls13: Maker, size: int
) -> None:
    """In the very moment when all that was due before has left."""
    async with tls13.server_and_bare_client() as (server, client):

        async def read() -> None:
            with pytest.raises(trio.ClosedResourceError):
                async for _ in server:
                    pass

        async def hook() -> None:
            server.transport_stream.send_stream.send_all_hook = None
            # OpenSSL answers the first when it reads the second.
            asked = client.key_update() + client.key_update()
            await client.send(asked + client.encrypt(b"x"))
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            server.transport_stream.send_stream.send_all_hook = hook
            with trio.CancelScope() as scope:
                await server.send_all(bytes(size))
            assert scope.cancelled_caught
            report = await server.shutdown(wait=False)
            assert report.outcome is ShutdownOutcome.ABORTED
            assert not report.secure
            await server.aclose()


@pytest.mark.parametrize("we_are_server", [False, True])
async def test_nothing_follows_our_close_notify_not_even_an_answer(
    tls13: Maker, *, we_are_server: bool
) -> None:
    """After unwrap() the peer would take it for clear text."""
    connected = (
        tls13.server_and_bare_client if we_are_server else tls13.client_and_bare_server
    )
    async with connected() as (stream, peer):
        await stream.send_eof()
        await peer.hear_close_notify()
        for _ in range(3):
            await peer.send(peer.key_update())
        await peer.send(peer.encrypt(b"still heard") + peer.close_notify())
        assert await stream.receive_some() == b"still heard"
        transport, _ = await stream.unwrap()
        await transport.aclose()
        assert await peer.transport.receive_some() == b""
