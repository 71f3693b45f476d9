"""Receive SIZE bytes, in reads of at most PIECE bytes.

The reference server encrypts everything into memory first, and then sends a byte. Timed:
sending a byte, which starts it, and reading until all has come. A sample is a connection;
opening and closing it are not timed.
"""

from __future__ import annotations

from typing import Final

from benchmarks.sample import Samples, Stopwatch
from harness.peers.interface import Connect

from .job import Job
from .server import READ_SIZE, Server

CHUNK: Final = 2**20


async def client(connect: Connect, job: Job) -> Samples:
    samples = []
    for _ in range(job.repeat):
        connection = await connect()
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
        samples.append(watch.sample())
        await connection.close()
    return samples


def _cut() -> int:
    raise EOFError("the reference server ended too early")


def serve(end: Server, job: Job) -> None:
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
