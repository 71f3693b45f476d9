"""The standard library's blocking `ssl.SSLSocket` as a peer, in a thread."""

from __future__ import annotations

import select
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import attrs
import trio

from harness.process import PATIENCE
from tests.support import NAME, client_context, server_context
from trio_tlsdown import TLSStream

T = TypeVar("T")


@attrs.define(eq=False)
class Thread(Generic[T]):
    """The progress of the thread, and what its script returned."""

    handshaken: trio.Event = attrs.field(factory=trio.Event)
    ended: trio.Event = attrs.field(factory=trio.Event)
    saw: T | None = None


@asynccontextmanager
async def blocking_peer(
    script: Callable[[ssl.SSLSocket], T],
    *,
    version: str,
    server_side: bool,
    tickets: int = 0,
) -> AsyncIterator[tuple[TLSStream[trio.SocketStream], Thread[T]]]:
    """A TLSStream, and a thread at the other end of TCP, both past the handshake.

    So a server's session tickets have been sent. Our RST must not hit the write of one:
    OpenSSL hides that ECONNRESET, Linux reports it only once, and *script* would see
    EPIPE.

    Args:
      script: What the peer does after the handshake. A socket that it leaves
        open is closed.
      version: The TLS version.
      server_side: Whether *ours* is the server.
      tickets: How many session tickets a TLS 1.3 server sends unasked. Python's
        default is 2; a client that never reads does not see them, and its
        kernel sends a RST instead of a FIN when it closes.
    """
    a, b = _connected()
    theirs, ours = (a, b) if server_side else (b, a)
    to_serve = server_context(version)
    to_serve.num_tickets = tickets
    to_ask = client_context(version)
    theirs.settimeout(PATIENCE)
    ours.settimeout(0)
    stream = TLSStream(
        trio.SocketStream(trio.socket.from_stdlib_socket(ours)),
        to_serve if server_side else to_ask,
        server_side=server_side,
        server_hostname=None if server_side else NAME,
    )
    thread = Thread[T]()

    def play() -> T:
        context = to_ask if server_side else to_serve
        with context.wrap_socket(
            theirs,
            server_side=not server_side,
            server_hostname=NAME if server_side else None,
            suppress_ragged_eofs=False,  # a cut is an error
        ) as peer:
            trio.from_thread.run_sync(thread.handshaken.set)
            return script(peer)

    async def run() -> None:
        thread.saw = await trio.to_thread.run_sync(play)
        thread.ended.set()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            try:
                await stream.do_handshake()
                await thread.handshaken.wait()
                yield stream, thread
            finally:
                # This ends whatever the thread waits for.
                await trio.aclose_forcefully(stream)


def _connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    return client, server


def wait_until_readable(peer: socket.socket) -> None:
    """Wait until something has arrived: data, FIN or RST."""
    select.select([peer], [], [], PATIENCE)


def reset(peer: socket.socket) -> None:
    """Close with a RST instead of a FIN."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
