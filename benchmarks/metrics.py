"""The figures that come of a measurement."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from .clock import Lap
from .spread import percentile
from .workloads.hold import WARM_UP
from .workloads.job import Job

MEBIBYTE: Final = 2**20
MICRO: Final = 1e6


@dataclass(frozen=True)
class Metric:
    name: str
    unit: str
    of: Callable[[Sequence[Lap], Job, float], float]
    """From the laps behind the warm-up, the job, and the bytes of a connection."""
    higher_is_better: bool = False
    grows: bool = False
    """Of each connection: what it is for all of them shows how it grows."""


def _p50(laps: Sequence[Lap], _: Job, __: float) -> float:
    return MICRO * percentile([lap.seconds for lap in laps], 50)


def _p99(laps: Sequence[Lap], _: Job, __: float) -> float:
    return MICRO * percentile([lap.seconds for lap in laps], 99)


def _cpu(laps: Sequence[Lap], _: Job, __: float) -> float:
    return MICRO * statistics.fmean(lap.cpu for lap in laps)


def _rate(laps: Sequence[Lap], job: Job, _: float) -> float:
    return job.size / MEBIBYTE / statistics.median(lap.seconds for lap in laps)


def _cpu_of_mebibyte(laps: Sequence[Lap], job: Job, _: float) -> float:
    return MICRO * statistics.median(lap.cpu for lap in laps) / (job.size / MEBIBYTE)


def _connections(laps: Sequence[Lap], _: Job, __: float) -> float:
    return 1 / statistics.fmean(lap.seconds for lap in laps)


def _end_cpu(laps: Sequence[Lap], job: Job, _: float) -> float:
    return MICRO * laps[0].cpu / (job.repeat + WARM_UP)


def _end_wall(laps: Sequence[Lap], job: Job, _: float) -> float:
    return MICRO * laps[0].seconds / (job.repeat + WARM_UP)


def _memory(_: Sequence[Lap], __: Job, memory: float) -> float:
    return memory / 1024


LATENCY: Final = (
    Metric("p50", "µs", _p50),
    Metric("p99", "µs", _p99),
    Metric("cpu", "µs", _cpu),
)
BULK: Final = (
    Metric("rate", "MiB/s", _rate, higher_is_better=True),
    Metric("cpu", "µs/MiB", _cpu_of_mebibyte),
)
CONNECTIONS: Final = (
    Metric("cpu", "µs", _cpu),
    Metric("rate", "1/s", _connections, higher_is_better=True),
)
HELD: Final = (
    Metric("end cpu", "µs each", _end_cpu, grows=True),
    Metric("end wall", "µs each", _end_wall, grows=True),
    Metric("memory", "KiB each", _memory, grows=True),
)
