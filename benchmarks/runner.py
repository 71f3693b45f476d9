"""Rounds: every stack has its turn in each, so that what drifts concerns all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from .catalogue import Workload
from .child import ProgramError
from .measure import CannotError, Measurement
from .results import Outcome, Results
from .stacks import MissingError
from .workloads.job import Job

REPEATS: Final = 2  # of a measurement that was disturbed

Tell = Callable[[str], object]


class Measures(Protocol):
    def measure(self, command: Sequence[str], job: Job) -> Measurement: ...


def run(results: Results, bench: Measures, tell: Tell) -> None:
    """Measure all that *results* asks for, and put it there.

    Args:
      results: What is asked for, and what is found.
      bench: Measures once.
      tell: Called with a line of text for what goes on.
    """
    commands = _prepare(results, tell)
    for workload in results.workloads:
        for number in range(results.rounds):
            turns = list(results.of(workload))
            # Who goes first is never the same.
            first = number % len(turns) if turns else 0
            for stack, outcome in turns[first:] + turns[:first]:
                if outcome.over:
                    continue
                tell(f"{workload.name} {number + 1}/{results.rounds}: {stack.name}")
                measurement = _measure(
                    bench,
                    commands[stack.name],
                    workload,
                    results.job(workload),
                    outcome,
                    0 if results.quick else REPEATS,
                    tell,
                )
                if measurement is not None:
                    results.sessions.add(measurement.session)
                    if measurement.version:
                        results.versions[stack.name] = measurement.version


def _prepare(results: Results, tell: Tell) -> dict[str, Sequence[str]]:
    tell("preparing")
    commands = {}
    with ThreadPoolExecutor() as pool:  # compilers take their time
        prepared = {stack.name: pool.submit(stack.prepare) for stack in results.stacks}
    for name, command in prepared.items():
        try:
            commands[name] = command.result()
        except MissingError as exc:
            results.left_out[name] = str(exc)
    results.stacks = [stack for stack in results.stacks if stack.name in commands]
    return commands


def _measure(
    bench: Measures,
    command: Sequence[str],
    workload: Workload,
    job: Job,
    outcome: Outcome,
    repeats: int,
    tell: Tell,
) -> Measurement | None:
    try:
        measurement = bench.measure(command, job)
        for _ in range(repeats):
            reason = measurement.disturbance.reason
            if reason is None:
                break
            outcome.repeated += 1
            tell(f"{workload.name}: disturbed, {reason}; again")
            measurement = bench.measure(command, job)
    except CannotError as exc:
        outcome.cannot = str(exc)
        return None
    except ProgramError as exc:
        outcome.failed = str(exc)
        return None
    if (reason := measurement.disturbance.reason) is not None:
        outcome.disturbed.append(reason)
    outcome.cut += measurement.endings.get("cut", 0)
    laps = measurement.laps[workload.warm_up :]
    outcome.rounds.append(
        {
            metric.name: metric.of(laps, job, measurement.memory or 0.0)
            for metric in workload.metrics
        }
    )
    return measurement
