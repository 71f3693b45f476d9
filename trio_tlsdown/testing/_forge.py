"""TLS records that OpenSSL refuses to send, in a session that it established."""

from __future__ import annotations

import os
import ssl
from itertools import dropwhile
from pathlib import Path
from typing import Final

from ._options import check_type
from ._record_keys import APPLICATION_DATA, HEADER, RecordKeys, suite_of

CHANGE_CIPHER_SPEC: Final = 20
ALERT: Final = 21
HANDSHAKE: Final = 22
KEY_UPDATE: Final = 24

# Where ClientHello and ServerHello, the first record of each side, have theirs.
RANDOM: Final = slice(11, 43)


class RecordForge:
    """One side of a TLS session whose later records are forged.

    OpenSSL does the handshake and makes all records before the first forged one. From
    then on the forge numbers the records, and OpenSSL, which does not know about them,
    can only read. This works on TLS 1.3, and on TLS 1.2 with AES-GCM or
    ChaCha20-Poly1305, but not after a renegotiation.

    Args:
      context: Its ``keylog_filename`` must be set: the forge reads the keys from there.
      server_side: Whether this is the server. Default: False.
      server_hostname: As for `ssl.SSLContext.wrap_bio`.

    Raises:
      TypeError: *context* is no context.
      ValueError: it does not write a key log.
    """

    tls: ssl.SSLObject
    """The session as OpenSSL has it: shake hands, write, read, unwrap."""

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
    ) -> None:
        check_type("context", context, ssl.SSLContext)
        if context.keylog_filename is None:  # pyright: ignore[reportUnnecessaryComparison]
            raise ValueError("context.keylog_filename must be set: it has the keys")
        self._keylog = Path(os.fsdecode(context.keylog_filename))
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_side,
            server_hostname=server_hostname,
        )
        self._received = b""  # only the beginning, up to its random
        self._sent = b""
        self._early: list[bytes] = []  # records, maybe under the handshake's keys
        self._version: str | None = None
        self._keys: RecordKeys | None = None
        self._sequence = 0

    def feed(self, ciphertext: bytes | bytearray) -> None:
        """Pass on what the peer sent, from the first byte on."""
        self._received = (self._received + ciphertext)[: RANDOM.stop]
        self._incoming.write(ciphertext)

    def output(self) -> bytes:
        """What OpenSSL has to send, or ``b""``. It must be sent.

        Raises:
          RuntimeError: OpenSSL made a record after the first forged one. The peer
            could not decrypt it.
        """
        if self._keys is not None and self._outgoing.pending:
            raise RuntimeError("OpenSSL cannot send any more after a forged record")
        data = self._outgoing.read()
        self._sent = (self._sent + data)[: RANDOM.stop]
        position = 0
        while position < len(data):
            end = position + HEADER.size + HEADER.unpack_from(data, position)[2]
            self._count(data[position:end])
            position = end
        self._note_version()
        return data

    def record(self, content_type: int, payload: bytes) -> bytes:
        """The next record, to be sent as it is.

        Args:
          content_type: 21 for an alert, 22 for a handshake message, 23 for data;
            any byte is allowed.
          payload: Its content. ``b""`` is allowed, and so are more than the legal 2**14
            bytes, but fewer than 2**16.

        Raises:
          RuntimeError: this is the first, and the handshake has not finished, OpenSSL
            has `output`, the cipher suite is not supported, or the key log lacks this
            session.
        """
        if self._keys is None and self._outgoing.pending:
            raise RuntimeError("OpenSSL has output, which would have to come first")
        self._outgoing.read()  # such as a refusal to renegotiate: it can send no more
        record = self.take_over().seal(self._sequence, content_type, payload)
        self._sequence += 1
        return record

    def take_over(self) -> RecordKeys:
        """Make all records from now on; the key log is no longer needed.

        The first `record` does this by itself.

        Raises:
          RuntimeError: as for `record`.
        """
        if self._keys is None:
            self._keys = self._learn_keys()
        return self._keys

    def data(self, data: bytes) -> bytes:
        """One record of application data; ``b""`` makes an empty one."""
        return self.record(APPLICATION_DATA, data)

    def alert(self, level: int, description: int) -> bytes:
        """An alert. *level* is 1 for a warning, 2 for fatal."""
        return self.record(ALERT, bytes([level, description]))

    def handshake_message(self, kind: int, body: bytes) -> bytes:
        """A post-handshake message; type 4, for instance, is a session ticket."""
        header = bytes([kind]) + len(body).to_bytes(3, "big")
        return self.record(HANDSHAKE, header + body)

    def key_update(self, *, asks_for_ours: bool = True) -> bytes:
        """Switch to new keys (TLS 1.3), and ask the receiver to do so too.

        RFC 9846 section 4.7.3.
        """
        record = self.handshake_message(KEY_UPDATE, bytes([asks_for_ours]))
        self._keys = self.take_over().next()
        self._sequence = 0
        return record

    def tampered(self, data: bytes = b"tampered") -> bytes:
        """A record of application data that was changed on its way, so that it fails its check."""
        record = self.data(data)
        return record[:-1] + bytes([record[-1] ^ 1])

    def _note_version(self) -> None:
        # There is none before the handshake is done, nor after OpenSSL failed.
        self._version = self._version or self.tls.version()

    def _count(self, record: bytes) -> None:
        if self._version is not None:
            self._sequence += 1
        elif record[0] == CHANGE_CIPHER_SPEC:
            self._early.clear()  # those were in clear text
        else:
            self._early.append(record)

    def _learn_keys(self) -> RecordKeys:
        self._note_version()
        cipher = self.tls.cipher()
        if self._version is None or cipher is None:
            raise RuntimeError("the handshake has not finished")
        suite = suite_of(cipher[0])
        server_side = self.tls.server_side
        ours, theirs = self._sent[RANDOM], self._received[RANDOM]
        client, server = (theirs, ours) if server_side else (ours, theirs)
        early = self._early
        if self._version == "TLSv1.3":
            label = (
                "SERVER_TRAFFIC_SECRET_0" if server_side else "CLIENT_TRAFFIC_SECRET_0"
            )
            keys = RecordKeys.of_tls13(suite, self._secret(label, client))
            early = list(dropwhile(lambda record: not keys.is_first(record), early))
        else:
            master = self._secret("CLIENT_RANDOM", client)
            keys = RecordKeys.of_tls12(
                suite, master, server + client, server_side=server_side
            )
        self._sequence += len(early)
        return keys

    def _secret(self, label: str, client_random: bytes) -> bytes:
        wanted = f"{label} {client_random.hex()} "
        for line in self._keylog.read_text("ascii").splitlines():
            if line.startswith(wanted):
                return bytes.fromhex(line.removeprefix(wanted))
        raise RuntimeError(f"{self._keylog} has no {label} of this session")
