"""One byte there, one byte back, on one connection.

In the clock: one send, and the read of the answer. A lap is one exchange.
"""

from __future__ import annotations

import ssl

from benchmarks.clock import Stopwatch
from benchmarks.peers.interface import Connect, Laps

from .far import Far
from .job import Job


async def client(
    connect: Connect, host: str, port: int, context: ssl.SSLContext, job: Job
) -> Laps:
    laps = []
    connection = await connect(host, port, context)
    send, receive = connection.send, connection.receive
    data = bytes(job.size)
    for _ in range(job.repeat):
        watch = Stopwatch()
        await send(data)
        await receive()
        laps.append(watch.lap())
    await connection.close()
    return laps


def far(end: Far, job: Job) -> None:
    sock = end.accept()
    for _ in range(job.repeat):
        sock.sendall(sock.recv(job.size))
    end.answer_close(sock)
