"""Results as one HTML page, with a drawing of each connection."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from typing import Final, TextIO

from trio_tlsdown import TraceKind
from trio_tlsdown.cli._rows import Row, Shape, rows_of
from trio_tlsdown.cli._swimlane import LOOKS

from ._checks import CHECKS, Verdict
from ._observe import Observation
from ._remedies import remedy
from ._results import HostResult, VersionResult

CSS: Final = """
:root { color-scheme: light dark; --pass: #1a7f37; --warn: #9a6700; --fail: #cf222e; }
@media (prefers-color-scheme: dark) {
  :root { --pass: #3fb950; --warn: #d29922; --fail: #f85149; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; overflow-wrap: anywhere; }
h2 { margin: 2.5rem 0 0; } h3 { margin: 1.2rem 0 .3rem; }
table { border-collapse: collapse; width: 100%; }
td { vertical-align: top; padding: .35rem .6rem .35rem 0; border-top: 1px solid #8884; }
td:first-child { width: 3.5rem; font-weight: bold; } .small { font-size: .9rem; }
.pass { color: var(--pass); } .warn { color: var(--warn); } .fail { color: var(--fail); }
.insecure { background: #cf222e; color: #fff; padding: .3rem .6rem; }
details { margin: .6rem 0; } summary { cursor: pointer; }
.lanes { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr));
  gap: 1rem; }
figure { margin: 0; }
svg { width: 100%; height: auto; font: 12px system-ui, sans-serif; fill: currentColor; }
svg line, svg path { stroke: currentColor; } .end { stroke-dasharray: 2 4; }
"""
HEAD: Final = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'">
<title>How these servers end TLS connections</title><style>{CSS}</style></head><body>
<h1>How these servers end TLS connections</h1>
<p>A fail is a MUST of the RFC that was broken; a warn is allowed, but clients pay for
it.</p>
"""

CODE: Final = re.compile("`([^`]+)`")

# Of a drawing, in pixels:
LEFT: Final = 64
RIGHT: Final = 376
TOP: Final = 30
STEP: Final = 26


class HtmlReport:
    """Writes as it goes: nothing is kept.

    Args:
      file: Where to write.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        file.write(HEAD)

    def add(self, result: HostResult) -> None:
        """Write the section of a host."""
        self._file.writelines(_host(result))

    def finish(self) -> None:
        """Write the end."""
        self._file.write("</body></html>\n")


def _host(result: HostResult) -> Iterator[str]:
    yield f"<h2>{escape(str(result.target))}</h2>\n<p>{escape(result.about)}</p>\n"
    if result.insecure:
        yield '<p class="insecure">The certificate was not verified: --insecure</p>\n'
    for version in result.versions:
        cipher = f", {escape(version.cipher)}" if version.cipher else ""
        yield f"<h3>TLS {version.tls}{cipher}</h3>\n"
        if version.error is not None:
            style = "" if version.unsupported else ' class="fail"'
            yield f"<p{style}>{escape(version.error)}</p>\n"
        if version.certificate is not None:
            yield f'<p class="small">{escape(str(version.certificate))}</p>\n'
        if version.resembles:
            command = f"trio-tlsdown rogue {escape(version.resembles)}"
            yield f"<p>Try your clients with the same: <code>{command}</code></p>\n"
        if version.findings:
            yield from _findings(version, result.banner)
            yield '<details><summary>The connections</summary><div class="lanes">\n'
            for seen in version.seen.values():
                yield from _drawing(seen)
            yield "</div></details>\n"


def _findings(version: VersionResult, banner: str | None) -> Iterator[str]:
    yield "<table>\n"
    for check in CHECKS:
        finding = version.findings[check.id]
        style = finding.verdict.name.lower()
        yield (
            f'<tr><td class="{style}">{finding.verdict.value}</td>'
            f"<td>{escape(check.question)}<br><b>{escape(finding.seen)}</b>"
        )
        if finding.verdict in (Verdict.FAIL, Verdict.WARN):
            advice = remedy(check.id, banner)
            rfc = (
                f'<a href="{check.rfc_link(version.tls)}">{check.rfc[version.tls]}</a>'
            )
            yield f'<div class="small">{rfc}: {escape(check.meaning)}<br>'
            yield "Remedy: " + CODE.sub(r"<code>\1</code>", escape(advice.advice))
            if advice.link:
                yield f' (<a href="{escape(advice.link)}">documentation</a>)'
            yield "</div>"
        yield "</td></tr>\n"
    yield "</table>\n"


def _drawing(seen: Observation) -> Iterator[str]:
    rows = rows_of(seen.events, data_only=True)
    height = TOP + STEP * len(rows) + 30
    name = escape(seen.experiment.value)
    yield f"<figure><figcaption>{name}</figcaption>"
    yield (
        f'<svg viewBox="0 0 440 {height}" role="img" aria-label="{name}: '
        f'{escape(seen.ending.value)}">'
        f'<text x="{LEFT - 34}" y="14" text-anchor="end">ms</text>'
        f'<text x="{LEFT}" y="14" text-anchor="middle">probe</text>'
        f'<text x="{RIGHT}" y="14" text-anchor="middle">server</text>'
    )
    for x in (LEFT, RIGHT):
        yield f'<line x1="{x}" y1="20" x2="{x}" y2="{height - 22}"/>'
    for number, row in enumerate(rows):
        yield from _row(row, TOP + STEP * number + STEP // 2, seen.began)
    yield (
        f'<text x="{RIGHT}" y="{height - 6}" text-anchor="end">'
        f"{escape(seen.ending.value)}</text></svg></figure>\n"
    )


def _row(row: Row, y: int, began: float) -> Iterator[str]:
    label = LOOKS[row.mark.kind][0]
    if row.mark.size:
        label += f", {row.mark.size:,} B"
    ms = (row.time - began) * 1000
    yield f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{ms:.1f}</text>'
    crosses = row.shape is not Shape.LOCAL or row.mark.kind is TraceKind.HANDSHAKE_DONE
    anchor, x = ("middle", (LEFT + RIGHT) // 2) if crosses else ("start", LEFT + 8)
    yield f'<text x="{x}" y="{y - 4}" text-anchor="{anchor}">{escape(label)}</text>'
    if not crosses:
        return
    yield f'<line x1="{LEFT}" y1="{y}" x2="{RIGHT}" y2="{y}"/>'
    handshake = row.mark.kind is TraceKind.HANDSHAKE_DONE
    if handshake or row.shape is Shape.ARRIVES:
        yield f'<path d="M{LEFT + 7} {y - 4} L{LEFT} {y} L{LEFT + 7} {y + 4}" fill="none"/>'
    if handshake or row.shape is not Shape.ARRIVES:
        x = RIGHT
        yield f'<path d="M{x - 7} {y - 4} L{x} {y} L{x - 7} {y + 4}" fill="none"/>'
