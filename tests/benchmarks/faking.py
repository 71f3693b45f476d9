"""Results without a measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from benchmarks.catalogue import WORKLOADS
from benchmarks.implementations import IMPLEMENTATIONS, Implementation
from benchmarks.measure import Measurement
from benchmarks.quiet import Disturbance
from benchmarks.results import Outcome, Results
from benchmarks.runner import run
from benchmarks.sample import Sample
from benchmarks.workloads.job import Job

QUIET = Disturbance(foreign=0.0, steal=0.0)
LOUD = Disturbance(foreign=0.5, steal=0.0)


def measurement(
    seconds: float = 0.001, disturbance: Disturbance = QUIET, cut: int = 0
) -> Measurement:
    samples = [Sample(seconds, seconds / 2)] * 1000
    return Measurement(samples, disturbance, {"cut": cut}, 20480.0, "a version")


class Scripted:
    """Returns, or raises, what it was given; the last one again and again."""

    def __init__(self, *results: Measurement | Exception) -> None:
        self._results = list(results)
        self.jobs: list[Job] = []
        self.commands: list[str] = []

    def measure(self, command: Sequence[str], job: Job) -> Measurement:
        self.jobs.append(job)
        self.commands += command
        result = self._results.pop(0) if len(self._results) > 1 else self._results[0]
        if isinstance(result, Exception):
            raise result
        return result


def installed(*names: str) -> list[Implementation]:
    """As the real ones, but never missing; their command is their name."""
    return [
        replace(IMPLEMENTATIONS[name], prepare=partial(list[str], [name]))
        for name in names or IMPLEMENTATIONS
    ]


def measured(
    bench: Scripted,
    *workloads: str,
    names: Sequence[str] = (),
    quick: bool = False,
    rounds: int = 3,
) -> Results:
    """All of these implementations, if no names are given."""
    implementations = installed(*names)
    outcomes = {
        workload: {
            each.name: Outcome()
            for each in implementations
            if each.only in {None, WORKLOADS[workload].job.kind}
        }
        for workload in workloads or WORKLOADS
    }
    results = Results({"kernel": "none"}, outcomes, rounds, quick=quick)
    run(results, implementations, bench, lambda _: None)
    return results
