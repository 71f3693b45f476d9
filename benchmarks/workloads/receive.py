"""Receive SIZE bytes, by reads of PIECE bytes at most.

The far end encrypts everything into memory first; then it says so with one byte. In
the clock: one byte is sent, which says "go"; then reads, until all has come. A lap is
a connection; opening and closing it are not in the clock.
"""

from __future__ import annotations

import ssl
from typing import Final

from benchmarks.clock import Stopwatch
from benchmarks.peers.interface import Connect, Laps

from .far import READ_SIZE, Far
from .job import Job

CHUNK: Final = 2**20


async def client(
    connect: Connect, host: str, port: int, context: ssl.SSLContext, job: Job
) -> Laps:
    laps = []
    for _ in range(job.repeat):
        connection = await connect(host, port, context)
        receive, receive_at_most = connection.receive, connection.receive_at_most
        await receive_at_most(1)
        left = job.size
        watch = Stopwatch()
        await connection.send(b"!")
        if job.piece:
            while left > 0:
                left -= len(await receive_at_most(job.piece)) or _cut()
        else:
            while left > 0:
                left -= len(await receive()) or _cut()
        laps.append(watch.lap())
        await connection.close()
    return laps


def _cut() -> int:
    raise EOFError("the far end has ended too early")


def far(end: Far, job: Job) -> None:
    for _ in range(job.repeat):
        records = end.accept_records()
        ready = records.seal(b"!")
        size = min(CHUNK, job.size)
        assert job.size % size == 0
        sealed = [records.seal(bytes(size)) for _ in range(job.size // size)]
        records.raw.sendall(ready)
        if not records.left_over():
            records.raw.recv(READ_SIZE)
        for chunk in sealed:
            records.raw.sendall(chunk)
        records.finish()
