"""The measured program, for an implementation with a Python interface.

    python -m benchmarks.program PEER client KIND HOST PORT CAFILE REPEAT SIZE PIECE
    python -m benchmarks.program PEER server KIND HOST PORT CERTFILE CONNECTIONS

It speaks the protocol that any program may speak: docs/benchmarks.md.
"""

from __future__ import annotations

import gc
import json
import ssl
import sys
from dataclasses import asdict, dataclass, field
from functools import partial

from harness.peers import load
from harness.peers.interface import Control, PythonPeer

from .sample import Samples, Stopwatch
from .workloads import module_of
from .workloads.crowd import allow_descriptors
from .workloads.job import Job


def emit(**words: object) -> None:
    print(json.dumps(words), flush=True)


class StandardControl:
    """Reads a line from standard input, prints to standard output."""

    def listening(self, port: int) -> None:
        emit(port=port)

    def wait_for_stop(self) -> None:
        sys.stdin.readline()


@dataclass
class TimedControl:
    """Runs a stopwatch from the moment the server is told to stop."""

    control: Control
    watch: Stopwatch = field(init=False)

    def listening(self, port: int) -> None:
        self.control.listening(port)

    def wait_for_stop(self) -> None:
        self.control.wait_for_stop()
        self.watch = Stopwatch()


def client(peer: PythonPeer, host: str, port: int, ca_file: str, job: Job) -> Samples:
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    assert peer.connect is not None
    connect = partial(peer.connect, host, port, context)
    return peer.run(partial(module_of(job.kind).client, connect, job))


def server(peer: PythonPeer, host: str, certificate: str, control: Control) -> Samples:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate)
    serve = peer.serve
    assert serve is not None

    async def main() -> Samples:
        timed = TimedControl(control)
        await serve(host, context, timed)
        return [timed.watch.sample()]

    return peer.run(main)


def main(arguments: list[str]) -> None:
    name, role, kind, host, port, file, *numbers = arguments
    peer = load(name)
    emit(version=peer.version)
    if cannot := peer.cannot.get(role) or peer.cannot.get(kind):
        emit(cannot=cannot)
        return
    gc.collect()
    gc.freeze()  # what was imported is not what is measured
    if role == "server":
        allow_descriptors(int(numbers[0]))
        samples = server(peer, host, file, StandardControl())
    else:
        repeat, size, piece = map(int, numbers)
        job = Job(kind=kind, repeat=repeat, size=size, piece=piece)
        samples = client(peer, host, int(port), file, job)
    for sample in samples:
        print(json.dumps(asdict(sample)))
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
