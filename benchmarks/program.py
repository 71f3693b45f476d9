"""The program that is measured: a stack that has a Python interface.

    python -m benchmarks.program STACK client KIND HOST PORT CAFILE REPEAT SIZE PIECE
    python -m benchmarks.program STACK server hold HOST PORT CERTFILE CONNECTIONS

It speaks the protocol that any other program may speak: docs/benchmarks.md.
"""

from __future__ import annotations

import gc
import importlib
import json
import ssl
import sys
from dataclasses import asdict
from functools import partial

from .clock import Lap
from .peers.interface import Laps, Orders, PythonPeer
from .workloads.hold import allow_descriptors
from .workloads.job import Job


def tell(**words: object) -> None:
    print(json.dumps(words), flush=True)


class StandardOrders:
    """Told by a line of standard input, tells on standard output."""

    def listening(self, port: int) -> None:
        tell(port=port)

    def wait_for_end(self) -> None:
        sys.stdin.readline()


def load(where: str) -> PythonPeer:
    """The stack of ``module`` or ``module:NAME``, in the folder of the peers."""
    module, _, name = where.partition(":")
    found: PythonPeer = getattr(
        importlib.import_module(f".peers.{module}", __package__), name or "PEER"
    )
    return found


def client(peer: PythonPeer, host: str, port: int, ca_file: str, job: Job) -> Laps:
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    workload = importlib.import_module(
        f".workloads.{job.kind.replace('-', '_')}", __package__
    )
    return peer.run(partial(workload.client, peer.connect, host, port, context, job))


def server(peer: PythonPeer, host: str, certificate: str, orders: Orders) -> Laps:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate)
    hold = peer.hold
    assert hold is not None

    async def main() -> Laps:
        return [await hold(host, context, orders)]

    return peer.run(main)


def report(laps: list[Lap]) -> None:
    for lap in laps:
        print(json.dumps(asdict(lap)))
    sys.stdout.flush()


def main(arguments: list[str]) -> None:
    where, role, kind, host, port, file, *numbers = arguments
    peer = load(where)
    tell(version=peer.version)
    if kind in peer.cannot or (kind != "hold" and peer.connect is None):
        tell(cannot=peer.cannot.get(kind, "it is not a client"))
        return
    gc.collect()
    gc.freeze()  # what was imported is not what is measured
    if role == "server":
        allow_descriptors(int(numbers[0]))
        report(server(peer, host, file, StandardOrders()))
    else:
        repeat, size, piece = map(int, numbers)
        report(client(peer, host, int(port), file, Job(kind, repeat, size, piece)))


if __name__ == "__main__":
    main(sys.argv[1:])
