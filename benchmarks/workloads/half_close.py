"""A request that ends with a half-close, and an answer that ends with close_notify.

The far end reads until the close_notify, then sends its answer of SIZE bytes and its
own close_notify. In the clock: sending SIZE bytes, the half-close, and reading until
the end. A lap is a connection; opening and closing it are not in the clock.
"""

from __future__ import annotations

import ssl

from benchmarks.clock import Stopwatch
from benchmarks.peers.interface import Connect, Laps

from .exchange import settle
from .far import READ_SIZE, Far
from .job import Job


async def client(
    connect: Connect, host: str, port: int, context: ssl.SSLContext, job: Job
) -> Laps:
    laps = []
    request = bytes(job.size)
    for _ in range(job.repeat):
        connection = await connect(host, port, context)
        assert connection.half_close is not None
        settle()
        received = 0
        watch = Stopwatch()
        await connection.send(request)
        await connection.half_close()
        while data := await connection.receive():
            received += len(data)
        laps.append(watch.lap())
        assert received == job.size, f"{received} bytes came"
        await connection.close()
    return laps


def far(end: Far, job: Job) -> None:
    answer = bytes(job.size)
    for _ in range(job.repeat):
        sock = end.accept()
        while sock.recv(READ_SIZE):
            pass
        sock.sendall(answer)
        sock.unwrap().close()
        end.endings["close_notify"] += 1
