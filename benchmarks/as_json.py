"""The results as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .catalogue import Workload
from .measure import SESSION
from .results import Outcome, Results
from .stacks import BASELINE
from .targets import TARGETS

FORMAT: Final = 1


def as_json(results: Results, machine: Mapping[str, str]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "machine": dict(machine),
        "session": list(SESSION),
        "quick": results.quick,
        "rounds": results.rounds,
        "left_out": results.left_out,
        "versions": results.versions,
        "workloads": [
            _workload(results, workload) for workload in results.workloads
        ],
        "growth": [
            {
                "kind": kind,
                "metric": metric,
                "stack": stack.name,
                "costs": {str(count): cost for count, cost in costs.items()},
                "exponent": results.exponent(kind, metric, stack.name),
            }
            for kind, metric in results.growing()
            for stack in results.stacks
            if len(costs := results.costs(kind, metric, stack.name)) > 1
        ],
        "targets": [
            {
                "target": str(target),
                "value": value,
                "met": None if value is None else target.met(value),
            }
            for target in TARGETS
            for value in [target.value(results)]
        ],
    }


def _workload(results: Results, workload: Workload) -> dict[str, Any]:
    job = results.job(workload)
    return {
        "name": workload.name,
        "title": workload.title,
        "clock": workload.clock,
        "job": {"repeat": job.repeat, "size": job.size, "piece": job.piece},
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
            figures[metric.name] = {
                "unit": metric.unit,
                "higher_is_better": metric.higher_is_better,
                "median": summary.median,
                "quartiles": [summary.low, summary.high],
                "rounds": list(summary.values),
                "as_good_as_sslstream": results.gain(workload, metric, stack, BASELINE),
                "as_good_as_the_best": results.gain(workload, metric, stack, None),
            }
    return {
        "figures": figures,
        "remarks": outcome.remarks,
        "cannot": outcome.cannot,
        "failed": outcome.failed,
        "repeated": outcome.repeated,
        "disturbed": outcome.disturbed,
    }
