"""Close an idle connection, whose data were acknowledged, as users are told to.

The connection is as in ``shutdown``. In the clock: the stack's usual close, such as
``aclose()``. Some wait for the far end's close_notify there, some do not, and some
send none: then the remarks say "cut". A lap is a connection.
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
        await connection.close()
        laps.append(watch.lap())
    return laps
