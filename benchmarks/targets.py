"""What trio_tlsdown promises: ratios of medians in one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from .results import Results
from .stacks import BARE, BASELINE, OURS


@dataclass(frozen=True)
class Target:
    workload: str
    metric: str
    against: str
    """A stack; or "growth": then the exponent over the number of connections."""
    sign: Literal["<=", ">="]
    limit: float

    def __str__(self) -> str:
        what = f"{self.workload}: {self.metric} {self.sign} {self.limit:g}"
        return what if self.against == GROWTH else f"{what} x {self.against}"

    def value(self, results: Results) -> float | None:
        """None: it was not measured."""
        if self.against == GROWTH:
            return results.exponent(self.workload, self.metric, OURS)
        ours = results.median(self.workload, self.metric, OURS)
        theirs = results.median(self.workload, self.metric, self.against)
        return ours / theirs if ours is not None and theirs else None

    def met(self, value: float) -> bool:
        return value <= self.limit if self.sign == "<=" else value >= self.limit


GROWTH: Final = "growth"

TARGETS: Final = (
    Target("receive", "rate", BASELINE, ">=", 1.7),
    Target("receive", "rate", "uvloop", ">=", 1.1),
    Target("send-64k", "rate", BASELINE, ">=", 1.3),
    Target("send-4k", "rate", BASELINE, ">=", 1.8),
    Target("send-512", "rate", BASELINE, ">=", 1.8),
    Target("ping-pong", "p50", BASELINE, "<=", 0.85),
    Target("shutdown", "p50", BASELINE, "<=", 1.0),
    Target("close", "p50", BASELINE, "<=", 1.3),
    Target("connect", "cpu", BASELINE, "<=", 1.0),
    Target("hold-1000", "memory", BASELINE, "<=", 1.1),
    Target("hold-10000", "end cpu", BARE, "<=", 1.1),
    Target("hold-10000", "memory", BASELINE, "<=", 1.05),
    Target("hold", "end cpu", GROWTH, "<=", 1.1),
)
