"""The results as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .catalogue import Workload
from .results import Outcome, Results
from .stacks import BASELINE
from .targets import TARGETS

FORMAT: Final = 2


def as_json(results: Results, machine: Mapping[str, str]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "machine": dict(machine),
        "sessions": sorted(results.sessions),
        "quick": results.quick,
        "interrupted": results.interrupted,
        "left_out": results.left_out,
        "versions": results.versions,
        "yardsticks": [stack.name for stack in results.stacks if stack.yardstick],
        "workloads": [_workload(results, workload) for workload in results.workloads],
        "growth": [
            {
                "kind": kind,
                "metric": metric.name,
                "unit": metric.unit,
                "stack": stack.name,
                "costs": {str(count): cost for count, cost in costs.items()},
                "exponent": results.exponent(kind, metric.name, stack.name),
            }
            for kind, metric in results.growing()
            for stack in results.stacks
            if len(costs := results.costs(kind, metric.name, stack.name)) > 1
        ],
        "targets": [
            {"target": str(target), "value": value, "met": target.met(value)}
            for target in TARGETS
            # A quick run only informs.
            if not results.quick and (value := target.value(results)) is not None
        ],
    }


def _workload(results: Results, workload: Workload) -> dict[str, Any]:
    job = results.job(workload)
    name = f"{workload.name}, reduced" if results.quick else workload.name
    return {
        "name": workload.name,
        "title": f"{name}: {workload.title.format(repeat=job.repeat)}",
        "clock": workload.clock,
        "job": {"repeat": job.repeat, "size": job.size, "piece": job.piece},
        "rounds": results.rounds,
        "headline": workload.headline.name,
        "stacks": {
            stack.name: _outcome(results, workload, stack.name, outcome)
            for stack, outcome in results.of(workload)
        },
    }


def _outcome(
    results: Results, workload: Workload, stack: str, outcome: Outcome
) -> dict[str, Any]:
    figures = {}
    for metric in workload.metrics:
        summary = outcome.summary(metric.name)
        if summary is not None:
            best = results.best(workload, metric)
            figures[metric.name] = {
                "unit": metric.unit,
                "higher_is_better": metric.higher_is_better,
                "median": summary.median,
                "quartiles": [summary.low, summary.high],
                "rounds": list(summary.values),
                "to_sslstream": results.ratio(workload, metric, stack, BASELINE),
                "to_best": best and results.ratio(workload, metric, stack, best),
            }
    return {
        "figures": figures,
        "remarks": outcome.remarks,
        "cannot": outcome.cannot,
        "failed": outcome.failed,
        "repeated": outcome.repeated,
        "disturbed": outcome.disturbed,
    }
