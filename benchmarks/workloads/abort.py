"""Abort an idle connection.

The connection is as in ``close``. Timed: closing the socket at once, without close_notify,
by what the implementation has for that. A sample is a connection.
"""

from __future__ import annotations

from operator import attrgetter

from .exchange import end_after_exchange
from .job import Job
from .server import Server

__all__ = ["client", "serve"]

client = end_after_exchange(attrgetter("abort"))


def serve(end: Server, job: Job) -> None:
    for _ in range(job.repeat):
        sock = end.accept()
        sock.sendall(sock.recv(job.size))
        end.expect_abort(sock)
