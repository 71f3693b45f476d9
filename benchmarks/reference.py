"""The reference peer: the other end of each connection, the same for all.

    python -m benchmarks.reference server KIND FD CERTFILE NUMBERS
    python -m benchmarks.reference clients KIND HOST PORT CAFILE PID CONNECTIONS NUMBERS

The server inherits its listening socket. PID is the measured server. NUMBERS are the
job's: REPEAT, SIZE, PIECE. At the end both print what they have seen.
"""

from __future__ import annotations

import socket
import sys

from .program import emit
from .workloads import module_of
from .workloads.crowd import Crowd, allow_descriptors, context_of as client_context
from .workloads.job import Job
from .workloads.server import Server, context_of as server_context


def server(kind: str, fd: str, certificate: str, *numbers: str) -> None:
    repeat, size, piece = map(int, numbers)
    with socket.socket(fileno=int(fd)) as listener:
        end = Server(listener, server_context(certificate))
        module_of(kind).serve(
            end, Job(kind=kind, repeat=repeat, size=size, piece=piece)
        )
    emit(sessions=sorted(end.sessions), endings=end.endings)


def clients(
    kind: str, host: str, port: str, ca_file: str, pid: str, *numbers: str
) -> None:
    connections, repeat, size, _ = map(int, numbers)
    job = Job(kind=kind, connections=connections, repeat=repeat, size=size)
    allow_descriptors(connections)
    crowd = Crowd(host, int(port), client_context(ca_file), int(pid))
    samples = module_of(kind).run(crowd, job)
    emit(measured=len(samples))
    sys.stdin.readline()
    crowd.answer_closes()
    emit(
        samples=[(sample.seconds, sample.cpu) for sample in samples],
        memory=crowd.memory,
        sessions=sorted(crowd.sessions),
        endings=crowd.endings,
    )


if __name__ == "__main__":
    _, role, *arguments = sys.argv
    (server if role == "server" else clients)(*arguments)
