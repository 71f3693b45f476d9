"""The keys of one side of a TLS session, and records sealed with them."""

from __future__ import annotations

import hmac
import struct
from collections.abc import Callable, Iterable
from typing import Final, Self, TypeAlias

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

AEAD: TypeAlias = AESGCM | ChaCha20Poly1305

HEADER: Final = struct.Struct(">BHH")  # RFC 9846 section 5.1: type, version, length
TLS12: Final = 0x0303  # in the records of TLS 1.3 too
APPLICATION_DATA: Final = 23
NONCE_SIZE: Final = 12
TAG_SIZE: Final = 16


@attrs.frozen
class Suite:
    """What there is to know of a cipher suite. Sizes are in bytes."""

    aead: Callable[[bytes], AEAD]
    key_size: int
    hash: str
    tls12_iv_size: int


AES128: Final = Suite(AESGCM, 16, "sha256", 4)  # RFC 5288 section 3
AES256: Final = Suite(AESGCM, 32, "sha384", 4)
CHACHA20: Final = Suite(ChaCha20Poly1305, 32, "sha256", NONCE_SIZE)  # RFC 7905

# By the ends of OpenSSL's names: in TLS 1.3, in TLS 1.2.
SUITES: Final = {
    "_AES_128_GCM_SHA256": AES128,
    "_AES_256_GCM_SHA384": AES256,
    "_CHACHA20_POLY1305_SHA256": CHACHA20,
    "-AES128-GCM-SHA256": AES128,
    "-AES256-GCM-SHA384": AES256,
    "-CHACHA20-POLY1305": CHACHA20,
}

# The same for `ssl.SSLContext.set_ciphers`, which leaves those of TLS 1.3 as they are.
CIPHERS: Final = "ECDH+AESGCM:ECDH+CHACHA20"


def suite_of(name: str) -> Suite:
    """The suite that OpenSSL calls *name*."""
    for ending, suite in SUITES.items():
        if f"-{name}".endswith(ending):  # AES128-GCM-SHA256 is all of a name, too
            return suite
    raise RuntimeError(f"records of the cipher suite {name} cannot be forged")


@attrs.frozen
class RecordKeys:
    """A key, an IV, and how the version makes a record with them."""

    suite: Suite
    aead: AEAD
    iv: bytes
    traffic_secret: bytes | None = None
    """What the next keys come from; None for TLS 1.2."""

    @classmethod
    def of_tls13(cls, suite: Suite, traffic_secret: bytes) -> Self:
        """RFC 9846 section 7.3."""
        key = _expand_label(traffic_secret, b"key", suite.key_size, suite.hash)
        iv = _expand_label(traffic_secret, b"iv", NONCE_SIZE, suite.hash)
        return cls(suite, suite.aead(key), iv, traffic_secret)

    @classmethod
    def of_tls12(
        cls, suite: Suite, master_secret: bytes, randoms: bytes, *, server_side: bool
    ) -> Self:
        """RFC 5246 section 6.3; *randoms*: the server's, then the client's."""
        key_size, iv_size = suite.key_size, suite.tls12_iv_size
        seed = b"key expansion" + randoms
        block = _prf(master_secret, seed, 2 * (key_size + iv_size), suite.hash)
        # The client's key, the server's; the client's IV, the server's.
        key_at = key_size if server_side else 0
        iv_at = 2 * key_size + (iv_size if server_side else 0)
        key, iv = block[key_at:][:key_size], block[iv_at:][:iv_size]
        return cls(suite, suite.aead(key), iv)

    def next(self) -> Self:
        """The keys behind a KeyUpdate: RFC 9846 section 7.2."""
        if self.traffic_secret is None:
            raise RuntimeError("TLS 1.2 has no KeyUpdate")
        secret = _expand_label(
            self.traffic_secret,
            b"traffic upd",
            len(self.traffic_secret),
            self.suite.hash,
        )
        return self.of_tls13(self.suite, secret)

    def seal(self, sequence: int, content_type: int, payload: bytes) -> bytes:
        """The record of that number."""
        if (
            self.traffic_secret is not None
        ):  # RFC 9846 section 5.2: the real type is inside
            inner = payload + bytes([content_type])
            header = HEADER.pack(APPLICATION_DATA, TLS12, len(inner) + TAG_SIZE)
            return header + self.aead.encrypt(self._nonce(sequence), inner, header)
        number = struct.pack(">Q", sequence)
        # RFC 5288 section 3: a part of the nonce goes with the record.
        explicit = number[: NONCE_SIZE - len(self.iv)]
        sealed = explicit + self.aead.encrypt(
            self.iv + explicit if explicit else self._nonce(sequence),
            payload,
            # RFC 5246 section 6.2.3.3
            number + HEADER.pack(content_type, TLS12, len(payload)),
        )
        return HEADER.pack(content_type, TLS12, len(sealed)) + sealed

    def is_first(self, record: bytes) -> bool:
        """Whether *record*, of TLS 1.3, is number 0 of these keys."""
        return self.opened(0, record) is not None

    def opened(self, sequence: int, record: bytes) -> bytes | None:
        """What is in *record*, of TLS 1.3, if that is its number."""
        header, sealed = record[: HEADER.size], record[HEADER.size :]
        try:
            return self.aead.decrypt(self._nonce(sequence), sealed, header)
        except InvalidTag:
            return None

    def _nonce(self, sequence: int) -> bytes:
        # RFC 9846 section 5.3, RFC 7905 section 2.
        number = int.from_bytes(self.iv, "big") ^ sequence
        return number.to_bytes(NONCE_SIZE, "big")


def decrypt_record(
    record: bytes, *, cipher: str, secret: bytes, numbers: Iterable[int]
) -> tuple[int, bytes] | None:
    """Decrypt a record of TLS 1.3 with a secret from a key log.

    Args:
      record: All of it.
      cipher: OpenSSL's name of the cipher suite, ``"TLS_AES_256_GCM_SHA384"`` or so.
      secret: The sender's: of ``SERVER_TRAFFIC_SECRET_0``, unless it has updated its
        keys.
      numbers: Which record under these keys it may be, counted from 0.

    Returns:
      Its content type (21 is an alert, 22 a handshake message, 23 data) and what it
      holds, without padding; None if no number fits.

    Raises:
      RuntimeError: a cipher suite without AES-GCM or ChaCha20-Poly1305.
    """
    keys = RecordKeys.of_tls13(suite_of(cipher), secret)
    for number in numbers:
        if inner := keys.opened(number, record):
            padded = inner.rstrip(b"\0")  # RFC 9846 section 5.4
            return padded[-1], padded[:-1]
    return None


def _expand_label(secret: bytes, label: bytes, size: int, digest: str) -> bytes:
    # RFC 9846 section 7.1. One round of HKDF-Expand is enough for these sizes.
    label = b"tls13 " + label
    info = struct.pack(">HB", size, len(label)) + label + b"\0"
    return hmac.digest(secret, info + b"\1", digest)[:size]


def _prf(secret: bytes, seed: bytes, size: int, digest: str) -> bytes:
    # RFC 5246 section 5.
    output = b""
    link = seed
    while len(output) < size:
        link = hmac.digest(secret, link, digest)
        output += hmac.digest(secret, link + seed, digest)
    return output[:size]
