"""Results without a measurement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from benchmarks.catalogue import WORKLOADS
from benchmarks.clock import Lap
from benchmarks.measure import Measurement
from benchmarks.quiet import Disturbance
from benchmarks.results import Results
from benchmarks.runner import run
from benchmarks.stacks import STACKS, Stack
from benchmarks.workloads.job import Job

QUIET = Disturbance(foreign=0.0, steal=0.0)
LOUD = Disturbance(foreign=0.5, steal=0.0)


def measurement(
    seconds: float = 0.001, disturbance: Disturbance = QUIET, cut: int = 0
) -> Measurement:
    laps = [Lap(seconds, seconds / 2)] * 1000
    return Measurement(
        laps, disturbance, {"cut": cut}, "a session", 20480.0, "a version"
    )


class Scripted:
    """Gives, or raises, what it was given; the last one again and again."""

    def __init__(self, *found: Measurement | Exception) -> None:
        self._found = list(found)
        self.jobs: list[Job] = []
        self.commands: list[str] = []

    def measure(self, command: Sequence[str], job: Job) -> Measurement:
        self.jobs.append(job)
        self.commands += command
        found = self._found.pop(0) if len(self._found) > 1 else self._found[0]
        if isinstance(found, Exception):
            raise found
        return found


def stacks(*names: str) -> Iterator[Stack]:
    """As the real ones, but always installed; their command is their name."""
    for name in names or STACKS:
        yield replace(STACKS[name], prepare=partial(list[str], [name]))


def results(
    *workloads: str, names: Sequence[str] = (), quick: bool = False, rounds: int = 3
) -> Results:
    return Results(
        workloads=[WORKLOADS[name] for name in workloads or WORKLOADS],
        stacks=list(stacks(*names)),
        quick=quick,
        rounds=rounds,
    )


def measured(results: Results, bench: Scripted) -> Results:
    run(results, bench, lambda _: None)
    return results
