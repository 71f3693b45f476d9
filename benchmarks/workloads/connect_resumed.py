"""Connect, resume a session, exchange a byte, and close.

Timed: the same as in ``connect``. The session is that of a connection before the first
sample.
"""

from __future__ import annotations

from benchmarks.sample import Samples, Stopwatch
from harness.peers.interface import Connect

from .exchange import exchange
from .job import Job
from .server import Server


async def client(connect: Connect, job: Job) -> Samples:
    samples = []
    first = await connect()
    await exchange(first, job)
    assert first.session is not None
    session = first.session()
    await first.close()
    for _ in range(job.repeat):
        watch = Stopwatch()
        connection = await connect(session=session)
        await exchange(connection, job)
        await connection.close()
        samples.append(watch.sample())
    return samples


def serve(end: Server, job: Job) -> None:
    resumed = 0
    for _ in range(1 + job.repeat):
        sock = end.accept()
        resumed += bool(sock.session_reused)
        sock.sendall(sock.recv(job.size))
        end.answer_close(sock)
    assert resumed == job.repeat, f"{resumed} sessions were resumed"
