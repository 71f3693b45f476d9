"""Connect, shake hands, exchange a byte, and close: a whole connection.

In the clock: all of it, from the connection's TCP to the return of the stack's usual
close, as in ``close``. A lap is a connection; the next one begins at once.
"""

from __future__ import annotations

import ssl

from benchmarks.clock import Stopwatch
from benchmarks.peers.interface import Connect, Laps

from .exchange import exchange, exchange_and_answer_close as far
from .job import Job

__all__ = ["client", "far"]


async def client(
    connect: Connect, host: str, port: int, context: ssl.SSLContext, job: Job
) -> Laps:
    laps = []
    for _ in range(job.repeat):
        watch = Stopwatch()
        connection = await connect(host, port, context)
        await exchange(connection, job)
        await connection.close()
        laps.append(watch.lap())
    return laps
