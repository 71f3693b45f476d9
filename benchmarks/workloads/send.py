"""Send SIZE bytes, in pieces of PIECE bytes.

The far end reads the raw bytes of TCP and throws them away; of each record it looks
at the header only, to know when all has come, and then it answers with one byte. It
is woken when much has come, not for each piece: that would be paid by who sends. In
the clock: the sends, and the wait for that byte, so that it is delivery that is
measured. A lap is a connection; opening and closing it are not in the clock.
"""

from __future__ import annotations

import socket
import ssl
from typing import Final

from benchmarks.clock import Stopwatch
from benchmarks.peers.interface import Connect, Laps

from .far import READ_SIZE, Far
from .job import Job

HEADER: Final = 5
BESIDE_PLAINTEXT: Final = 17  # bytes in a TLS 1.3 record: its type, and the AEAD's tag


async def client(
    connect: Connect, host: str, port: int, context: ssl.SSLContext, job: Job
) -> Laps:
    laps = []
    data = bytes(job.piece)
    for _ in range(job.repeat):
        connection = await connect(host, port, context)
        send = connection.send
        await connection.receive()
        watch = Stopwatch()
        for _ in range(job.size // job.piece):
            await send(data)
        if not await connection.receive():
            raise EOFError("the far end has ended too early")
        laps.append(watch.lap())
        await connection.close()
    return laps


class RecordCounter:
    """Adds up the plaintext of the records in a stream of bytes, by their headers."""

    def __init__(self) -> None:
        self.plaintext = 0
        self._skip = 0  # bytes until the next header
        self._head = b""  # a part of one

    @property
    def at_boundary(self) -> bool:
        return not self._skip and not self._head

    def feed(self, data: bytes) -> None:
        if self._head:
            data = self._head + data
        position, end = self._skip, len(data)
        while position + HEADER <= end:
            length = (data[position + 3] << 8) + data[position + 4]
            self.plaintext += length - BESIDE_PLAINTEXT
            position += HEADER + length
        self._head = data[position:]
        self._skip = max(0, position - end)


def far(end: Far, job: Job) -> None:
    for _ in range(job.repeat):
        records = end.accept_records()
        records.raw.sendall(records.seal(b"!"))
        counter = RecordCounter()
        counter.feed(records.left_over())
        while counter.plaintext < job.size or not counter.at_boundary:
            # There is at least so much to come.
            least = max(1, min(READ_SIZE, job.size - counter.plaintext))
            records.raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least)
            data = records.raw.recv(READ_SIZE)
            if not data:
                raise EOFError("the client has ended too early")
            counter.feed(data)
        records.raw.sendall(records.seal(b"!"))
        records.finish()
