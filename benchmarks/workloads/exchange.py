"""What the workloads about endings have in common."""

from __future__ import annotations

import time
from typing import Final

from benchmarks.peers.interface import Connection

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


def exchange_and_answer_close(end: Far, job: Job) -> None:
    for _ in range(job.repeat):
        sock = end.accept()
        sock.sendall(sock.recv(job.size))
        end.answer_close(sock)
