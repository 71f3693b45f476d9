"""The results of the demo: a table to read, or JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich import box
from rich.table import Table
from rich.text import Text

from trio_tlsdown import ShutdownReport

from ._expected import EXPECTED, Ending, differences
from ._scenarios import ScenarioRun
from ._stage import SIDES, Party

HEADS: Final = (
    "Scenario",
    "TLS",
    "Party",
    "Outcome",
    "Secure",
    "Boost.Asio then",
    "and now",
)
# As SIMPLE_HEAD: rich would put bars in its place.
ASCII_HEAD: Final = box.Box(str(box.SIMPLE_HEAD).replace("─", "-"), ascii=True)
NOTE: Final = """
The last two columns: what async_shutdown gives that party in Boost.Asio, then
(1.55 and 1.56) and now (measured with 1.74 and 1.81, OpenSSL 3.0.19). Now 4b is
A closing its transport while async_shutdown waits; by the way of then, a write
behind the shutdown, a client that has just done a TLS 1.3 handshake can get
bad_descriptor. An error code does not tell whether the ending was secure; which
close_notify alerts crossed does.
"""


def results_table(runs: Sequence[ScenarioRun], *, ascii_only: bool) -> Table:
    """What was seen in each run, beside what Boost.Asio says of such an ending."""
    table = Table(
        *HEADS,
        box=ASCII_HEAD if ascii_only else box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    table.padding = (0, 1, 0, 0)
    for column in table.columns:
        column.no_wrap = True
    for run in runs:
        wrong = bool(differences(run))
        for party, report in run.reports.items():
            ending = EXPECTED[run.scenario.name, party]
            table.add_row(
                run.scenario.name,
                run.version,
                party,
                report.outcome.name,
                Text("yes", "green") if report.secure else Text("no", "yellow"),
                ending.boost_then,
                ending.boost_now,
                style="red" if wrong else None,
            )
    return table


def as_json(runs: Sequence[ScenarioRun]) -> dict[str, object]:
    """All that was seen, in terms that JSON has."""
    return {
        "ok": not any(differences(run) for run in runs),
        "runs": [_run(run) for run in runs],
    }


def _run(run: ScenarioRun) -> dict[str, object]:
    found = differences(run)
    return {
        "scenario": run.scenario.number,
        "variant": run.scenario.variant,
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
                "expected": _expected(run.scenario.name, party),
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
    error = report.error
    return {
        "outcome": report.outcome.value,
        "secure": report.secure,
        "close_notify_sent": report.close_notify_sent,
        "close_notify_received": report.close_notify_received,
        "first": report.first,
        "peer_data_complete": report.peer_data_complete,
        "discarded": report.discarded,
        "elapsed": report.elapsed,
        "error": None if error is None else f"{type(error).__name__}: {error}",
    }


def _expected(scenario: str, party: Party) -> dict[str, object]:
    ending: Ending = EXPECTED[scenario, party]
    return {
        "outcome": ending.outcome.value,
        "secure": ending.secure,
        "boost_then": ending.boost_then,
        "boost_now": ending.boost_now,
    }
