"""The tutorial's program: certificate, server, client, and a test of the client.

Run it with ``python tutorial.py``, its test with ``pytest tutorial.py``.
"""

import os
import signal
import ssl
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import pytest
import trio
import trustme

from trio_tlsdown import (
    TLSStream,
    TruncatedError,
    open_tls_nursery,
    receive_until_drain,
)
from trio_tlsdown.testing import RogueConnection

Stream: TypeAlias = TLSStream[trio.SocketStream]
RoguePeerFixture: TypeAlias = Callable[..., Awaitable[RogueConnection]]


# --- certificate
def make_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate, and a client's that trusts it."""
    ca = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.create_default_context()
    ca.configure_trust(client_context)
    return server_context, client_context


# --- server
async def shout(stream: Stream) -> None:
    """Send everything back in capitals, until the client has finished."""
    while request := await receive_until_drain(stream):
        await stream.send_all(request.upper())


# --- client
async def ask(stream: trio.abc.HalfCloseableStream, question: bytes) -> bytes:
    """Send a question, half-close, and return the whole answer."""
    await stream.send_all(question)
    await stream.send_eof()
    return b"".join([chunk async for chunk in stream])


# --- main
async def wait_for_goodbye(stream: Stream) -> None:
    """What an idle client sees of a drain."""
    assert await stream.receive_some() == b""
    print("idle client: the server said goodbye")
    await stream.shutdown()  # answer it


async def main() -> None:
    server_context, client_context = make_contexts()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with open_tls_nursery() as tls:
            server = await tls.start_server(shout, 0, server_context, host="127.0.0.1")
            port = server.addresses[0][1]

            async with await tls.connect(
                "localhost", port, ssl_context=client_context
            ) as stream:
                print("answer:", await ask(stream, b"hello"))
                print("outcome:", (await stream.shutdown()).outcome.value)

            idle = await tls.connect("localhost", port, ssl_context=client_context)
            tls.start_soon(wait_for_goodbye, idle)

            os.kill(os.getpid(), signal.SIGTERM)  # as `kill` or systemd would
            async for _ in signals:
                break
            report = await server.drain(grace=10)
            for outcome, count in server.tally.items():
                print("server:", count, outcome.value)
            print("handlers cancelled:", report.handlers_cancelled)


# --- test
@pytest.mark.trio
async def test_half_an_answer_is_an_error(rogue_peer: RoguePeerFixture) -> None:
    connection = await rogue_peer("cut_before_close_notify", says=b"HE")
    async with connection as stream:
        with pytest.raises(TruncatedError):
            await ask(stream, b"hello")


# --- run
if __name__ == "__main__":
    trio.run(main)
