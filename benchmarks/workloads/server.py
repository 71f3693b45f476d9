"""The reference server: blocking, the same for all implementations."""

from __future__ import annotations

import socket
import ssl
from collections import Counter
from contextlib import suppress
from typing import Final

READ_SIZE: Final = 2**18
PATIENCE: Final = 60.0  # seconds for one call

# A cut must not look like an end. Not every Python has a name for the bit.
IGNORE_UNEXPECTED_EOF: Final = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 1 << 7)


def context_of(certificate: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options &= ~IGNORE_UNEXPECTED_EOF
    context.load_cert_chain(certificate)
    return context


class Server:
    """Accepts connections, and keeps what they negotiated and how they ended."""

    def __init__(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        self._listener = listener
        self._context = context
        self.sessions: set[tuple[str, str]] = set()
        self.endings: Counter[str] = Counter()

    def _accept(self) -> socket.socket:
        self._listener.settimeout(PATIENCE)
        raw, _ = self._listener.accept()
        raw.settimeout(PATIENCE)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return raw

    def _note(self, session: ssl.SSLSocket | ssl.SSLObject) -> None:
        cipher = session.cipher()
        assert cipher is not None
        self.sessions.add((session.version() or "", cipher[0]))

    def accept(self) -> ssl.SSLSocket:
        sock = self._context.wrap_socket(
            self._accept(), server_side=True, suppress_ragged_eofs=False
        )
        self._note(sock)
        return sock

    def accept_records(self) -> Records:
        records = Records(self._accept(), self._context)
        self._note(records.session)
        return records

    def answer_close(self, sock: ssl.SSLSocket) -> None:
        """Read until the client has ended, answer its close_notify, and close."""
        try:
            while sock.recv(READ_SIZE):
                pass
        except OSError:
            self.endings["cut"] += 1
            sock.close()
            return
        self.endings["close_notify"] += 1
        try:
            sock.unwrap().close()
        except OSError:  # the client did not wait for it
            sock.close()

    def expect_abort(self, sock: ssl.SSLSocket) -> None:
        """Read until the client cuts or resets the connection, and close."""
        with sock:
            try:
                while sock.recv(READ_SIZE):
                    pass
            except OSError:
                self.endings["aborted"] += 1
            else:
                raise AssertionError("close_notify came")


class Records:
    """A connection whose records can be encrypted in advance, and read without decrypting."""

    def __init__(self, raw: socket.socket, context: ssl.SSLContext) -> None:
        self.raw = raw
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.session = context.wrap_bio(
            self._incoming, self._outgoing, server_side=True
        )
        while True:
            try:
                self.session.do_handshake()
            except ssl.SSLWantReadError:
                raw.sendall(self._outgoing.read())
                self._incoming.write(raw.recv(READ_SIZE))
            else:
                break
        raw.sendall(self._outgoing.read())  # the session tickets

    def seal(self, data: bytes) -> bytes:
        self.session.write(data)
        return self._outgoing.read()

    def left_over(self) -> bytes:
        """Records that came with the end of the handshake."""
        return self._incoming.read()

    def finish(self) -> None:
        """Send close_notify, and read until the client ends."""
        with self.raw:
            with suppress(ssl.SSLWantReadError):
                self.session.unwrap()
            with suppress(OSError):  # the client was faster
                self.raw.sendall(self._outgoing.read())
                while self.raw.recv(READ_SIZE):
                    pass
