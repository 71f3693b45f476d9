"""A server holds many idle connections, and then drains: it ends all of them gracefully.

Each client sends a byte, gets it back, and is idle then. Memory is what the server's
resident set grew by while they connected, for each of them.

When all are there the server is told to drain. Timed: from that word until the server has
sent its close_notify to all, received the clients', and closed; they answer at once. The
one sample is the server's own, shared among the connections.
"""

from __future__ import annotations

from benchmarks.sample import Sample

from .crowd import Crowd
from .job import Job


def run(crowd: Crowd, job: Job) -> list[Sample]:
    crowd.connect()
    before = crowd.server_memory()
    crowd.connect(job.connections)
    crowd.memory = (crowd.server_memory() - before) / job.connections
    return []
