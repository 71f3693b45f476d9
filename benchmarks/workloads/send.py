"""Send SIZE bytes, in pieces of PIECE bytes.

The reference server reads raw bytes from TCP and does not decrypt: the headers of the
records tell it when all has come, and it answers with a byte. SO_RCVLOWAT wakes it when
much has come, not for each piece, which would cost the sender. Timed: the sends, and the
wait for that byte, so that delivery is measured. A sample is a connection; opening and
closing it are not timed.
"""

from __future__ import annotations

import socket
from typing import Final

from benchmarks.sample import Samples, Stopwatch
from harness.peers.interface import Connect

from .job import Job
from .server import READ_SIZE, Server

HEADER: Final = 5
BESIDE_PLAINTEXT: Final = 17  # bytes in a TLS 1.3 record: its type, and the AEAD's tag


async def client(connect: Connect, job: Job) -> Samples:
    samples = []
    data = bytes(job.piece)
    for _ in range(job.repeat):
        connection = await connect()
        send = connection.send
        await connection.receive()
        watch = Stopwatch()
        for _ in range(job.size // job.piece):
            await send(data)
        if not await connection.receive():
            raise EOFError("the reference server ended too early")
        samples.append(watch.sample())
        await connection.close()
    return samples


class RecordCounter:
    """Adds up the plaintext in a stream of TLS 1.3 records, from their headers."""

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


def serve(end: Server, job: Job) -> None:
    for _ in range(job.repeat):
        records = end.accept_records()
        records.raw.sendall(records.seal(b"!"))
        counter = RecordCounter()
        counter.feed(records.left_over())
        while counter.plaintext < job.size or not counter.at_boundary:
            # At least this much is still to come.
            least = max(1, min(READ_SIZE, job.size - counter.plaintext))
            records.raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least)
            data = records.raw.recv(READ_SIZE)
            if not data:
                raise EOFError("the client ended too early")
            counter.feed(data)
        records.raw.sendall(records.seal(b"!"))
        records.finish()
