"""TLSStream beside trio.SSLStream: is the safer close paid for elsewhere?

    python benchmarks/versus_sslstream.py [--rounds 7] [--only receive]

Each workload runs with both, in turn, in the same process and against the same
peer: the standard library's blocking ssl.SSLSocket in a process of its own. A
figure is the median over the rounds; only ratios mean anything. The exit code
is 1 if a ratio is above 1.05, but for one that is not judged.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import socket
import ssl
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Self, TypeAlias

import trio
import trustme

from trio_tlsdown import TLSStream

LIMIT = 1.05
LIMITS = {"close unread": math.inf}  # it is not the same that is done
NAME = "bench.example"
MEBIBYTE = 2**20

Stream: TypeAlias = "trio.SSLStream[trio.SocketStream] | TLSStream[trio.SocketStream]"
Workload: TypeAlias = Callable[["Maker"], Awaitable[tuple[float, float]]]


class Stopwatch:
    """Wall and CPU seconds of this process, while entered."""

    def __enter__(self) -> Self:
        self._start = (time.perf_counter(), time.process_time())
        return self

    def __exit__(self, *_: object) -> None:
        wall, cpu = self._start
        self.times = (time.perf_counter() - wall, time.process_time() - cpu)


# The peer: one job a connection, named by the first line it gets.


def serve(listener: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        raw, _ = listener.accept()
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(raw, server_side=True) as connection:
            try:
                job, _, size = connection.recv(100).decode().strip().partition(" ")
                if job == "source":
                    chunk = bytes(65536)
                    for _ in range(int(size) // len(chunk)):
                        connection.sendall(chunk)
                    connection.unwrap()
                else:  # a sink, until close_notify
                    if job == "greet":
                        connection.sendall(b"!")
                    while connection.recv(65536):
                        pass
            except OSError:
                pass


class Maker:
    """Makes connections of one implementation to the peer."""

    def __init__(self, kind: type[Stream], context: ssl.SSLContext, port: int) -> None:
        self._kind = kind
        self._context = context
        self._port = port

    async def connect(self, job: str) -> Stream:
        transport = await trio.open_tcp_stream("127.0.0.1", self._port)
        stream: Stream = self._kind(transport, self._context, server_hostname=NAME)
        await stream.do_handshake()
        await stream.send_all(job.encode() + b"\n")
        return stream


def receive(chunk: int | None) -> Workload:
    async def run(maker: Maker) -> tuple[float, float]:
        stream = await maker.connect(f"source {32 * MEBIBYTE}")
        with Stopwatch() as watch:
            while await stream.receive_some(chunk):
                pass
        await stream.aclose()
        return watch.times

    return run


def send(size: int, count: int) -> Workload:
    async def run(maker: Maker) -> tuple[float, float]:
        stream = await maker.connect("sink")
        data = bytes(size)
        with Stopwatch() as watch:
            for _ in range(count):
                await stream.send_all(data)
        await stream.aclose()
        return watch.times

    return run


def close(job: str) -> Workload:
    """Closing an idle connection whose peer is alive."""

    async def run(maker: Maker) -> tuple[float, float]:
        wall = cpu = 0.0
        for _ in range(100):
            stream = await maker.connect(job)
            if job == "greet":
                await stream.receive_some()  # and the session tickets before it
            await trio.sleep(0.002)  # the peer has read, and acknowledged
            with Stopwatch() as watch:
                await stream.aclose()
            wall += watch.times[0]
            cpu += watch.times[1]
        return wall, cpu

    return run


async def connection(maker: Maker) -> tuple[float, float]:
    """Connect, shake hands, exchange a byte, close; the peer closes, too."""
    with Stopwatch() as watch:
        for _ in range(100):
            stream = await maker.connect("greet")
            await stream.receive_some()
            await stream.aclose()
    return watch.times


WORKLOADS: dict[str, Workload] = {
    "receive": receive(None),
    "receive 16 KiB": receive(16384),
    "send 64 KiB": send(65536, 500),
    "send 16 KiB": send(16384, 1000),
    "send 4 KiB": send(4096, 3000),
    "send 512 B": send(512, 4000),
    "connection": connection,
    "close": close("greet"),
    # With the tickets unread trio.SSLStream sends RST; we wait for an ACK.
    "close unread": close("sink"),
}


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    ca = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(NAME).configure_cert(server)
    client = ssl.create_default_context()
    ca.configure_trust(client)
    return client, server


def measure(rounds: int, only: str) -> bool:
    client, server = contexts()
    listener = socket.create_server(("127.0.0.1", 0))
    fork = multiprocessing.get_context("fork")  # contexts cannot be pickled
    peer = fork.Process(target=serve, args=(listener, server), daemon=True)
    peer.start()
    port = listener.getsockname()[1]
    theirs = Maker(trio.SSLStream, client, port)
    ours = Maker(TLSStream, client, port)

    print(f"{'':16}  {'SSLStream':>12} {'TLSStream':>12}   wall    cpu")
    good = True
    try:
        for name, workload in WORKLOADS.items():
            if only not in name:
                continue
            times: dict[Maker, list[tuple[float, float]]] = {theirs: [], ours: []}
            for number in range(rounds + 1):
                # Who goes first has the colder caches: take turns.
                turn = (theirs, ours) if number % 2 else (ours, theirs)
                for maker in turn:
                    result = trio.run(workload, maker)
                    if number:  # the first round warms up
                        times[maker].append(result)
            medians = {
                maker: [statistics.median(column) for column in zip(*rows, strict=True)]
                for maker, rows in times.items()
            }
            wall, cpu = (
                mine / other
                for mine, other in zip(medians[ours], medians[theirs], strict=True)
            )
            verdict = "" if cpu <= LIMITS.get(name, LIMIT) else "  too slow"
            good = good and not verdict
            print(
                f"{name:16}  {medians[theirs][1] * 1e3:9.1f} ms "
                f"{medians[ours][1] * 1e3:9.1f} ms  {wall:5.2f}  {cpu:5.2f}{verdict}",
                flush=True,
            )
    finally:
        peer.terminate()
        peer.join()
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="part of a workload's name")
    options = parser.parse_args()
    sys.exit(0 if measure(options.rounds, options.only) else 1)


if __name__ == "__main__":
    main()
