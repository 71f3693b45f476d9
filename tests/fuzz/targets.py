"""What is fuzzed: any bytes, read as what a peer, a network and a caller do."""

from __future__ import annotations

import functools
import ssl
from contextlib import suppress
from typing import Final

from tests.support import NAME, VERSIONS, client_context, server_context
from trio_tlsdown._core.engine import Engine
from trio_tlsdown._core.state import ConnectionState, Receiving
from trio_tlsdown._stream.transport import RecordBoundary

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


class Session:
    """An engine, an OpenSSL that is its peer, and the ciphertext between them."""

    def __init__(self, version: str, *, server_side: bool) -> None:
        client, server = contexts(version)
        self.state = ConnectionState(lambda event: None)
        self.engine = Engine(
            server if server_side else client,
            self.state,
            server_side=server_side,
            server_hostname=None if server_side else NAME,
        )
        self._to_peer, self._from_peer = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._peer = (client if server_side else server).wrap_bio(
            self._to_peer,
            self._from_peer,
            server_side=not server_side,
            server_hostname=NAME if server_side else None,
        )
        self.coming = bytearray()
        """Ciphertext on its way to the engine."""

        self.said = b""
        self.ended = False
        self.heard = b""

    def shake_hands(self) -> None:
        for _ in range(3):
            self.engine.do_handshake()
            self.peer_hears()
            with suppress(ssl.SSLWantReadError):
                self._peer.do_handshake()
            self.peer_speaks()
            self.deliver(len(self.coming))

    def peer_hears(self) -> None:
        self._to_peer.write(self.engine.output.read())

    def peer_speaks(self) -> None:
        self.coming += self._from_peer.read()

    def peer_says(self, data: bytes) -> None:
        with suppress(ssl.SSLError):
            self._peer.write(data)
            self.said += data
        self.peer_speaks()

    def peer_ends(self) -> None:
        with suppress(ssl.SSLError):
            self._peer.unwrap()
        self.ended = True
        self.peer_speaks()

    def deliver(self, size: int) -> None:
        piece = bytes(self.coming[:size])
        del self.coming[:size]
        if piece:
            self.engine.feed(piece)

    def step(self, fuzz: Bytes) -> None:
        choice, size = fuzz.number() % 10, fuzz.number()
        match choice:
            case 0:
                self.peer_says(bytes([size]) * (size + 1))
            case 1 | 2:
                self.deliver(size * 4 + 1)
            case 3 if self.coming:
                self.coming[size % len(self.coming)] ^= 1
            case 4:
                at = size % (len(self.coming) + 1)
                self.coming[at:at] = fuzz.take(size % 16)
            case 5:
                with suppress(ssl.SSLWantReadError):
                    self.engine.encrypt(bytes(size + 1))
            case 6:
                with suppress(ssl.SSLWantReadError):
                    self.engine.encrypt_close_notify()
            case 7:
                self.peer_ends()
            case 8:
                self.heard += self.engine.take(size + 1)
            case _:
                self.engine.feed(b"")

    def check(self) -> None:
        self.heard += self.engine.take(2**20)
        assert self.engine.unread == 0
        assert self.said.startswith(self.heard), "something came that was not said"
        if self.state.receiving is Receiving.CLOSED:
            assert self.ended, "an end that nobody has said"
            assert self.heard == self.said, "an end hides what was said before"
        failed = self.state.receiving is Receiving.FAILED
        assert not failed or self.engine.error is not None


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


TARGETS: Final = {"engine": engine, "record_boundary": record_boundary}
