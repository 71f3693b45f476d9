"""What only the transport under TLS can tell: records, how they came, FIN or reset."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Final

import trio

ALERT: Final = 21
APPLICATION_DATA: Final = 23
CONTENT_TYPES: Final = range(20, 25)
HEADER: Final = 5  # bytes
HELLO: Final = b"\x16"  # what its record begins with; nothing before TLS does so
CLIENT_RANDOM: Final = slice(11, 43)
DRIP: Final = 8
# Of an alert in TLS 1.3, where the content type is encrypted: two bytes, the type, and
# the tag of each cipher suite that is in use but CCM_8. RFC 9846 section 5.2.
ALERT_13: Final = 2 + 1 + 16
TEXT: Final = frozenset(b"\t\r\n" + bytes(range(32, 127)))


class TransportEnd(enum.Enum):
    """How the server's direction of TCP stands."""

    OPEN = "open"
    FIN = "FIN"
    RESET = "reset"


class Witness(trio.abc.Stream):
    """A TCP stream that counts the records that come, and notes how TCP ends.

    Attributes:
      end: How TCP has ended in the server's direction.
      ended_at: When, in seconds on Trio's clock.
      received_at: When something came last, likewise.
      drips: How many times no more than a few bytes came.
      alerts: How many records came that are alerts, or of an alert's size.
      last_alert: The last of those, and how many encrypted records of TLS 1.3 had come
        before it.
      client_random: That of our ClientHello: RFC 9846 section 4.1.2.
    """

    def __init__(self, transport: trio.SocketStream) -> None:
        self.transport: Final = transport
        self.end = TransportEnd.OPEN
        self.ended_at: float | None = None
        self.received_at = 0.0
        self.drips = 0
        self.alerts = 0
        self.last_alert: tuple[bytes, int] = b"", 0
        self.client_random = b""
        self._encrypted = 0
        self._header = b""
        self._left = 0  # bytes of the body of the record that is coming
        self._is_alert = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive, and count the records.

        Cancellation:
          Nothing is lost.
        """
        data = await self.receive_uncounted(max_bytes)
        if data:
            self.drips += len(data) <= DRIP
            self._count(data)
        return data

    async def receive_uncounted(
        self, max_bytes: int | None = None
    ) -> bytes | bytearray:
        """Receive what is not of the TLS session: before it, or behind it.

        Cancellation:
          Nothing is lost.
        """
        try:
            data = await self.transport.receive_some(max_bytes)
        except trio.BrokenResourceError:
            self._note_end(TransportEnd.RESET)
            raise
        if data:
            self.received_at = trio.current_time()
        else:
            self._note_end(TransportEnd.FIN)
        return data

    def _note_end(self, end: TransportEnd) -> None:
        if self.ended_at is None:
            self.end, self.ended_at = end, trio.current_time()

    def _count(self, data: bytes | bytearray) -> None:
        position = 0
        while position < len(data):
            if self._left:
                part = data[position : position + self._left]
                if self._is_alert:
                    record, before = self.last_alert
                    self.last_alert = record + part, before
                self._left -= len(part)
                position += len(part)
                continue
            missing = HEADER - len(self._header)
            self._header += data[position : position + missing]
            position += missing
            if len(self._header) == HEADER:
                kind, size = self._header[0], int.from_bytes(self._header[3:], "big")
                self._is_alert = is_alert(kind, size)
                if self._is_alert:
                    self.alerts += 1
                    self.last_alert = self._header, self._encrypted
                self._encrypted += kind == APPLICATION_DATA
                self._header, self._left = b"", size

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, as the transport does.

        Cancellation:
          A part of it may have left.
        """
        if data[:1] == HELLO and not self.client_random:
            self.client_random = bytes(data[CLIENT_RANDOM])
        await self.transport.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait, as the transport does.

        Cancellation:
          Nothing is lost.
        """
        await self.transport.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close TCP.

        Cancellation:
          It is closed all the same.
        """
        await self.transport.aclose()


def is_alert(kind: int, size: int) -> bool:
    """Whether a record is an alert, or, in TLS 1.3, looks like one from outside."""
    return kind == ALERT or (kind == APPLICATION_DATA and size == ALERT_13)


class Behind(enum.Enum):
    """What there can be behind a close_notify."""

    NOTHING = "nothing"
    ALERT = "another alert"
    DATA = "a record of data"
    CLEAR_TEXT = "clear text"
    GARBAGE = "bytes that are neither TLS nor text"


def what_is_behind(data: bytes) -> Behind:
    """What came behind a close_notify, from the first bytes of it."""
    if not data:
        return Behind.NOTHING
    sizes = list(_records(data))
    if sizes:
        kind, size = sizes[0]
        return Behind.ALERT if is_alert(kind, size) else Behind.DATA
    if all(byte in TEXT for byte in data):
        return Behind.CLEAR_TEXT
    return Behind.GARBAGE


def _records(data: bytes) -> Iterator[tuple[int, int]]:
    position = 0
    while position + HEADER <= len(data):
        kind, major = data[position], data[position + 1]
        if kind not in CONTENT_TYPES or major != 3:
            return
        size = int.from_bytes(data[position + 3 : position + HEADER], "big")
        yield kind, size
        position += HEADER + size
