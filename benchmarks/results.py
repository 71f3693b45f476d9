"""The results of a run."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .catalogue import WORKLOADS, Metric, percentile
from .implementations import IMPLEMENTATIONS
from .workloads.job import Job


@dataclass
class Outcome:
    """What one implementation did with one workload."""

    rounds: list[dict[str, float]] = field(default_factory=list)
    """The metrics of each round, by name."""
    cannot: str | None = None
    failed: str | None = None
    repeated: int = 0
    """How many measurements were disturbed, and repeated."""
    disturbed: list[str] = field(default_factory=list)
    """Why, for those that stayed disturbed and are among the rounds."""
    cut: int = 0
    """How many connections ended without close_notify."""

    @property
    def over(self) -> bool:
        return self.cannot is not None or self.failed is not None

    def quartiles(self, metric: str) -> tuple[float, float, float] | None:
        """The first, the median, and the third, over the rounds."""
        if self.failed or not self.rounds:
            return None
        values = [round_[metric] for round_ in self.rounds]
        first, median, third = (percentile(values, each) for each in (25, 50, 75))
        return first, median, third

    @property
    def notes(self) -> list[str]:
        notes = []
        if self.cannot is not None:
            notes.append(f"cannot: {self.cannot}")
        if self.failed is not None:
            notes.append(f"failed: {self.failed}")
        if not self.rounds and not self.over:
            notes.append("not measured")
        if self.cut:
            notes.append("ends without close_notify")
        if self.repeated:
            notes.append(f"{self.repeated} disturbed and repeated")
        if self.disturbed:
            notes.append(f"{len(self.disturbed)} disturbed: {self.disturbed[0]}")
        return notes


@dataclass
class Results:
    machine: dict[str, str]
    outcomes: dict[str, dict[str, Outcome]]
    """By workload and implementation."""
    rounds: int
    quick: bool = False
    interrupted: bool = False
    left_out: dict[str, str] = field(default_factory=dict)
    """Why, for each implementation that is not installed."""
    versions: dict[str, str] = field(default_factory=dict)

    def job(self, workload: str) -> Job:
        known = WORKLOADS[workload]
        return known.quick if self.quick else known.job

    def median(self, workload: str, metric: str, implementation: str) -> float | None:
        outcome = self.outcomes.get(workload, {}).get(implementation)
        quartiles = outcome and outcome.quartiles(metric)
        return quartiles[1] if quartiles else None

    def ratio(
        self, workload: str, metric: str, implementation: str, other: str
    ) -> float | None:
        """How many times the other's median it is."""
        value = self.median(workload, metric, implementation)
        others = self.median(workload, metric, other)
        return value / others if value is not None and others else None

    def best(self, workload: str, metric: Metric) -> str | None:
        """The implementation with the best median; yardsticks do not compete."""
        medians = {
            name: median
            for name in self.outcomes[workload]
            if not (name in IMPLEMENTATIONS and IMPLEMENTATIONS[name].yardstick)
            if (median := self.median(workload, metric.name, name))
        }
        choose = max if metric.higher_is_better else min
        return choose(medians, key=medians.__getitem__, default=None)

    def exponent(self, kind: str, metric: str, implementation: str) -> float | None:
        """How the cost of all connections together grows with their number: 1 is linear.

        The slope of one over the other, both logarithmic. None: unknown.
        """
        costs = {
            (count := self.job(workload).connections): median * count
            for workload in self.outcomes
            if WORKLOADS[workload].job.kind == kind
            if (median := self.median(workload, metric, implementation) or 0) > 0
        }
        if len(costs) < 2:
            return None
        counts, totals = map(math.log, costs), map(math.log, costs.values())
        return float(statistics.linear_regression(list(counts), list(totals)).slope)


def save(results: Results, file: Path) -> None:
    file.write_text(json.dumps(asdict(results), indent=1) + "\n", "utf-8")


def load(file: Path) -> Results:
    """Read what `save` wrote.

    Raises:
      ValueError: The file is not of that form, or cannot be read.
    """
    try:
        data = json.loads(file.read_text("utf-8"))
        for name, outcomes in data["outcomes"].items():
            WORKLOADS[name]  # an older one is not known any more
            data["outcomes"][name] = {key: Outcome(**outcomes[key]) for key in outcomes}
        return Results(**data)
    except (OSError, LookupError, TypeError, ValueError, AttributeError) as exc:
        raise ValueError(f"{file} is no file that --json wrote") from exc
