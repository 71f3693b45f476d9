"""The results of the demo, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.text import Text

from ._expected import EXPECTED, differences
from ._scenarios import ScenarioRun
from ._swimlane import UNICODE, Glyphs

HEADS: Final = (
    *("Scenario", "TLS", "Party", "Outcome", "Secure"),
    *("Boost.Asio then", "and now"),
)
NOTE: Final = """
The last two columns: what async_shutdown gives that party in Boost.Asio, then
(1.55 and 1.56) and now (measured: 1.74 and 1.81 with OpenSSL 3.0.19). In 4b, A
now closes its transport while async_shutdown waits. The way of then, a write
behind the shutdown, can give a client bad_descriptor on TLS 1.3. An error code
does not tell whether an ending was secure; the alerts that crossed do.
"""


def results_table(
    runs: Sequence[ScenarioRun], *, glyphs: Glyphs = UNICODE
) -> list[Text]:
    """What was seen in each run, beside what Boost.Asio says of such an ending.

    Args:
      runs: Which.
      glyphs: What to draw with. Default: box-drawing characters.

    Returns:
      A `rich.text.Text` for each line.
    """
    rows, styles = [HEADS], ["bold"]
    for run in runs:
        wrong = differences(run)
        for party, report in run.reports.items():
            ending = EXPECTED[run.scenario.name, party]
            rows.append(
                (
                    *(run.scenario.name, run.version, party, report.outcome.name),
                    *("yes" if report.secure else "no", ending.boost_then),
                    ending.boost_now,
                )
            )
            styles.append("red" if wrong else "")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        Text("  ".join(map(str.ljust, row, widths)).rstrip(), style)
        for row, style in zip(rows, styles, strict=True)
    ]
    rule = glyphs.line * max(line.cell_len for line in lines)
    return [lines[0], Text(rule), *lines[1:]]
