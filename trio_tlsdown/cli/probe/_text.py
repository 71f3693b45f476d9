"""Results, for people."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from functools import partial
from typing import Final

from rich.text import Text

from trio_tlsdown.cli._paper import Paper
from trio_tlsdown.cli._swimlane import draw

from ._checks import CHECKS, Check, Finding, Verdict
from ._observe import Observation
from ._remedies import remedies, remedy
from ._results import HostResult, VersionResult

STYLES: Final = {
    Verdict.PASS: "green",
    Verdict.WARN: "yellow",
    Verdict.FAIL: "bold red",
    Verdict.NOT_APPLICABLE: "dim",
}
wrap: Final = partial(textwrap.wrap, break_on_hyphens=False)  # options keep theirs
BAD: Final = (Verdict.FAIL, Verdict.WARN)
VERDICT: Final = 6  # columns
WIDTH: Final = max(len(check.id) for check in CHECKS)


def brief(result: HostResult) -> Text:
    """One line."""
    if not result.reachable:
        why = (result.versions[0].error or "").removeprefix(f"{result.target}: ")
        return Text.assemble(("unreachable", "bold red"), f"  {result.target}  {why}")
    bad: dict[str, list[str]] = {}
    for version in result.versions:
        for check_id, finding in version.findings.items():
            if finding.verdict in BAD and finding.verdict is result.verdict:
                bad.setdefault(check_id, []).append(version.tls)
    words = ", ".join(f"{name} (TLS {', '.join(tls)})" for name, tls in bad.items())
    word = result.verdict.value.ljust(len("unreachable"))
    return Text.assemble(
        (word, STYLES[result.verdict]), f"  {result.target}  {words}".rstrip()
    )


def full(result: HostResult, paper: Paper, *, swimlanes: bool) -> Iterator[Text]:
    """All of it, line by line."""
    yield from _wrapped(f"{result.target}, {result.about}", paper, style="bold")
    if result.insecure:
        yield Text("  THE CERTIFICATE WAS NOT VERIFIED: --insecure", "bold red")
    if swimlanes:
        dots = paper.glyphs.dots
        legend = f"{dots}: when it reached, or left, the server is not known"
        yield from _wrapped(legend, paper, indent=2, style="dim")
    told: set[object] = set()  # once is enough, for both versions
    for version in result.versions:
        yield from _heading(version, told, paper)
        for check in CHECKS:
            if finding := version.findings.get(check.id):
                yield from _finding(finding, check.id, paper)
                if finding.verdict in BAD and check.id not in told:
                    told.add(check.id)
                    yield from _explanation(check, version, result.banner, paper)
        if version.resembles and version.resembles not in told:
            told.add(version.resembles)
            hint = "Try your clients with the same: trio-tlsdown rogue "
            yield from _wrapped(hint + version.resembles, paper, indent=4)
        if swimlanes:
            for seen in version.seen.values():
                yield Text()
                yield from _swimlane(seen, paper)
    yield Text()


def _heading(version: VersionResult, told: set[object], paper: Paper) -> Iterator[Text]:
    if version.error is None:
        yield Text(f"  TLS {version.tls}, {version.cipher}")
    else:
        what = "not supported" if version.unsupported else "no session"
        style = "dim" if version.unsupported else "bold red"
        yield Text(f"  TLS {version.tls}: {what}", style)
    for line in (version.error, version.certificate):
        if line is not None and line not in told:
            told.add(line)
            yield from _wrapped(str(line), paper, indent=4)


def _finding(finding: Finding, check_id: str, paper: Paper) -> Iterator[Text]:
    indent = 4 + VERDICT + WIDTH + 2
    seen = wrap(finding.seen, max(paper.columns - indent, 20)) or [""]
    yield Text.assemble(
        "    ",
        (finding.verdict.value.ljust(VERDICT), STYLES[finding.verdict]),
        f"{check_id.ljust(WIDTH)}  {seen[0]}",
    )
    for line in seen[1:]:
        yield Text(" " * indent + line)


def _explanation(
    check: Check, version: VersionResult, banner: str | None, paper: Paper
) -> Iterator[Text]:
    advice = remedy(check.id, banner)
    why = f"{check.rfc[version.tls]}: {check.meaning}"
    for text in (why, f"Remedy: {advice.advice}"):
        yield from _wrapped(text, paper, indent=4 + VERDICT)
    if advice.link:
        yield Text(" " * (4 + VERDICT) + advice.link, "dim")


def _wrapped(
    text: str, paper: Paper, *, indent: int = 0, style: str = ""
) -> Iterator[Text]:
    for line in wrap(text, paper.columns - indent):
        yield Text(" " * indent + line, style)


def _swimlane(seen: Observation, paper: Paper) -> Iterator[Text]:
    yield Text(f"  {seen.experiment.value}", "bold")
    yield from draw(
        seen.events,
        began=seen.began,
        heads={"client": "probe", "server": "server"},
        feet={"client": [], "server": [seen.ending.value]},
        paper=paper,
        data_only=True,
    )


def check_list(paper: Paper) -> Iterator[str]:
    """Every check, with what it asks and all that could be done."""
    for check in CHECKS:
        yield check.id
        rfcs = "; ".join(dict.fromkeys(check.rfc.values()))
        for text in (check.question, check.meaning, rfcs):
            for line in wrap(text, paper.columns - 5):
                yield f"    {line}"
        for name, advice in remedies(check.id).items():
            for line in wrap(f"{name}: {advice.advice}", paper.columns - 9):
                yield f"        {line}"
            if advice.link:
                yield f"        {advice.link}"
        yield ""
