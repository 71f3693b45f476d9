"""What is fuzzed: any bytes, read as what a peer, a network and a caller do."""

from __future__ import annotations

import functools
import ssl
from contextlib import suppress
from functools import partial
from typing import Final

import trio
import trio.testing

from tests.servers import MemoryListener
from tests.support import NAME, VERSIONS, client_context, server_context
from trio_tlsdown import (
    ShutdownPolicy,
    TLSServer,
    TLSStream,
    open_tls_nursery,
    receive_until_drain,
)
from trio_tlsdown._core.engine import Engine
from trio_tlsdown._core.state import ConnectionState, Receiving
from trio_tlsdown._stream.transport import RecordBoundary

POLICY: Final = ShutdownPolicy(timeout=3, linger_timeout=1)
GRACE: Final = 2  # seconds

contexts: Final = functools.cache(
    lambda version: (client_context(version), server_context(version))
)


class Bytes:
    """Takes a choice from each byte; zeros when there are no more."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        self._at += count
        return self._data[self._at - count : self._at].ljust(count, b"\0")

    def number(self) -> int:
        return self.take(1)[0]


class Peer:
    """An OpenSSL, and its ciphertext, which is on its way to us."""

    def __init__(self, context: ssl.SSLContext, *, server_side: bool) -> None:
        self._from_us, self._to_us = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._from_us,
            self._to_us,
            server_side=server_side,
            server_hostname=None if server_side else NAME,
        )
        self.coming = bytearray()
        self.said = b""
        self.ended = False

    def hear(self, ciphertext: bytes | bytearray) -> None:
        self._from_us.write(ciphertext)
        with suppress(ssl.SSLError):
            self._tls.do_handshake()
        self._speak()

    def say(self, data: bytes) -> None:
        with suppress(ssl.SSLError):
            self._tls.write(data)
            self.said += data
        self._speak()

    def end(self) -> None:
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        self.ended = True
        self._speak()

    def _speak(self) -> None:
        self.coming += self._to_us.read()

    def take(self, size: int) -> bytes:
        """What of it comes next."""
        piece = bytes(self.coming[:size])
        del self.coming[:size]
        return piece

    def change(self, at: int) -> None:
        if self.coming:
            self.coming[at % len(self.coming)] ^= 1

    def insert(self, at: int, what: bytes) -> None:
        at %= len(self.coming) + 1
        self.coming[at:at] = what


class Session:
    """An engine, its peer, and the ciphertext between them."""

    def __init__(self, version: str, *, server_side: bool) -> None:
        client, server = contexts(version)
        self.state = ConnectionState(lambda event: None)
        self.engine = Engine(
            server if server_side else client,
            self.state,
            server_side=server_side,
            server_hostname=None if server_side else NAME,
        )
        self.peer = Peer(client if server_side else server, server_side=not server_side)
        self.heard = b""

    def shake_hands(self) -> None:
        for _ in range(3):
            self.engine.do_handshake()
            self.peer.hear(self.engine.output.read())
            self.deliver(len(self.peer.coming))

    def deliver(self, size: int) -> None:
        if piece := self.peer.take(size):
            self.engine.feed(piece)

    def step(self, fuzz: Bytes) -> None:
        choice, size = fuzz.number() % 10, fuzz.number()
        match choice:
            case 0:
                self.peer.say(bytes([size]) * (size + 1))
            case 1 | 2:
                self.deliver(size * 4 + 1)
            case 3:
                self.peer.change(size)
            case 4:
                self.peer.insert(size, fuzz.take(size % 16))
            case 5:
                with suppress(ssl.SSLWantReadError):
                    self.engine.encrypt(bytes(size + 1))
            case 6:
                with suppress(ssl.SSLWantReadError):
                    self.engine.encrypt_close_notify()
            case 7:
                self.peer.end()
            case 8:
                self.heard += self.engine.take(size + 1)
            case _:
                self.engine.feed(b"")

    def check(self) -> None:
        self.heard += self.engine.take(2**20)
        assert self.engine.unread == 0
        check_words(self.peer, self.heard)
        if self.state.receiving is Receiving.CLOSED:
            check_end(self.peer, self.heard)
        failed = self.state.receiving is Receiving.FAILED
        assert not failed or self.engine.error is not None


def check_words(peer: Peer, heard: bytes) -> None:
    assert peer.said.startswith(heard), "something came that was not said"


def check_end(peer: Peer, heard: bytes) -> None:
    assert peer.ended, "an end that nobody has said"
    assert heard == peer.said, "an end hides what was said before"


def engine(data: bytes) -> None:
    """A peer that speaks, a network that cuts and changes, a caller in any order."""
    fuzz = Bytes(data)
    choice = fuzz.number()
    session = Session(VERSIONS[choice & 1], server_side=bool(choice & 2))
    if not choice & 4:
        session.shake_hands()
    else:
        session.engine.do_handshake()
    while fuzz.left:
        session.step(fuzz)
    session.check()


class HandlerError(Exception):
    pass


class Client:
    """A client of a server."""

    def __init__(self, version: str, transport: trio.abc.Stream) -> None:
        self.peer = Peer(contexts(version)[0], server_side=False)
        self.peer.hear(b"")
        self.heard = b""
        self._transport = transport

    async def listen(self) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for ciphertext in self._transport:
                self.peer.hear(ciphertext)

    async def deliver(self, size: int) -> None:
        if piece := self.peer.take(size):
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._transport.send_all(piece)
        await trio.testing.wait_all_tasks_blocked()

    async def cut(self) -> None:
        assert isinstance(self._transport, trio.abc.HalfCloseableStream)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._transport.send_eof()

    async def vanish(self) -> None:
        await trio.aclose_forcefully(self._transport)

    async def step(self, choice: int, size: int, fuzz: Bytes) -> None:
        match choice:
            case 0:
                self.peer.say(bytes([size % 8]) * (size + 1))
            case 1:
                await self.deliver(size * 4 + 1)
            case 2:  # the handshake, to its end
                for _ in range(3):
                    await self.deliver(2**16)
            case 3:
                self.peer.change(size)
            case 4:
                self.peer.insert(size, fuzz.take(size % 16))
            case 5:
                self.peer.end()
            case 6:
                await self.cut()
            case _:
                await self.vanish()


class Serving:
    """A server, and its clients, in memory or over pairs of sockets."""

    def __init__(self, version: str, *, sockets: bool) -> None:
        self._version = version
        self._sockets = sockets
        self._listener = MemoryListener()
        self._clients: dict[trio.abc.Stream, Client] = {}
        self._errors: list[Exception] = []

    async def run(self, fuzz: Bytes, clock: trio.testing.MockClock) -> None:
        limit = fuzz.number() % 4 or None
        async with trio.open_nursery() as nursery:
            async with open_tls_nursery(POLICY) as tls:
                server = await tls.start_server(
                    self._handler,
                    listeners=[self._listener],
                    ssl_context=contexts(self._version)[1],
                    max_connections=limit,
                    max_handshakes=limit,
                    on_error=lambda error, _: self._errors.append(error),
                )
                while fuzz.left:
                    await self._step(fuzz, server, nursery, clock)
                clock.autojump_threshold = 0
                before = trio.current_time()
                await server.drain(grace=GRACE)
                took = trio.current_time() - before
                assert took <= GRACE + POLICY.timeout + POLICY.linger_timeout + 0.1
                assert not server.connections
            nursery.cancel_scope.cancel()
        for transport, client in self._clients.items():
            await client.vanish()
            await trio.aclose_forcefully(transport)  # it may not have been accepted
            check_words(client.peer, client.heard)
        for error in self._errors:
            assert isinstance(error, (trio.BrokenResourceError, HandlerError)), error

    async def _step(
        self,
        fuzz: Bytes,
        server: TLSServer,
        nursery: trio.Nursery,
        clock: trio.testing.MockClock,
    ) -> None:
        choice, who, size = fuzz.number() % 12, fuzz.number(), fuzz.number()
        if choice == 8:
            clock.jump(size / 10)
        elif choice == 9:
            nursery.start_soon(partial(server.drain, grace=size / 100))
        elif choice > 9 or not self._clients:
            if not self._listener.closed:
                ours, theirs = self._transports()
                self._listener.hand_over(theirs)
                self._clients[theirs] = client = Client(self._version, ours)
                nursery.start_soon(client.listen)
        else:
            clients = list(self._clients.values())
            await clients[who % len(clients)].step(choice, size, fuzz)
        await trio.testing.wait_all_tasks_blocked()

    def _transports(self) -> tuple[trio.abc.Stream, trio.abc.Stream]:
        if not self._sockets:
            return trio.testing.memory_stream_pair()
        ours, theirs = trio.socket.socketpair()
        return trio.SocketStream(ours), trio.SocketStream(theirs)

    async def _handler(self, stream: TLSStream[trio.abc.Stream]) -> None:
        client = self._clients[stream.transport_stream]
        while chunk := await receive_until_drain(stream):
            client.heard += chunk
            if chunk[0] == 1:
                raise HandlerError
            if chunk[0] == 2:
                return
            await stream.send_all(chunk)
        if stream.report.close_notify_received:
            check_end(client.peer, client.heard)


def server(data: bytes) -> None:
    """Clients that do anything at any time, and a server that drains meanwhile."""
    fuzz = Bytes(data)
    clock = trio.testing.MockClock()
    choice = fuzz.number()
    serving = Serving(VERSIONS[choice & 1], sockets=bool(choice & 2))
    trio.run(serving.run, fuzz, clock, clock=clock)


def record_boundary(data: bytes) -> None:
    """Wherever bytes are cut, the boundaries of their records are the same."""
    fuzz = Bytes(data)
    rest = data
    whole, parts = RecordBoundary(), RecordBoundary()
    whole_rest = data
    while whole_rest:
        whole_rest = whole_rest[whole.feed(whole_rest) :]
    while rest:
        piece = rest[: fuzz.number() + 1]
        consumed = parts.feed(piece)
        assert 0 < consumed <= len(piece)
        rest = rest[consumed:]
    assert whole.inside is parts.inside


TARGETS: Final = {
    "engine": engine,
    "record_boundary": record_boundary,
    "server": server,
}
