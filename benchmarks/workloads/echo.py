"""A server echoes on many connections, with a message under way on each.

The clients send a message of SIZE bytes on every connection, and the next one as soon as
it has come back, REPEAT times in all. Timed: from the send of a message until it is back;
the last one of each connection does not count, as the others have fewer beside it. CPU is
the server's, shared among all messages. A sample is a message.

All clients are one thread on a core of their own: with a server faster than they are,
the rate and the waits are theirs.
"""

from __future__ import annotations

import selectors
import ssl
import time
from contextlib import suppress

from benchmarks.sample import Sample

from .crowd import Crowd
from .job import Job
from .server import PATIENCE


def run(crowd: Crowd, job: Job) -> list[Sample]:
    socks = crowd.connect(job.connections)
    message = bytes(job.size)
    messages = under_way = len(socks) * job.repeat
    to_send = messages - len(socks)
    sent: dict[ssl.SSLSocket, float] = {}
    waits = []
    with selectors.DefaultSelector() as selector:
        for sock in socks:
            sock.settimeout(0)
            selector.register(sock, selectors.EVENT_READ, sock)
        cpu = crowd.server_cpu()
        for sock in socks:
            sent[sock] = time.perf_counter()
            sock.sendall(message)
        while under_way:
            events = selector.select(PATIENCE)
            if not events:
                raise TimeoutError("the server does not answer")
            for key, _ in events:
                sock = key.data
                with suppress(ssl.SSLWantReadError):
                    if len(sock.recv(job.size)) != job.size:
                        raise EOFError("the server ended too early, or cut a message")
                    under_way -= 1
                    if to_send:
                        to_send -= 1
                        waits.append(time.perf_counter() - sent[sock])
                        sent[sock] = time.perf_counter()
                        sock.sendall(message)
        cpu = crowd.server_cpu() - cpu
    return [Sample(wait, cpu / messages) for wait in waits]
