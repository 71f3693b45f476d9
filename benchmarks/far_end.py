"""The program at the far end, the same for all stacks.

    python -m benchmarks.far_end server KIND FD CERTFILE REPEAT SIZE PIECE
    python -m benchmarks.far_end clients HOST PORT CAFILE CONNECTIONS

A server inherits the socket that listens. Both say at last what they have seen.
"""

from __future__ import annotations

import importlib
import json
import socket
import sys
from collections import Counter

from .workloads.far import Far, context_of
from .workloads.hold import clients
from .workloads.job import Job


def tell(**words: object) -> None:
    print(json.dumps(words), flush=True)


def step(connections: int) -> None:
    tell(connections=connections)
    sys.stdin.readline()


def report(sessions: set[tuple[str, str]], endings: Counter[str]) -> None:
    tell(sessions=sorted(sessions), endings=endings)


def main(arguments: list[str]) -> None:
    role, *arguments = arguments
    if role == "server":
        kind, descriptor, certificate, *numbers = arguments
        workload = importlib.import_module(
            f".workloads.{kind.replace('-', '_')}", __package__
        )
        with socket.socket(fileno=int(descriptor)) as listener:
            end = Far(listener, context_of(certificate))
            workload.far(end, Job(kind, *map(int, numbers)))
        report(end.sessions, end.endings)
    else:
        host, port, ca_file, count = arguments
        crowd = clients(host, int(port), ca_file, int(count), step)
        report(crowd.sessions, crowd.endings)


if __name__ == "__main__":
    main(sys.argv[1:])
