"""Connect, shake hands, exchange a byte, and close: a whole connection.

Timed: all of it, from the first call until the implementation's usual close, as in
``close``, has returned. A sample is a connection; the next one begins at once.
"""

from __future__ import annotations

from benchmarks.sample import Samples, Stopwatch
from harness.peers.interface import Connect

from .exchange import exchange, exchange_and_answer_close as serve
from .job import Job

__all__ = ["client", "serve"]


async def client(connect: Connect, job: Job) -> Samples:
    samples = []
    for _ in range(job.repeat):
        watch = Stopwatch()
        connection = await connect()
        await exchange(connection, job)
        await connection.close()
        samples.append(watch.sample())
    return samples
