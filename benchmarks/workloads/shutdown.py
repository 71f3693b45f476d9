"""End a connection gracefully, as well as the stack can.

The connection is open and idle, one byte has gone each way, and the far end waits in
a read; it answers a close_notify at once with its own, and closes. In the clock: our
close_notify, the wait for the far end's, and closing the socket. A lap is a connection.
"""

from __future__ import annotations

import ssl

from benchmarks.clock import Stopwatch
from benchmarks.peers.interface import Connect, Laps

from .exchange import exchange, exchange_and_answer_close as far, settle
from .job import Job

__all__ = ["client", "far"]


async def client(
    connect: Connect, host: str, port: int, context: ssl.SSLContext, job: Job
) -> Laps:
    laps = []
    for _ in range(job.repeat):
        connection = await connect(host, port, context)
        await exchange(connection, job)
        settle()
        watch = Stopwatch()
        await connection.shutdown()
        laps.append(watch.lap())
    return laps
