"""A session of our engine, and opposite to it OpenSSL as it comes."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable

import attrs

from tests.support import NAME, client_context, server_context
from trio_tlsdown._core.engine import Engine
from trio_tlsdown._core.state import ConnectionState


@attrs.frozen
class Session:
    """An engine and, opposite, OpenSSL as it comes."""

    engine: Engine
    state: ConnectionState
    peer: ssl.SSLObject
    to_peer: ssl.MemoryBIO
    from_peer: ssl.MemoryBIO

    def say(self, data: bytes) -> bytes:
        """What the peer sends when it writes *data*."""
        self.peer.write(data)
        return self.from_peer.read()

    def say_goodbye(self) -> bytes:
        """The peer's close_notify."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.peer.unwrap()
        return self.from_peer.read()

    def hear(self) -> bytes:
        """Let the peer read all that is due."""
        self.to_peer.write(self.engine.output.read())
        heard = b""
        while True:
            try:
                data = self.peer.read(2**16)
            except ssl.SSLWantReadError:
                return heard
            except ssl.SSLZeroReturnError:
                data = b""
            if not data:
                return heard + b"|"  # close_notify
            heard += data


def step(handshake: Callable[[], None]) -> bool:
    try:
        handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def session(
    version: str,
    *,
    server_side: bool = False,
    ignore_eof: bool = False,
) -> Session:
    client, server = client_context(version), server_context(version)
    ours, theirs = (server, client) if server_side else (client, server)
    if ignore_eof:
        ours.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    state = ConnectionState(lambda event: None)
    engine = Engine(
        ours,
        state,
        server_side=server_side,
        server_hostname=None if server_side else NAME,
    )
    to_peer, from_peer = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = theirs.wrap_bio(
        to_peer,
        from_peer,
        server_side=not server_side,
        server_hostname=NAME if server_side else None,
    )
    engine.do_handshake()
    done = False
    while not done or not state.handshaken:
        to_peer.write(engine.output.read())
        done = step(peer.do_handshake)
        if from_peer.pending:
            engine.feed(from_peer.read())
    to_peer.write(engine.output.read())
    return Session(engine, state, peer, to_peer, from_peer)
