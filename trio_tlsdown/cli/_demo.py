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

from ._expected import differences
from ._json import as_json
from ._paper import Paper
from ._record import Side
from ._scenarios import PATIENCE, SCENARIOS, ScenarioRun, run
from ._stage import SIDES, VERSIONS, CannotPlayError, Version
from ._swimlane import draw
from ._table import NOTE, ending_words, results

HEADS: Final[dict[Side, str]] = {
    side: f"{party} ({side})" for party, side in SIDES.items()
}
LEGEND: Final = (
    "Two TLS streams over TCP on 127.0.0.1, and what they saw. An arrow that ends in "
    "{0.lost} never arrived; one that ends in {0.dots} arrives on a later line. A "
    "party's end is confirmed if its close_notify was sent and nothing cut the "
    "connection short."
)
# \b keeps click from filling the paragraph.
HELP: Final = """\
Play the four ways to end a TLS connection.

A and B are two TLS streams, connected over TCP on this machine. The demo
draws what they saw, and compares it with what should have happened.

\b
1  B closes the transport, then A shuts down.
2  A shuts down and waits, B closes the transport instead of answering.
3  A shuts down and waits, B shuts down too.
4  A sends its close_notify and does not wait, B shuts down.

1 and 4 are played in two ways, a and b.

If SSLKEYLOGFILE is set in the environment, the keys of the sessions are
added to that file, for Wireshark.

\b
The exit code:
0  everything ended as it should
1  something did not, or the demo was interrupted, by Ctrl-C or because the
   reader of its output has gone, as head does
2  wrong usage
3  it cannot be played here (no TCP on 127.0.0.1, no such TLS version), or
   the output cannot be written
"""


class _CannotPlay(click.ClickException):
    exit_code = 3


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
    playing = _play(numbers, version)
    runs = _print_json(playing) if as_data else _print_drawings(playing)
    wrong = [f"{_name(each)}: {what}" for each in runs for what in differences(each)]
    if wrong:
        click.echo("\n".join(wrong), err=True)
        raise click.exceptions.Exit(1)
    if not as_data:
        click.echo(f"Runs: {len(runs)}. All ended as they should.")


def _play(numbers: tuple[str, ...], version: Version | None) -> Iterator[ScenarioRun]:
    names = [
        scenario.name
        for scenario in SCENARIOS.values()
        if not numbers or scenario.number in numbers
    ]
    versions: Iterable[Version] = VERSIONS if version is None else [version]
    for name, each in itertools.product(names, versions):
        try:
            yield trio.run(run, name, each)
        except (OSError, CannotPlayError) as exc:
            raise _CannotPlay(f"cannot play here: {exc}") from exc
        except trio.TooSlowError as exc:
            raise click.ClickException(
                f"scenario {name}, TLS {each}, did not end in {PATIENCE:.0f} s"
            ) from exc


def _print_json(playing: Iterator[ScenarioRun]) -> list[ScenarioRun]:
    runs = list(playing)
    click.echo(json.dumps(as_json(runs), indent=2))
    return runs


def _print_drawings(playing: Iterator[ScenarioRun]) -> list[ScenarioRun]:
    # Every line is as long as it has to be.
    console = Console(highlight=False, soft_wrap=True)
    paper = Paper.of(console)

    def explain(paragraph: str) -> None:
        for line in paper.wrap(paragraph):
            console.print(line, style="dim")
        console.print()

    explain(LEGEND.format(paper.glyphs))
    runs: list[ScenarioRun] = []
    for played in playing:
        runs.append(played)
        for line in _drawing(played, paper):
            console.print(line)
        console.print()
    for line in results(runs, paper):
        console.print(line)
    console.print()
    explain(NOTE)
    return runs


def _drawing(played: ScenarioRun, paper: Paper) -> list[Text]:
    reports = played.reports
    heading = paper.wrap(f"{_name(played)}: {played.scenario.title}")
    lines = draw(
        played.events,
        began=played.began,
        heads=HEADS,
        feet={SIDES[party]: ending_words(each) for party, each in reports.items()},
        paper=paper,
    )
    return [*(Text(line, style="bold") for line in heading), Text(), *lines]


def _name(played: ScenarioRun) -> str:
    return f"Scenario {played.scenario.name}, TLS {played.version}"
