"""One byte there, one byte back, on one connection.

Timed: one send, and the read of the answer. A sample is one exchange.
"""

from __future__ import annotations

from benchmarks.sample import Samples, Stopwatch
from harness.peers.interface import Connect

from .job import Job
from .server import Server


async def client(connect: Connect, job: Job) -> Samples:
    samples = []
    connection = await connect()
    send, receive = connection.send, connection.receive
    data = bytes(job.size)
    for _ in range(job.repeat):
        watch = Stopwatch()
        await send(data)
        await receive()
        samples.append(watch.sample())
    await connection.close()
    return samples


def serve(end: Server, job: Job) -> None:
    sock = end.accept()
    for _ in range(job.repeat):
        sock.sendall(sock.recv(job.size))
    end.answer_close(sock)
