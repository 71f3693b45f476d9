"""All that one run has found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .catalogue import Workload
from .metrics import Metric
from .spread import Summary, exponent, summarize
from .stacks import Stack
from .workloads.job import Job


@dataclass
class Outcome:
    """What became of one stack with one workload."""

    rounds: list[dict[str, float]] = field(default_factory=list)
    """The figures of each round, by the metric's name."""
    cannot: str | None = None
    failed: str | None = None
    repeated: int = 0
    """How many measurements were disturbed, and made again."""
    disturbed: list[str] = field(default_factory=list)
    """Why, of those that stayed disturbed and are among the rounds."""
    cut: int = 0
    """How many connections ended without close_notify."""

    @property
    def over(self) -> bool:
        return self.cannot is not None or self.failed is not None

    def summary(self, metric: str) -> Summary | None:
        if self.failed or not self.rounds:
            return None
        return summarize([figures[metric] for figures in self.rounds])

    @property
    def remarks(self) -> list[str]:
        found = []
        if self.cannot is not None:
            found.append(f"cannot: {self.cannot}")
        if self.failed is not None:
            found.append(f"failed: {self.failed}")
        if not self.rounds and not self.over:
            found.append("not measured")
        if self.cut:
            found.append("ends without close_notify")
        if self.repeated:
            found.append(f"{self.repeated} disturbed and repeated")
        if self.disturbed:
            found.append(f"{len(self.disturbed)} disturbed: {self.disturbed[0]}")
        return found


@dataclass
class Results:
    workloads: Sequence[Workload]
    stacks: Sequence[Stack]
    quick: bool
    rounds: int
    left_out: dict[str, str] = field(default_factory=dict)
    """Why, for each stack that is not installed."""
    versions: dict[str, str] = field(default_factory=dict)
    sessions: set[str] = field(default_factory=set)
    """What was negotiated in the measurements."""
    interrupted: bool = False
    outcomes: dict[tuple[str, str], Outcome] = field(default_factory=dict)
    """By workload and stack."""

    def __post_init__(self) -> None:
        for workload in self.workloads:
            for stack in self.stacks:
                if stack.only is None or workload.job.kind in stack.only:
                    self.outcomes[workload.name, stack.name] = Outcome()

    def job(self, workload: Workload) -> Job:
        return workload.quick if self.quick else workload.job

    def of(self, workload: Workload) -> Iterator[tuple[Stack, Outcome]]:
        for stack in self.stacks:
            outcome = self.outcomes.get((workload.name, stack.name))
            if outcome is not None:
                yield stack, outcome

    def median(self, workload: str, metric: str, stack: str) -> float | None:
        outcome = self.outcomes.get((workload, stack))
        summary = outcome and outcome.summary(metric)
        return summary.median if summary else None

    def ratio(
        self, workload: Workload, metric: Metric, stack: str, other: str
    ) -> float | None:
        """How many times the other's median it is."""
        value = self.median(workload.name, metric.name, stack)
        others = self.median(workload.name, metric.name, other)
        return value / others if value is not None and others else None

    def best(self, workload: Workload, metric: Metric) -> str | None:
        """The stack whose figure is the best one; yardsticks are none."""
        medians = {
            stack.name: median
            for stack in self.stacks
            if not stack.yardstick
            and (median := self.median(workload.name, metric.name, stack.name))
        }
        choose = max if metric.higher_is_better else min
        return choose(medians, key=lambda name: medians[name], default=None)

    def costs(self, kind: str, metric: str, stack: str) -> dict[int, float]:
        """What all connections together cost, by their number."""
        return {
            (count := self.job(workload).repeat): median * count
            for workload in self.workloads
            if workload.job.kind == kind
            and (median := self.median(workload.name, metric, stack))
            and median > 0
        }

    def exponent(self, kind: str, metric: str, stack: str) -> float | None:
        costs = self.costs(kind, metric, stack)
        if len(costs) < 2:
            return None
        return exponent(list(costs), list(costs.values()))

    def growing(self) -> list[tuple[str, Metric]]:
        """The kinds and metrics that are known for many numbers of connections."""
        found = {
            (workload.job.kind, metric): None
            for workload in self.workloads
            for metric in workload.metrics
            if metric.grows
        }
        return list(found)
