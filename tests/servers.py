"""Servers on loopback, clients for them, and a check that nothing is left of them."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias

import pytest
import trio
import trio.testing

from tests.support import CA, NAME, client_context, descriptors, server_context
from trio_tlsdown import (
    ShutdownOutcome,
    ShutdownPolicy,
    TLSListener,
    TLSNursery,
    TLSServer,
    TLSStream,
    cancel_on_drain,
    open_tls_nursery,
    receive_until_drain,
)
from trio_tlsdown.testing import RoguePeer

HOST = "127.0.0.1"

Stream: TypeAlias = TLSStream[trio.SocketStream]
Handler: TypeAlias = Callable[[Stream], Any]


def tasks() -> int:
    """How many tasks this run of Trio has."""
    return trio.lowlevel.current_statistics().tasks_living


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """Check that no descriptor and no task outlives the block."""
    before = descriptors()
    running = tasks()
    yield
    assert descriptors() <= before
    assert tasks() == running


@asynccontextmanager
async def serving(
    version: str,
    handler: Handler,
    policy: ShutdownPolicy = ShutdownPolicy(),
    **options: Any,
) -> AsyncIterator[tuple[TLSNursery, TLSServer]]:
    """Run a server in a nursery of its own, and check that nothing is left of it.

    Args:
      version: Of TLS.
      handler: For each connection.
      policy: Of the nursery.
      **options: More arguments of `TLSNursery.start_server`.
    """
    async with nothing_left():
        async with open_tls_nursery(policy) as tls:
            server = await tls.start_server(
                handler, 0, server_context(version), host=HOST, **options
            )
            yield tls, server


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    """Gives one end of a pair of memory streams for each that `connect` gives."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[trio.abc.Stream](100)
        self.closed = False

    def connect(self) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        self.hand_over(theirs)
        return ours

    def hand_over(self, stream: trio.abc.Stream) -> None:
        """Let it be the next that `accept` gives."""
        self._send.send_nowait(stream)

    async def accept(self) -> trio.abc.Stream:
        return await self._receive.receive()

    async def aclose(self) -> None:
        self.closed = True
        await self._receive.aclose()


def port_of(server: TLSServer | list[TLSListener[trio.SocketStream]]) -> int:
    """The port of a server, or of listeners, that have just one."""
    if isinstance(server, TLSServer):
        [(_, port)] = server.addresses
    else:
        [listener] = server
        assert isinstance(listener.transport_listener, trio.SocketListener)
        _, port = listener.transport_listener.socket.getsockname()
    assert isinstance(port, int)
    return port


async def client_of(
    port: int, version: str, *, handshake: bool = True, **options: Any
) -> Stream:
    """Connect a client.

    Args:
      port: Of the server, on this machine.
      version: Of TLS.
      handshake: Whether to shake hands, too.
      **options: More arguments of the TLSStream.
    """
    transport = await trio.open_tcp_stream(HOST, port)
    stream = TLSStream(
        transport, client_context(version), server_hostname=NAME, **options
    )
    if handshake:
        await stream.do_handshake()
    return stream


async def rogue_of(
    port: int,
    nursery: trio.Nursery | TLSNursery,
    name: str,
    version: str,
) -> RoguePeer:
    """Connect a client that misbehaves, and run it in *nursery*.

    Args:
      port: Of the server, on this machine.
      nursery: Where it runs.
      name: What it does: a key of `BEHAVIOURS`.
      version: Of TLS.
    """
    transport = await trio.open_tcp_stream(HOST, port)
    peer = RoguePeer(name, transport, server_side=False, version=version, ca=CA)
    nursery.start_soon(peer.run)
    return peer


def client_over(transport: trio.abc.Stream, version: str) -> TLSStream[trio.abc.Stream]:
    """A client that has not shaken hands, over any transport."""
    return TLSStream(transport, client_context(version), server_hostname=NAME)


async def answer_each(stream: TLSStream[Any]) -> None:
    """A handler as it should be: a drain ends it between two requests."""
    while request := await receive_until_drain(stream):
        await stream.send_all(b"answer to " + request)


async def answer_each_in_a_scope(stream: TLSStream[Any]) -> None:
    """The same with `cancel_on_drain`."""
    while True:
        request: bytes | bytearray = b""
        with cancel_on_drain():
            request = await stream.receive_some()
        if not request:
            return
        await stream.send_all(b"answer to " + request)


async def ask(client: TLSStream[Any]) -> None:
    """Have `answer_each` answer."""
    await client.send_all(b"request")
    assert await client.receive_some() == b"answer to request"


async def is_told_goodbye(client: TLSStream[Any]) -> None:
    """Wait for the server's close_notify, answer it, and close."""
    assert await client.receive_some() == b""
    assert (await client.shutdown()).outcome is ShutdownOutcome.COMPLETE
    await client.aclose()


async def what_it_sees(stream: TLSStream[Any]) -> str:
    """Read to the end: ``"close_notify"``, or the outcome if there was none."""
    try:
        async for _ in stream:
            pass
    except trio.BrokenResourceError:
        return stream.report.outcome.value
    finally:
        await trio.aclose_forcefully(stream)
    return "close_notify"


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds that no event announces."""
    with trio.fail_after(60):
        while not condition():  # noqa: ASYNC110 - there is no event for it
            await trio.sleep(0.01)


class SyncClient:
    """A client that sends without a checkpoint.

    So its bytes are in the server's kernel between two steps of the server's tasks, at
    the moment that a test chooses.

    Args:
      port: Of the server, on this machine.
      version: Of TLS.
    """

    def __init__(self, port: int, version: str) -> None:
        self.sock = socket.create_connection((HOST, port))  # the kernel accepts
        self.sock.settimeout(0)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = client_context(version).wrap_bio(
            self._incoming, self._outgoing, server_hostname=NAME
        )

    def send_hello(self) -> None:
        """Send the first flight of the handshake."""
        with pytest.raises(ssl.SSLWantReadError):
            self._tls.do_handshake()
        self.flush()

    async def handshake(self) -> None:
        """Shake hands. On TLS 1.3 the last flight waits for `flush`."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self.flush()
                await self._fill()
            else:
                return

    def encrypt(self, data: bytes) -> None:
        """Encrypt data for the next `flush`."""
        self._tls.write(data)

    def flush(self) -> None:
        """Send what was encrypted."""
        if self._outgoing.pending:
            self.sock.send(self._outgoing.read())

    def send(self, data: bytes) -> None:
        """Encrypt data and send them."""
        self.encrypt(data)
        self.flush()

    async def receive(self) -> bytes:
        """Wait for data; ``b""`` means close_notify."""
        while True:
            try:
                return self._tls.read(2**14)
            except ssl.SSLWantReadError:
                await self._fill()

    @classmethod
    async def connect(cls, server: TLSServer, version: str) -> SyncClient:
        """Connect a client that has shaken hands; the server knows it, too."""
        client = cls(port_of(server), version)
        await client.handshake()
        client.flush()
        return client

    async def goodbye(self) -> None:
        """Wait for the server's close_notify, answer it, and close the socket."""
        assert await self.receive() == b""
        with suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self.flush()
        self.sock.close()

    async def _fill(self) -> None:
        await trio.lowlevel.wait_readable(self.sock)
        data = self.sock.recv(2**16)
        assert data, "cut"
        self._incoming.write(data)
