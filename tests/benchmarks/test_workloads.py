"""Each workload with each stack that has a Python interface, both ends in here."""

from __future__ import annotations

import importlib
import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from benchmarks.catalogue import WORKLOADS
from benchmarks.measure import Bench
from benchmarks.program import client, load, server
from benchmarks.workloads.far import Far, context_of
from benchmarks.workloads.hold import WARM_UP, clients
from benchmarks.workloads.job import Job
from benchmarks.workloads.send import RecordCounter

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
JOBS = [
    Job("receive", 2, 2**21),
    Job("receive", 2, 50_000, 2**14),
    Job("send", 2, 2**18, 2**16),
    Job("send", 2, 5120, 512),
    Job("ping-pong", 3),
    Job("shutdown", 2),
    Job("close", 2),
    Job("connect", 2),
    Job("half-close", 2, 1024),
]
CLIENTS = [
    pytest.param(peer, job, id=f"{job.kind}-{job.piece}-{peer}")
    for peer in PEERS
    for job in JOBS
    if peer != "bare_tlsstream" and job.kind not in load(peer).cannot
    if peer != "floor" or job.kind == "send"
]
SERVERS = [peer for peer in PEERS if load(peer).hold is not None]


@pytest.mark.parametrize(("peer", "job"), CLIENTS)
def test_a_client_gives_a_lap_for_each_repetition(
    peer: str, job: Job, bench: Bench
) -> None:
    workload = importlib.import_module(
        f"benchmarks.workloads.{job.kind.replace('-', '_')}"
    )
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        ThreadPoolExecutor(1) as pool,
    ):
        end = Far(listener, context_of(str(bench.certificate)))
        far = pool.submit(workload.far, end, job)
        port = listener.getsockname()[1]
        laps = client(load(peer), "127.0.0.1", port, str(bench.ca_file), job)
        far.result(10)
    assert len(laps) == job.repeat
    assert all(lap.seconds > 0 and lap.cpu >= 0 for lap in laps)
    assert {version for version, _ in end.sessions} == {"TLSv1.3"}
    # The blocking socket's close() sends none.
    assert end.endings["cut"] == 0 or peer == "ssl_socket"


class Orders:
    def __init__(self) -> None:
        self.port: Future[int] = Future()
        self.end = threading.Event()

    def listening(self, port: int) -> None:
        self.port.set_result(port)

    def wait_for_end(self) -> None:
        self.end.wait(10)


@pytest.mark.parametrize("peer", SERVERS)
def test_a_server_ends_all_its_connections_gracefully(peer: str, bench: Bench) -> None:
    orders = Orders()
    steps = []

    def step(count: int) -> None:
        steps.append(count)
        if len(steps) == 2:
            orders.end.set()

    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(
            server, load(peer), "127.0.0.1", str(bench.certificate), orders
        )
        port = orders.port.result(10)
        crowd = clients("127.0.0.1", port, str(bench.ca_file), 5, step)
        (lap,) = held.result(10)
    assert steps == [WARM_UP, 5]
    assert lap.seconds > 0
    assert crowd.endings == {"close_notify": WARM_UP + 5}


@pytest.mark.parametrize("peer", PEERS)
def test_what_a_stack_cannot_do_has_a_reason(peer: str) -> None:
    kinds = {workload.job.kind for workload in WORKLOADS.values()}
    assert kinds >= set(load(peer).cannot)
    assert all(load(peer).cannot.values())


def test_each_workload_says_what_is_in_the_clock() -> None:
    for workload in WORKLOADS.values():
        assert "in the clock" in workload.clock.lower()


def test_plaintext_is_counted_however_the_records_are_cut() -> None:
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
