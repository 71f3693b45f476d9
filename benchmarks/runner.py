"""Rounds: each has every implementation, so that a drift concerns all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final, Protocol

from harness.build import BuildError, MissingError

from .catalogue import WORKLOADS, Workload
from .implementations import Implementation
from .measure import CannotError, Measurement, ProgramError
from .results import Outcome, Results
from .workloads.job import Job

REPEATS: Final = 2  # of a measurement that was disturbed

Emit = Callable[[str], object]


class Measures(Protocol):
    def measure(self, command: Sequence[str], job: Job) -> Measurement: ...


def run(
    results: Results,
    implementations: Sequence[Implementation],
    bench: Measures,
    emit: Emit,
) -> None:
    """Measure all that *results* has a place for.

    Args:
      results: What to measure; it is filled in.
      implementations: All that *results* names.
      bench: Measures once.
      emit: Called with a line of text about the progress.
    """
    commands = _prepare(results, implementations, emit)
    for name, outcomes in results.outcomes.items():
        workload, turns = WORKLOADS[name], list(outcomes.items())
        for number in range(results.rounds):
            first = number % len(turns) if turns else 0  # never the same one
            for implementation, outcome in turns[first:] + turns[:first]:
                if outcome.over:
                    continue
                emit(f"{name} {number + 1}/{results.rounds}: {implementation}")
                version = _measure(
                    bench, commands[implementation], workload, results, outcome, emit
                )
                if version:
                    results.versions[implementation] = version


def _prepare(
    results: Results, implementations: Sequence[Implementation], emit: Emit
) -> dict[str, Sequence[str]]:
    emit("preparing")
    commands = {}
    with ThreadPoolExecutor() as pool:  # compilers take their time
        futures = {each.name: pool.submit(each.prepare) for each in implementations}
    for name, future in futures.items():
        try:
            commands[name] = future.result()
        except (MissingError, BuildError) as exc:
            lines = str(exc).splitlines()
            reasons = [line for line in lines if "error" in line] or lines
            results.left_out[name] = reasons[0][:200]
            for outcomes in results.outcomes.values():
                outcomes.pop(name, None)
    return commands


def _measure(
    bench: Measures,
    command: Sequence[str],
    workload: Workload,
    results: Results,
    outcome: Outcome,
    emit: Emit,
) -> str | None:
    """Add a round to *outcome*; return the implementation's version."""
    job = results.job(workload.name)
    try:
        measurement = bench.measure(command, job)
        for _ in range(0 if results.quick else REPEATS):
            reason = measurement.disturbance.reason
            if reason is None:
                break
            outcome.repeated += 1
            emit(f"{workload.name}: disturbed, {reason}; again")
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
    counted = replace(measurement, samples=measurement.samples[workload.warm_up :])
    outcome.rounds.append(
        {metric.name: metric.of(counted, job) for metric in workload.metrics}
    )
    return measurement.version
