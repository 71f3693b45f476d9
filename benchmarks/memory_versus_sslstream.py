"""What an idle connection holds: TLSStream beside trio.SSLStream.

    python benchmarks/memory_versus_sslstream.py [--connections 1000] [--rounds 7]

Each measurement is a process of its own, which opens the connections over socket
pairs, both ends of one kind, and looks at its resident memory before and after. Only
the ratio of the medians means anything. The exit code is 1 if it is above 1.10.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import socket
import ssl
import statistics
import sys
from pathlib import Path
from typing import TypeAlias

import trio
import trustme

from trio_tlsdown import TLSStream

LIMIT = 1.10
NAME = "bench.example"
DESCRIPTORS_BESIDE = 100

Results: TypeAlias = "multiprocessing.SimpleQueue[float]"


def resident() -> int:
    """Bytes."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    ca = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(NAME).configure_cert(server)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.configure_trust(client)
    return client, server


async def hold(kind: type, count: int) -> float:
    """Bytes for each end of *count* connections."""
    client, server = contexts()
    held: list[object] = []

    async def connect() -> None:
        transports = [
            trio.SocketStream(trio.socket.from_stdlib_socket(end))
            for end in socket.socketpair()
        ]
        ours = kind(transports[0], client, server_hostname=NAME)
        theirs = kind(transports[1], server, server_side=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.do_handshake)
            nursery.start_soon(theirs.do_handshake)
        await theirs.send_all(b"x")  # and the session tickets
        await ours.receive_some(1)
        held.append((ours, theirs))

    await connect()  # what is made once
    before = resident()
    for _ in range(count):
        await connect()
    return (resident() - before) / (2 * count)


def measure(name: str, count: int, results: Results) -> None:
    wanted = 2 * count + DESCRIPTORS_BESIDE
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    kind = {"SSLStream": trio.SSLStream, "TLSStream": TLSStream}[name]
    results.put(trio.run(hold, kind, count))
    sys.stdout.flush()
    os._exit(0)  # closing all of it is not what is measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    sizes: dict[str, list[float]] = {"SSLStream": [], "TLSStream": []}
    for _ in range(options.rounds):
        for name, found in sizes.items():
            results = spawn.SimpleQueue()
            process = spawn.Process(
                target=measure, args=(name, options.connections, results)
            )
            process.start()
            found.append(results.get())
            process.join()
    medians = {name: statistics.median(found) for name, found in sizes.items()}
    ratio = medians["TLSStream"] / medians["SSLStream"]
    for name, size in medians.items():
        print(f"{name}  {size / 1024:6.1f} KiB a connection")
    print(f"ratio      {ratio:6.2f}")
    sys.exit(0 if ratio <= LIMIT else 1)


if __name__ == "__main__":
    main()
