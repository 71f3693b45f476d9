"""A request that ends with a half-close, and an answer that ends with close_notify.

The reference server reads until the close_notify, then sends an answer of SIZE bytes and
its own close_notify. Timed: sending SIZE bytes, the half-close, and reading until the
end. A sample is a connection; opening and closing it are not timed.
"""

from __future__ import annotations

from benchmarks.sample import Samples, Stopwatch
from harness.peers.interface import Connect

from .exchange import settle
from .job import Job
from .server import READ_SIZE, Server


async def client(connect: Connect, job: Job) -> Samples:
    samples = []
    request = bytes(job.size)
    for _ in range(job.repeat):
        connection = await connect()
        assert connection.half_close is not None
        settle()
        received = 0
        watch = Stopwatch()
        await connection.send(request)
        await connection.half_close()
        while data := await connection.receive():
            received += len(data)
        samples.append(watch.sample())
        assert received == job.size, f"{received} bytes came"
        await connection.close()
    return samples


def serve(end: Server, job: Job) -> None:
    answer = bytes(job.size)
    for _ in range(job.repeat):
        sock = end.accept()
        while sock.recv(READ_SIZE):
            pass
        sock.sendall(answer)
        sock.unwrap().close()
        end.endings["close_notify"] += 1
