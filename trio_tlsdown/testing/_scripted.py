"""A TLS peer that does what a test tells it, one step at a time."""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, Unpack

import trio

from ._certificates import (
    NAME,
    ContextOptions,
    check_context_options,
    client_context,
    server_context,
)
from ._forge import RecordForge
from ._options import check_type
from ._record_keys import CIPHERS
from ._transports import reset

MAX_RECORD: Final = 2**14  # bytes of plaintext: RFC 9846 section 5.1
WARNING: Final = 1
CLOSE_NOTIFY: Final = 0


@functools.cache
def _key_logs() -> Iterator[Path]:
    """Names for key logs, which go away with the process."""
    directory = tempfile.TemporaryDirectory(prefix="trio_tlsdown-")
    atexit.register(directory.cleanup)
    return (Path(directory.name, str(number)) for number in itertools.count())


class ScriptedPeer:
    """A peer that sends exactly the records that a test tells it to.

    OpenSSL does the handshake, by TLS 1.3, or by TLS 1.2 and a cipher suite with
    AES-GCM or ChaCha20-Poly1305. After that, the test makes each record and sends it as
    it likes (whole, cut, twice, in any order); it may be a record that no TLS library
    would send.

    Args:
      transport: The stream that carries the ciphertext. The test has to close it.
      server_side: Whether this is the server.
      **options: *version*, *alpn*, *client_certificate* and *ca*: see
        `ContextOptions`.

    Raises:
      TypeError: an argument has the wrong type, or an option is unknown.
      ValueError: *version* is unknown.
    """

    received: bytearray
    """The plaintext received so far."""

    close_notify_sent: bool
    """Whether a `close_notify` has been sent, to its last byte."""

    close_notify_received: bool
    """Whether one has arrived. What follows it is not read."""

    transport_end: Literal["FIN", "reset"] | None
    """How the transport ended, as this peer saw it."""

    error: ssl.SSLError | None
    """What broke TLS, such as a fatal alert that arrived."""

    def __init__(
        self,
        transport: trio.abc.Stream,
        *,
        server_side: bool,
        **options: Unpack[ContextOptions],
    ) -> None:
        check_context_options(type(self), options)
        check_type("transport", transport, trio.abc.Stream)
        check_type("server_side", server_side, bool)
        context = (server_context if server_side else client_context)(**options)
        self._key_log = next(_key_logs())
        context.keylog_filename = os.fspath(self._key_log)
        context.set_ciphers(CIPHERS)
        self._forge = RecordForge(
            context,
            server_side=server_side,
            server_hostname=None if server_side else NAME,
        )
        self._close_notify = b""  # the record, when it was made
        self._sent = b""  # no more of the end than may be a part of that
        self.transport = transport
        self.server_side = server_side
        self.received = bytearray()
        self.close_notify_sent = False
        self.close_notify_received = False
        self.transport_end = None
        self.error = None

    def __repr__(self) -> str:
        """Name the side."""
        side = "server" if self.server_side else "client"
        return f"<{type(self).__name__}, the {side}>"

    # Opening:

    async def handshake(self) -> None:
        """Do the handshake.

        Raises:
          ssl.SSLError: TLS failed; the alert for it has been sent.
          trio.BrokenResourceError: the transport ended or failed.
        """
        try:
            while not self.step_of_handshake():
                await self.send(self.flight())
                await self.receive_ciphertext()
            await self.send(self.flight())
            self._forge.take_over()
            self._decrypt()  # data may have come along with the last flight
        except ssl.SSLError:
            await self.send(self.flight())  # noqa: ASYNC120  (a cancellation wins)
            raise
        finally:
            self.forget_key_log()

    def forget_key_log(self) -> None:
        """Close and remove the key log, which only the handshake needs."""
        # To typeshed None is no file name.
        self._forge.tls.context.keylog_filename = None  # type: ignore[assignment]
        self._key_log.unlink(missing_ok=True)

    @property
    def tls(self) -> ssl.SSLObject:
        """OpenSSL's view of the session: read its attributes, but do not use it."""
        return self._forge.tls

    def step_of_handshake(self) -> bool:
        """Continue the handshake with what has arrived; return whether it is done.

        Raises:
          ssl.SSLError: TLS failed.
        """
        try:
            self._forge.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as exc:
            self.error = exc
            raise
        return True

    def flight(self) -> bytes:
        """What OpenSSL has to send: a flight of the handshake, or an alert."""
        return self._forge.output()

    # Records, for `send`:

    def encrypt(self, data: bytes) -> bytes:
        """Application data, in as many records as needed."""
        return b"".join(
            self._forge.data(data[start : start + MAX_RECORD])
            for start in range(0, len(data), MAX_RECORD)
        )

    def close_notify(self, *, level: int = WARNING) -> bytes:
        """A close_notify alert. *level* is 1 (a warning, as it should be) or 2."""
        record = self.alert(level, CLOSE_NOTIFY)
        self._close_notify = self._close_notify or record
        return record

    def alert(self, level: int, description: int) -> bytes:
        """An alert. *level* is 1 for a warning, 2 for fatal."""
        return self._forge.alert(level, description)

    def record(self, content_type: int, payload: bytes) -> bytes:
        """Any record: `RecordForge.record`."""
        return self._forge.record(content_type, payload)

    def handshake_message(self, kind: int, body: bytes) -> bytes:
        """A post-handshake message: `RecordForge.handshake_message`."""
        return self._forge.handshake_message(kind, body)

    def key_update(self, *, asks_for_ours: bool = True) -> bytes:
        """New keys: `RecordForge.key_update`."""
        return self._forge.key_update(asks_for_ours=asks_for_ours)

    def tampered(self) -> bytes:
        """A record that was changed on its way."""
        return self._forge.tampered()

    # Sending and receiving:

    async def send(self, data: bytes) -> None:
        """Send bytes as they are.

        Raises:
          trio.BrokenResourceError: the transport failed.
        """
        if data:
            try:
                await self.transport.send_all(data)
            except trio.BrokenResourceError:
                # Nothing more is received then, so nobody else notes it.
                self.transport_end = self.transport_end or "reset"
                raise
            self._note_sent(data)

    def _note_sent(self, data: bytes) -> None:
        record, self._sent = self._close_notify, self._sent + data
        if record and record in self._sent:
            self.close_notify_sent = True
        self._sent = self._sent[-len(record) :] if record else b""

    async def receive_ciphertext(self) -> None:
        """Receive once, and pass the ciphertext to OpenSSL.

        Raises:
          trio.BrokenResourceError: the transport ended or failed.
        """
        try:
            ciphertext = await self.transport.receive_some()
        except trio.BrokenResourceError:
            self.transport_end = "reset"
            raise
        if not ciphertext:
            self.transport_end = "FIN"
            raise trio.BrokenResourceError("the transport has ended")
        self._forge.feed(ciphertext)

    async def receive(self) -> bool:
        """Receive once, and decrypt it.

        Returns:
          False if the transport has ended, so that nothing more can arrive.
        """
        try:
            await self.receive_ciphertext()
        except trio.BrokenResourceError:
            return False
        self._decrypt()
        return True

    async def hear(self, size: int) -> None:
        """Receive until *size* bytes of plaintext have arrived in total.

        Raises:
          trio.BrokenResourceError: the transport ended or failed before.
        """
        while len(self.received) < size:
            await self._go_on()

    async def hear_close_notify(self) -> None:
        """Receive until close_notify arrives.

        Raises:
          trio.BrokenResourceError: the transport ended or failed before.
        """
        while not self.close_notify_received:
            await self._go_on()

    async def hear_to_end(self) -> None:
        """Receive until the transport ends: `transport_end` says how."""
        while await self.receive():
            pass

    async def _go_on(self) -> None:
        if self.close_notify_received or self.error or not await self.receive():
            raise trio.BrokenResourceError("the peer has ended before")

    def _decrypt(self) -> None:
        while not self.close_notify_received and self.error is None:
            try:
                data = self._forge.tls.read(MAX_RECORD)
            except ssl.SSLWantReadError:
                return
            except ssl.SSLError as exc:
                self.error = exc
                return
            self.received += data
            self.close_notify_received = not data

    # The transport:

    async def cut(self) -> None:
        """End the transport in this direction with a FIN, whatever was sent before."""
        assert isinstance(self.transport, trio.abc.HalfCloseableStream)
        await self.transport.send_eof()

    async def close(self) -> None:
        """Close the transport. On TCP that is a reset if something is unread."""
        await self.transport.aclose()

    async def reset(self) -> None:
        """Reset the transport."""
        await reset(self.transport)
