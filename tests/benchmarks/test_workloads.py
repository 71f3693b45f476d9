"""Each workload with each implementation in Python, both ends in this process."""

from __future__ import annotations

import os
import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from benchmarks.catalogue import WORKLOADS
from benchmarks.measure import Bench
from benchmarks.program import client, server
from benchmarks.workloads import module_of
from benchmarks.workloads.crowd import WARM_UP, Crowd, context_of as client_context
from benchmarks.workloads.job import Job
from benchmarks.workloads.send import RecordCounter
from benchmarks.workloads.server import Server, context_of as server_context
from harness.peers import load

PEERS = [
    "tlsdown",
    "sslstream",
    "anyio_streams:ON_TRIO",
    "anyio_streams:ON_ASYNCIO",
    "asyncio_protocols",
    "uvloop_protocols",
    "ssl_socket",
    "bare_tlsstream",
    "floor",
]
CLIENT_JOBS = [
    Job(kind="receive", repeat=2, size=2**21),
    Job(kind="receive", repeat=2, size=50_000, piece=2**14),
    Job(kind="send", repeat=2, size=2**18, piece=2**16),
    Job(kind="send", repeat=2, size=5120, piece=512),
    Job(kind="ping-pong", repeat=3),
    Job(kind="shutdown", repeat=2),
    Job(kind="close", repeat=2),
    Job(kind="abort", repeat=2),
    Job(kind="connect", repeat=2),
    Job(kind="connect-resumed", repeat=2),
    Job(kind="half-close", repeat=2, size=1024),
]
SERVER_JOBS = [
    Job(kind="echo", connections=3, repeat=4, size=64),
    Job(kind="accept", connections=3),
    Job(kind="burst", connections=3),
    Job(kind="drain", connections=3),
]
# Our own does each job in `make test`, and each peer does one.
CLIENTS = [
    pytest.param(
        *(peer, job),
        id=f"{job.kind}-{job.piece}-{peer}",
        marks=[pytest.mark.long] * (peer != "tlsdown" and job.kind != "send"),
    )
    for peer in PEERS
    for job in CLIENT_JOBS
    if load(peer).connect is not None and job.kind not in load(peer).cannot
    if peer != "floor" or job.kind == "send"
]
SERVERS = [
    pytest.param(
        *(peer, job),
        id=f"{job.kind}-{peer}",
        marks=[pytest.mark.long] * (peer != "tlsdown" and job.kind != "echo"),
    )
    for peer in PEERS
    for job in SERVER_JOBS
    if load(peer).serve is not None
]


@pytest.mark.parametrize(("peer", "job"), CLIENTS)
def test_a_client_takes_a_sample_for_each_repetition(
    peer: str, job: Job, bench: Bench
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        ThreadPoolExecutor(1) as pool,
    ):
        end = Server(listener, server_context(str(bench.certificate)))
        serving = pool.submit(module_of(job.kind).serve, end, job)
        port = listener.getsockname()[1]
        samples = client(load(peer), "127.0.0.1", port, str(bench.ca_file), job)
        serving.result(10)
    assert len(samples) == job.repeat
    assert all(sample.seconds > 0 and sample.cpu >= 0 for sample in samples)
    assert {version for version, _ in end.sessions} == {"TLSv1.3"}
    # The blocking socket's close() sends no close_notify.
    assert end.endings["cut"] == 0 or peer == "ssl_socket"
    assert end.endings["aborted"] == (job.repeat if job.kind == "abort" else 0)


class Control:
    def __init__(self) -> None:
        self.port: Future[int] = Future()
        self.stop = threading.Event()

    def listening(self, port: int) -> None:
        self.port.set_result(port)

    def wait_for_stop(self) -> None:
        self.stop.wait(10)


@pytest.mark.parametrize(("peer", "job"), SERVERS)
def test_a_server_serves_the_crowd_and_ends_all_its_connections_gracefully(
    peer: str, job: Job, bench: Bench
) -> None:
    control = Control()
    context = client_context(str(bench.ca_file))
    with ThreadPoolExecutor(1) as pool:
        try:
            serving = pool.submit(
                server, load(peer), "127.0.0.1", str(bench.certificate), control
            )
            crowd = Crowd("127.0.0.1", control.port.result(10), context, os.getpid())
            samples = module_of(job.kind).run(crowd, job)
        finally:
            control.stop.set()
        crowd.answer_closes()
        (drain,) = serving.result(10)
    assert drain.seconds > 0
    least = {"echo": 9, "accept": 1, "burst": 1, "drain": 0}[job.kind]
    assert len(samples) >= least
    assert all(sample.seconds > 0 for sample in samples)
    assert all(sample.cpu > 0 or job.kind == "burst" for sample in samples)
    assert {version for version, _ in crowd.sessions} == {"TLSv1.3"}
    left = {"echo": 3, "accept": WARM_UP, "burst": WARM_UP + 3, "drain": WARM_UP + 3}
    assert crowd.endings == {"close_notify": left[job.kind]}
    assert (crowd.memory is None) == (job.kind != "drain")


@pytest.mark.parametrize("peer", PEERS)
def test_an_implementation_says_why_it_cannot_do_a_workload(peer: str) -> None:
    kinds = {workload.job.kind for workload in WORKLOADS.values()}
    assert {*kinds, "client", "server"} >= set(load(peer).cannot)
    assert all(load(peer).cannot.values())


def test_each_workload_says_what_is_timed() -> None:
    for workload in WORKLOADS.values():
        assert "Timed: " in (module_of(workload.job.kind).__doc__ or "").replace(
            "\n", " "
        )


def test_plaintext_is_counted_wherever_the_records_are_split() -> None:
    records = b"".join(
        bytes([23, 3, 3]) + (size + 17).to_bytes(2, "big") + bytes(size + 17)
        for size in (1, 512, 4096, 1)
    )
    for step in (1, 3, 7, 536, len(records)):
        counter = RecordCounter()
        for start in range(0, len(records), step):
            counter.feed(records[start : start + step])
        assert counter.plaintext == 4610
        assert counter.at_boundary
    cut = RecordCounter()
    cut.feed(records[:3])
    assert not cut.at_boundary
