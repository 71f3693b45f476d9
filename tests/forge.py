"""TLS 1.3 records that no library would write, under the keys of a real session.

RFC 9846 sections 5.2 (records), 7.1 to 7.3 (keys) and 4.7 (what may follow the
handshake).
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

ALERT: Final = 21
HANDSHAKE: Final = 22
APPLICATION_DATA: Final = 23

NEW_SESSION_TICKET: Final = 4
KEY_UPDATE: Final = 24


class Forger:
    """Writes as one party of a session, from its first application record on.

    Args:
      keys: Where the context of a party logs its keys. TLS_AES_256_GCM_SHA384.
      server_side: Which party to write as.
    """

    def __init__(self, keys: Path, *, server_side: bool) -> None:
        label = "SERVER" if server_side else "CLIENT"
        [secret] = (
            line.split()[2]
            for line in keys.read_text().splitlines()
            if line.startswith(f"{label}_TRAFFIC_SECRET_0 ")
        )
        self._use(bytes.fromhex(secret))

    def _use(self, secret: bytes) -> None:
        self._secret = secret
        self._cipher = AESGCM(_expand(secret, b"key", 32))
        self._iv = int.from_bytes(_expand(secret, b"iv", 12), "big")
        self._sequence = 0

    def record(self, kind: int, content: bytes) -> bytes:
        inner = content + bytes([kind])
        header = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2, "big")
        nonce = (self._iv ^ self._sequence).to_bytes(12, "big")
        self._sequence += 1
        return header + self._cipher.encrypt(nonce, inner, header)

    def data(self, content: bytes) -> bytes:
        return self.record(APPLICATION_DATA, content)

    def close_notify(self) -> bytes:
        return self.record(ALERT, b"\x01\x00")

    def key_update(self, *, asks_for_ours: bool) -> bytes:
        record = self._handshake(KEY_UPDATE, bytes([asks_for_ours]))
        self._use(_expand(self._secret, b"traffic upd", 48))
        return record

    def session_ticket(self, number: int) -> bytes:
        nonce = number.to_bytes(4, "big")
        ticket = nonce * 50
        return self._handshake(
            NEW_SESSION_TICKET,
            (7200).to_bytes(4, "big")  # seconds that it lives
            + bytes(4)
            + bytes([len(nonce)])
            + nonce
            + len(ticket).to_bytes(2, "big")
            + ticket
            + bytes(2),  # no extensions
        )

    def _handshake(self, kind: int, body: bytes) -> bytes:
        return self.record(
            HANDSHAKE, bytes([kind]) + len(body).to_bytes(3, "big") + body
        )


def _expand(secret: bytes, label: bytes, length: int) -> bytes:
    label = b"tls13 " + label
    info = length.to_bytes(2, "big") + bytes([len(label)]) + label + b"\x00"
    return HKDFExpand(SHA384(), length, info).derive(secret)


def logs_its_keys(context: ssl.SSLContext, keys: Path) -> ssl.SSLContext:
    """Make a session of *context* one that can be forged."""
    context.keylog_filename = str(keys)
    if context.protocol is ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # they would take up sequence numbers
    return context
