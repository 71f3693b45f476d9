"""``trio-tlsdown demo``: the four scenarios, live."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Final

import click
import trio
from rich.console import Console
from rich.text import Text

from trio_tlsdown import ShutdownReport

from ._expected import differences
from ._json import as_json
from ._record import Side
from ._scenarios import PATIENCE, SCENARIOS, ScenarioRun, run
from ._stage import SIDES, VERSIONS, Version
from ._swimlane import ASCII, UNICODE, Glyphs, draw
from ._table import NOTE, results_table

COLUMNS: Final = 80
HEADS: Final[dict[Side, str]] = {"client": "A (client)", "server": "B (server)"}
LEGEND: Final = """\
Two TLS streams over TCP on 127.0.0.1, and what they saw. An arrow that ends in
{0.lost} never arrived; one that ends in {0.dots} arrives on a later line.
"""
# \b keeps click from filling the paragraph.
HELP: Final = """\
Play the four ways to end a TLS connection.

A and B are two TLS streams, connected over TCP on this machine. What they
traced is drawn, then compared with how it should have ended.

\b
1  B closes the transport, then A shuts down.
2  A shuts down and waits, B closes the transport instead of answering.
3  A shuts down and waits, B shuts down too.
4  A sends its close_notify and does not wait for B, which shuts down.

With SSLKEYLOGFILE set in the environment, the secrets of the sessions are
added to that file, for Wireshark.

The exit code is 1 if anything went otherwise than it should.
"""


@click.command(help=HELP)
@click.option(
    "--scenario",
    "numbers",
    type=click.Choice(["1", "2", "3", "4"]),
    multiple=True,
    help="Which scenario; may be repeated. Default: all.",
)
@click.option(
    "--tls",
    "version",
    type=click.Choice(list(VERSIONS)),
    help="Which TLS version. Default: both.",
)
@click.option("--json", "as_data", is_flag=True, help="Print JSON instead.")
def demo(*, numbers: tuple[str, ...], version: Version | None, as_data: bool) -> None:
    """Play the scenarios, draw what was seen, compare it with what should be."""
    runs: list[ScenarioRun] = []
    console = Console(width=COLUMNS, highlight=False)
    glyphs = UNICODE if console.encoding.startswith("utf") else ASCII
    if not as_data:
        console.print(LEGEND.format(glyphs), style="dim")
    for played in _play(numbers, version):
        runs.append(played)
        if not as_data:
            _show(console, played, glyphs)
    wrong = [f"{_name(each)}: {what}" for each in runs for what in differences(each)]
    if as_data:
        click.echo(json.dumps(as_json(runs), indent=2))
    else:
        _print(console, results_table(runs, glyphs=glyphs))
        console.print(NOTE, style="dim")
        if not wrong:
            console.print(f"Runs: {len(runs)}. All ended as they should.")
    for line in wrong:
        click.echo(line, err=True)
    if wrong:
        raise click.exceptions.Exit(1)


def _play(numbers: tuple[str, ...], version: Version | None) -> Iterator[ScenarioRun]:
    names = [
        scenario.name
        for scenario in SCENARIOS.values()
        if not numbers or str(scenario.number) in numbers
    ]
    for name, each in itertools.product(names, [version] if version else VERSIONS):
        try:
            yield trio.run(run, name, each)
        except OSError as exc:
            raise click.ClickException(f"cannot play here: {exc}") from exc
        except trio.TooSlowError as exc:
            raise click.ClickException(
                f"scenario {name}, TLS {each}, did not end in {PATIENCE:.0f} s"
            ) from exc


def _show(console: Console, played: ScenarioRun, glyphs: Glyphs) -> None:
    heading = f"{_name(played)}: {played.scenario.title}"
    console.print(Text(heading, style="bold"), end="\n\n")
    lines = draw(
        played.events,
        began=played.began,
        heads=HEADS,
        feet={SIDES[party]: _foot(each) for party, each in played.reports.items()},
        glyphs=glyphs,
    )
    _print(console, lines)
    console.print()


def _print(console: Console, lines: Iterable[Text]) -> None:
    for line in lines:
        # As it is: the lines are as long as they have to be.
        console.print(line, soft_wrap=True)


def _name(played: ScenarioRun) -> str:
    return f"Scenario {played.scenario.name}, TLS {played.version}"


def _foot(report: ShutdownReport) -> str:
    return f"{report.outcome.name}, {'secure' if report.secure else 'not secure'}"
