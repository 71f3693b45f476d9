"""How each scenario has to end, and what Boost.Asio says of the same ending.

This is the only place that knows. What the demo prints comes from what it saw,
and is then compared with this table.

What Boost.Asio says is what ``async_shutdown`` gives that party: *then*, in the
answer that the project grew from (Boost 1.55 and 1.56, OpenSSL of that time),
and *now*, measured with Boost 1.74 and 1.81 and OpenSSL 3.0.19, with TLS 1.2 and
1.3, B a server that sends two session tickets. 4b is measured as it is played
here: A closes its transport while its ``async_shutdown`` waits.
"""

from __future__ import annotations

from typing import Final

import attrs

from trio_tlsdown import ShutdownOutcome

from ._scenarios import ScenarioRun
from ._stage import Party

COMPLETE: Final = ShutdownOutcome.COMPLETE
SENT: Final = ShutdownOutcome.SENT
ABORTED: Final = ShutdownOutcome.ABORTED
TRUNCATED: Final = ShutdownOutcome.TRUNCATED

# The names of Boost.Asio's errors, without their namespaces.
SHORT_READ: Final = "SSL short read"
STREAM_TRUNCATED: Final = "stream_truncated"  # category asio.ssl.stream, 1
CANCELLED: Final = "operation_aborted"  # category system, 125
NOT_CALLED: Final = "-"


@attrs.frozen
class Ending:
    """How one party's connection has to end."""

    outcome: ShutdownOutcome
    """What `ShutdownReport.outcome` has to be."""

    boost_then: str
    """What Boost.Asio said of it when the question was asked."""

    boost_now: str
    """What it says today."""

    secure: bool = attrs.field(kw_only=True)
    """What `ShutdownReport.secure` has to be."""


EXPECTED: Final[dict[tuple[str, Party], Ending]] = {
    ("1a", "A"): Ending(TRUNCATED, SHORT_READ, STREAM_TRUNCATED, secure=False),
    ("1a", "B"): Ending(ABORTED, NOT_CALLED, NOT_CALLED, secure=False),
    ("1b", "A"): Ending(TRUNCATED, SHORT_READ, STREAM_TRUNCATED, secure=False),
    ("1b", "B"): Ending(ABORTED, NOT_CALLED, NOT_CALLED, secure=False),
    ("2", "A"): Ending(TRUNCATED, SHORT_READ, STREAM_TRUNCATED, secure=False),
    ("2", "B"): Ending(ABORTED, NOT_CALLED, "- (read: eof)", secure=False),
    ("3", "A"): Ending(COMPLETE, "eof", "success", secure=True),
    ("3", "B"): Ending(COMPLETE, "success", "success", secure=True),
    ("4a", "A"): Ending(SENT, "(no such call)", "(no such call)", secure=True),
    ("4a", "B"): Ending(COMPLETE, "success", "success", secure=True),
    ("4b", "A"): Ending(ABORTED, CANCELLED, CANCELLED, secure=True),
    ("4b", "B"): Ending(COMPLETE, "success", "success", secure=True),
}


def differences(run: ScenarioRun) -> list[str]:
    """What in a run is not as it has to be, in words; empty if all is."""
    found = list(run.surprises)
    for party, report in run.reports.items():
        ending = EXPECTED[run.scenario.name, party]
        if report.outcome is not ending.outcome:
            found.append(
                f"{party} ended {report.outcome.name}, expected {ending.outcome.name}"
            )
        if report.secure is not ending.secure:
            found.append(
                f"{party}: secure is {report.secure}, expected {ending.secure}"
            )
    return found
