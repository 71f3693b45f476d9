"""What the workloads about the end of a connection share."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from benchmarks.sample import Samples, Stopwatch
from harness.peers.interface import Connect, Connection

from .job import Job
from .server import Server

SETTLE: Final = 0.001  # seconds, until the reference server waits in its next read


async def exchange(connection: Connection, job: Job) -> None:
    """A message there and back: that reads the session tickets, and acknowledges our data."""
    await connection.send(bytes(job.size))
    await connection.receive()


def settle() -> None:
    """Block, event loop and all: a wait of the loop's own might cost it something later."""
    time.sleep(SETTLE)


End: TypeAlias = Callable[[], Awaitable[object]]
Client: TypeAlias = Callable[[Connect, Job], Awaitable[Samples]]


def end_after_exchange(choose: Callable[[Connection], End | None]) -> Client:
    """A client that times the way to end a connection that *choose* picks."""

    async def client(connect: Connect, job: Job) -> Samples:
        samples = []
        for _ in range(job.repeat):
            connection = await connect()
            end = choose(connection)
            assert end is not None
            await exchange(connection, job)
            settle()
            watch = Stopwatch()
            await end()
            samples.append(watch.sample())
        return samples

    return client


def exchange_and_answer_close(end: Server, job: Job) -> None:
    for _ in range(job.repeat):
        sock = end.accept()
        sock.sendall(sock.recv(job.size))
        end.answer_close(sock)
