"""What the workloads about endings have in common."""

from __future__ import annotations

import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from benchmarks.clock import Stopwatch
from benchmarks.peers.interface import Connect, Connection, Laps

from .far import Far
from .job import Job

SETTLE: Final = 0.001  # seconds, until the far end waits in its next read


async def exchange(connection: Connection, job: Job) -> None:
    """A message there and back: the session tickets were read, our data acknowledged."""
    await connection.send(bytes(job.size))
    await connection.receive()


def settle() -> None:
    """Blocks the loop, which has nothing to do: a wait of its own may cost it later."""
    time.sleep(SETTLE)


End: TypeAlias = Callable[[], Awaitable[object]]
Client: TypeAlias = Callable[[Connect, str, int, ssl.SSLContext, Job], Awaitable[Laps]]


def end_after_exchange(choose: Callable[[Connection], End]) -> Client:
    """A client whose laps are the ends of connections, which *choose* picks."""

    async def client(
        connect: Connect, host: str, port: int, context: ssl.SSLContext, job: Job
    ) -> Laps:
        laps = []
        for _ in range(job.repeat):
            connection = await connect(host, port, context)
            end = choose(connection)
            await exchange(connection, job)
            settle()
            watch = Stopwatch()
            await end()
            laps.append(watch.lap())
        return laps

    return client


def exchange_and_answer_close(end: Far, job: Job) -> None:
    for _ in range(job.repeat):
        sock = end.accept()
        sock.sendall(sock.recv(job.size))
        end.answer_close(sock)
