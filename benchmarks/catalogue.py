"""The workloads: what is done, how often, and the metrics."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .measure import Measurement
from .workloads.job import Job

MEBIBYTE: Final = 2**20
MICRO: Final = 1e6


@dataclass(frozen=True)
class Metric:
    name: str
    unit: str
    of: Callable[[Measurement, Job], float]
    higher_is_better: bool = False


@dataclass(frozen=True)
class Workload:
    name: str
    title: str
    metrics: tuple[Metric, ...]
    """The first one is the headline."""
    job: Job
    quick: Job
    warm_up: int = 0
    """How many samples at the beginning do not count."""


def percentile(values: Sequence[float], percent: int) -> float:
    """By linear interpolation, also of one value only."""
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def _percentile(percent: int) -> Callable[[Measurement, Job], float]:
    def of(run: Measurement, _: Job) -> float:
        return MICRO * percentile([s.seconds for s in run.samples], percent)

    return of


def _cpu(run: Measurement, _: Job) -> float:
    return MICRO * statistics.fmean(sample.cpu for sample in run.samples)


def _wall(run: Measurement, _: Job) -> float:
    return MICRO * statistics.fmean(sample.seconds for sample in run.samples)


def _throughput(run: Measurement, job: Job) -> float:
    seconds = statistics.median(sample.seconds for sample in run.samples)
    return job.size / MEBIBYTE / seconds


def _cpu_of_mebibyte(run: Measurement, job: Job) -> float:
    cpu = statistics.median(sample.cpu for sample in run.samples)
    return MICRO * cpu / (job.size / MEBIBYTE)


def _rate(run: Measurement, job: Job) -> float:
    """Each connection of a server has one message under way at any time."""
    at_once = max(1, job.connections)
    return at_once / statistics.fmean(sample.seconds for sample in run.samples)


def _connections(run: Measurement, _: Job) -> float:
    return 1 / statistics.fmean(sample.seconds for sample in run.samples)


def _longest(run: Measurement, _: Job) -> float:
    return 1000 * max(sample.seconds for sample in run.samples)


def _memory(run: Measurement, _: Job) -> float:
    return (run.memory or 0.0) / 1024


P50: Final = Metric("p50", "µs", _percentile(50))
P99: Final = Metric("p99", "µs", _percentile(99))
CPU: Final = Metric("cpu", "µs", _cpu)

LATENCY: Final = (P50, P99, CPU)
BULK: Final = (
    Metric("rate", "MiB/s", _throughput, higher_is_better=True),
    Metric("cpu", "µs/MiB", _cpu_of_mebibyte),
)
CONNECTIONS: Final = (CPU, Metric("rate", "1/s", _connections, higher_is_better=True))
ECHO: Final = (CPU, Metric("rate", "1/s", _rate, higher_is_better=True), P50, P99)
BURST: Final = (Metric("longest", "ms", _longest),)
DRAIN: Final = (
    CPU,
    Metric("wall", "µs", _wall),
    Metric("memory", "KiB", _memory),
)


def _step(kind: str, title: str, size: int = 1) -> Workload:
    """One step in the life of a connection."""
    return Workload(
        name=kind,
        title=title,
        metrics=CONNECTIONS if kind.startswith("connect") else LATENCY,
        job=Job(kind=kind, repeat=420, size=size, one_core=True),
        quick=Job(kind=kind, repeat=60, size=size, one_core=True),
        warm_up=20,
    )


def _bulk(name: str, title: str, mebibytes: int, piece: int) -> Workload:
    kind, size = name.partition("-")[0], mebibytes * MEBIBYTE
    return Workload(
        name=name,
        title=title,
        metrics=BULK,
        job=Job(kind=kind, repeat=6, size=size, piece=piece),
        quick=Job(kind=kind, repeat=2, size=size // 4, piece=piece),
        warm_up=1,
    )


def _echo(connections: int, messages: int) -> Workload:
    return Workload(
        name=f"echo-{connections}",
        title=f"{connections:,} connections of a server, a message of 64 B under way on each",
        metrics=ECHO,
        job=Job(kind="echo", repeat=messages, size=64, connections=connections),
        quick=Job(kind="echo", repeat=40, size=64, connections=connections // 10),
    )


def _drain(connections: int, quick: int) -> Workload:
    return Workload(
        name=f"drain-{connections}",
        title=f"{connections:,} idle connections of a server, and its drain; all for each",
        metrics=DRAIN,
        job=Job(kind="drain", connections=connections),
        quick=Job(kind="drain", connections=quick),
    )


_ALL: Final = (
    _step("shutdown", "graceful shutdown of an idle connection"),
    _step("close", "close of an idle connection, all acknowledged"),
    _step("abort", "abort of the same connection"),
    _step("half-close", "request, half-close, answer of 1 KiB", 1024),
    _step("connect", "connect, exchange a byte, close"),
    _step("connect-resumed", "the same, resuming a session"),
    _bulk("receive", "receive, reads of the default size", 64, 0),
    _bulk("receive-16k", "receive, reads of 16 KiB", 64, 2**14),
    _bulk("send-64k", "send, pieces of 64 KiB", 64, 2**16),
    _bulk("send-16k", "send, pieces of 16 KiB", 32, 2**14),
    _bulk("send-4k", "send, pieces of 4 KiB", 16, 2**12),
    _bulk("send-512", "send, pieces of 512 bytes", 4, 2**9),
    Workload(
        name="ping-pong",
        title="one byte there and back",
        metrics=LATENCY,
        job=Job(kind="ping-pong", repeat=6000, one_core=True),
        quick=Job(kind="ping-pong", repeat=1000, one_core=True),
        warm_up=300,
    ),
    _echo(300, 40),
    _echo(1000, 20),
    Workload(
        name="accept",
        title="connections that a server accepts and that their clients end",
        metrics=CONNECTIONS,
        job=Job(kind="accept", connections=600),
        quick=Job(kind="accept", connections=100),
    ),
    Workload(
        name="burst",
        title="an established echo beside 300 handshakes at once",
        metrics=BURST,
        job=Job(kind="burst", connections=300),
        quick=Job(kind="burst", connections=50),
    ),
    _drain(1000, 100),
    _drain(10000, 400),
)

WORKLOADS: Final[Mapping[str, Workload]] = {each.name: each for each in _ALL}
