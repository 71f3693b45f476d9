"""What trio_tlsdown promises: ratios of medians in one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from .implementations import BARE, BASELINE, OURS
from .results import Results


@dataclass(frozen=True)
class Target:
    workload: str
    metric: str
    sign: Literal["<=", ">="]
    limit: float
    against: str = BASELINE
    """An implementation."""
    of: str | None = None
    """The workload of *against*; None: the same."""

    def __str__(self) -> str:
        limit = f"{self.metric} {self.sign} {self.limit:g}"
        other = f"{self.against}'s {self.of}" if self.of else self.against
        return f"{self.workload}: {limit} x {other}"

    def value(self, results: Results) -> float | None:
        """None: it was not measured."""
        ours = results.median(self.workload, self.metric, OURS)
        theirs = results.median(self.of or self.workload, self.metric, self.against)
        return ours / theirs if ours is not None and theirs else None

    def met(self, value: float) -> bool:
        return value <= self.limit if self.sign == "<=" else value >= self.limit


class Growth(Target):
    """Of a kind of workload: the exponent over the number of connections."""

    def __str__(self) -> str:
        return f"{self.workload}: {self.metric} of all grows with exponent <= {self.limit:g}"

    def value(self, results: Results) -> float | None:
        return results.exponent(self.workload, self.metric, OURS)


TARGETS: Final = (
    Target("shutdown", "p50", "<=", 0.97),
    Target("close", "p50", "<=", 1.0),
    Target("abort", "cpu", "<=", 0.5, OURS, of="close"),
    Target("connect", "cpu", "<=", 0.92),
    # What resumption saves: SSLStream can resume as well, with a line of code.
    Target("connect-resumed", "cpu", "<=", 0.65, of="connect"),
    Target("receive", "rate", ">=", 2.2),
    Target("receive", "rate", ">=", 1.1, "uvloop"),
    Target("receive-16k", "rate", ">=", 1.5),
    Target("send-64k", "rate", ">=", 1.35),
    Target("send-4k", "rate", ">=", 2.2),
    Target("send-512", "rate", ">=", 2.3),
    Target("ping-pong", "p50", "<=", 0.5),
    Target("echo-300", "cpu", "<=", 0.6),
    Target("echo-300", "cpu", "<=", 1.5, "asyncio"),
    Target("echo-1000", "p99", "<=", 0.6),
    Target("burst", "longest", "<=", 0.15),
    Target("burst", "longest", "<=", 0.15, "uvloop"),
    Target("drain-1000", "memory", "<=", 1.03),
    Target("drain-10000", "memory", "<=", 1.03),
    Target("drain-10000", "cpu", "<=", 1.1, BARE),
    Growth("drain", "cpu", "<=", 1.08),
)


def compared(results: Results) -> list[tuple[Target, float]]:
    """The targets that were measured. A quick run is too short for any."""
    if results.quick:
        return []
    values = [(target, target.value(results)) for target in TARGETS]
    return [(target, value) for target, value in values if value is not None]
