"""The workloads: what is done, how often, and which figures come of it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from .metrics import BULK, CONNECTIONS, HELD, LATENCY, Metric
from .workloads.job import Job

MEBIBYTE: Final = 2**20


@dataclass(frozen=True)
class Workload:
    name: str
    title: str
    metrics: tuple[Metric, ...]
    """The first one is the headline."""
    job: Job
    quick: Job
    warm_up: int
    """How many laps at the beginning do not count."""

    @property
    def headline(self) -> Metric:
        return self.metrics[0]

    @property
    def clock(self) -> str:
        """What it does, and what is in the clock."""
        module = importlib.import_module(
            f".workloads.{self.job.kind.replace('-', '_')}", __package__
        )
        assert module.__doc__ is not None
        return module.__doc__.strip()


def _bulk(
    name: str, title: str, kind: str, size: int, quick: int, piece: int
) -> Workload:
    return Workload(
        name=name,
        title=title,
        metrics=BULK,
        job=Job(kind, 6, size, piece),
        quick=Job(kind, 2, quick, piece),
        warm_up=1,
    )


def _hold(connections: int, quick: int) -> Workload:
    return Workload(
        name=f"hold-{connections}",
        title="{repeat:,} idle connections of a server, and the end of them all",
        metrics=HELD,
        job=Job("hold", connections),
        quick=Job("hold", quick),
        warm_up=0,
    )


_ALL: Final = (
    Workload(
        name="shutdown",
        title="graceful shutdown of an idle connection",
        metrics=LATENCY,
        job=Job("shutdown", 420, one_core=True),
        quick=Job("shutdown", 60, one_core=True),
        warm_up=20,
    ),
    Workload(
        name="close",
        title="close of an idle connection, all acknowledged",
        metrics=LATENCY,
        job=Job("close", 420, one_core=True),
        quick=Job("close", 60, one_core=True),
        warm_up=20,
    ),
    Workload(
        name="half-close",
        title="request, half-close, answer of 1 KiB",
        metrics=LATENCY,
        job=Job("half-close", 420, 1024, one_core=True),
        quick=Job("half-close", 60, 1024, one_core=True),
        warm_up=20,
    ),
    Workload(
        name="connect",
        title="connect, exchange a byte, close",
        metrics=CONNECTIONS,
        job=Job("connect", 420, one_core=True),
        quick=Job("connect", 60, one_core=True),
        warm_up=20,
    ),
    _bulk("receive", "receive, reads of the default size", "receive",
          64 * MEBIBYTE, 16 * MEBIBYTE, 0),
    _bulk("receive-16k", "receive, reads of 16 KiB", "receive",
          64 * MEBIBYTE, 16 * MEBIBYTE, 2**14),
    _bulk("send-64k", "send, pieces of 64 KiB", "send",
          64 * MEBIBYTE, 16 * MEBIBYTE, 2**16),
    _bulk("send-16k", "send, pieces of 16 KiB", "send",
          32 * MEBIBYTE, 8 * MEBIBYTE, 2**14),
    _bulk("send-4k", "send, pieces of 4 KiB", "send",
          16 * MEBIBYTE, 4 * MEBIBYTE, 2**12),
    _bulk("send-512", "send, pieces of 512 bytes", "send",
          4 * MEBIBYTE, MEBIBYTE, 2**9),
    Workload(
        name="ping-pong",
        title="one byte there and back",
        metrics=LATENCY,
        job=Job("ping-pong", 6000, one_core=True),
        quick=Job("ping-pong", 1000, one_core=True),
        warm_up=300,
    ),
    _hold(1000, 100),
    _hold(10000, 400),
)  # fmt: skip

WORKLOADS: Final[Mapping[str, Workload]] = {each.name: each for each in _ALL}
