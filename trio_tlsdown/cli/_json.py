"""The results of the demo, for programs."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import attrs

from trio_tlsdown import ShutdownReport

from ._expected import EXPECTED, differences
from ._scenarios import ScenarioRun
from ._stage import SIDES


def as_json(runs: Sequence[ScenarioRun]) -> dict[str, object]:
    """All that was seen, in terms that JSON has."""
    return {
        "ok": not any(differences(run) for run in runs),
        "runs": [_run(run) for run in runs],
    }


def _run(run: ScenarioRun) -> dict[str, object]:
    found = differences(run)
    return {
        "scenario": int(run.scenario.number),
        "variant": run.scenario.name[1:] or None,
        "title": run.scenario.title,
        "tls": run.version,
        "ok": not found,
        "differences": found,
        "parties": [
            {
                "party": party,
                "side": SIDES[party],
                "port": run.ports[party],
                "report": _report(report),
                "expected": attrs.asdict(
                    EXPECTED[run.scenario.name, party], value_serializer=_plain
                ),
            }
            for party, report in run.reports.items()
        ],
        "events": [
            {
                "ms": round((event.time - run.began) * 1000, 3),
                "side": event.side,
                "kind": event.kind.value,
                "size": event.size,
            }
            for event in run.events
        ],
    }


def _report(report: ShutdownReport) -> dict[str, object]:
    return {
        **attrs.asdict(report, value_serializer=_plain),
        "secure": report.secure,
        "peer_data_complete": report.peer_data_complete,
    }


def _plain(_: object, __: object, value: object) -> object:
    match value:
        case enum.Enum():
            return value.value
        case BaseException():
            return f"{type(value).__name__}: {value}"
        case _:
            return value
