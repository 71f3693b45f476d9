"""A server accepts connections that their clients end.

Each client connects, shakes hands, sends its close_notify, waits for the server's, and
closes; a few do so at a time. Timed: from the first connection until the last one has
ended. CPU is the server's. The one sample is shared among the connections.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.sample import Sample

from .crowd import AT_ONCE, SETTLE, Crowd
from .job import Job


def run(crowd: Crowd, job: Job) -> list[Sample]:
    def connect_and_end(_: int) -> None:
        sock = crowd.dial()
        sock.do_handshake()
        crowd.note(sock)
        sock.unwrap().close()

    crowd.connect()
    time.sleep(SETTLE)
    began, cpu = time.perf_counter(), crowd.server_cpu()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(connect_and_end, range(job.connections)))
    seconds = time.perf_counter() - began
    time.sleep(SETTLE)  # the server may still be closing the last ones
    cpu = crowd.server_cpu() - cpu
    return [Sample(seconds / job.connections, cpu / job.connections)]
