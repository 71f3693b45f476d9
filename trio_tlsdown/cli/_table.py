"""The results of the demo, as a table or a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.text import Text

from trio_tlsdown import ShutdownReport

from ._expected import EXPECTED, differences
from ._paper import Paper
from ._scenarios import ScenarioRun

HEADS: Final = (
    *("Run", "TLS", "Party", "Outcome", "Confirmed"),
    *("Asio, Boost 1.55", "Boost 1.74"),
)
NOTE: Final = (
    "The last two columns have the error that async_shutdown of Boost.Asio reports to "
    "that party: in Boost 1.55 and 1.56 according to the answer that this demo is based "
    "on (https://stackoverflow.com/a/25703699), and in Boost 1.74 as observed (see "
    "docs/boost_asio.md). An error code does not tell whether an end was confirmed; "
    "the alerts that crossed do."
)


def results(runs: Sequence[ScenarioRun], paper: Paper = Paper()) -> list[Text]:
    """What was seen in each run, beside what Boost.Asio says of such an ending.

    Args:
      runs: Which.
      paper: What to draw on and with. Default: 80 columns, box-drawing characters.

    Returns:
      A `rich.text.Text` for each line: of a table, or of a list where that is too wide.
    """
    table = _table(runs, paper)
    if max(line.cell_len for line in table) <= paper.columns:
        return table
    return _list(runs)


def _list(runs: Sequence[ScenarioRun]) -> list[Text]:
    lines: list[Text] = []
    for run in runs:
        style = "red" if differences(run) else ""
        lines.append(Text(f"Scenario {run.scenario.name}, TLS {run.version}", "bold"))
        for party, report in run.reports.items():
            ending = EXPECTED[run.scenario.name, party]
            outcome = ", ".join(ending_words(report))
            lines += [
                Text(f"  {party}  {outcome}", style),
                Text(f"     Asio, Boost 1.55: {ending.boost_then}"),
                Text(f"     Asio, Boost 1.74: {ending.boost_now}"),
            ]
    return lines


def ending_words(report: ShutdownReport) -> tuple[str, str]:
    """How a party ended, and whether that was confirmed."""
    # Not "secure": that reads as if the connection had been in clear text.
    confirmed = "end confirmed" if report.secure else "end not confirmed"
    return report.outcome.name, confirmed


def _table(runs: Sequence[ScenarioRun], paper: Paper) -> list[Text]:
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
    rule = paper.glyphs.line * max(line.cell_len for line in lines)
    return [lines[0], Text(rule), *lines[1:]]
