"""Makes ``docs/interop.md`` of what test runs have recorded.

    python -m tests.interop.table ROWS          makes it
    python -m tests.interop.table ROWS --check  tells whether it is up to date

Versions of peers are shown, and not compared: they differ between machines.
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final, Protocol

from tests.support import VERSIONS

from .peer import ROLES
from .rows import Row
from .situations import SITUATIONS, TLS12, TLS13

PAGE: Final = Path("docs/interop.md")
VERSIONS_OF_PEERS: Final = "## Versions"

INTRODUCTION: Final = f"""\
# How TLS implementations close

Each of these peers closed in every way it can, as client and as server, against
`TLSStream`; this page was made from that. What crossed the wire is what tshark saw, with
the session keys. *A* is who shuts down, *B* the other; the letter behind a situation says
which of them `TLSStream` was. [Servers and clients](#programs) that use these libraries
follow.

What has to come of it follows from [RFC 9846 §6.1]({TLS13}) and, for TLS 1.2, from
[RFC 5246 §7.2.1]({TLS12}). Where a peer does otherwise, its row says so, with a link.
`tests/interop` plays it all: `make interop` makes this page anew.
"""

PROGRAMS: Final = """\
## Programs

Servers and clients as people use them, on TLS 1.2 and 1.3, with `TLSStream` as the other
party; behind nginx, HAProxy and stunnel there is a plain server. *We* are `TLSStream`,
*it* is the program. The numbers are those of the situations; *reset* is when who closes
the transport has not read everything. What crossed is what our report tells of. What its
application saw is what a client's exit code says, or how the connection ended for the
server behind.
"""

# Of a situation with a peer, in the overview.
AS_THE_RFC_SAYS, DEVIATES, CANNOT = "✓", "≠", "-"


def read(folder: Path) -> list[Row]:
    return [
        Row(**json.loads(line))
        for file in sorted(folder.glob("*.jsonl"))
        for line in file.read_text().splitlines()
    ]


def page(rows: Sequence[Row]) -> str:
    """All of it, in Markdown."""
    peers = sorted({row.peer for row in rows}, key=str.lower)
    of = {peer: [row for row in rows if row.peer == peer] for peer in peers}
    real = {peer: rows for peer, rows in of.items() if rows[0].real}
    labs = {peer: rows for peer, rows in of.items() if peer not in real}
    parts = [INTRODUCTION, overview(labs), situations()]
    parts += [section(f"## {peer}", rows) for peer, rows in labs.items()]
    parts += [PROGRAMS] * bool(real)
    parts += [
        section(f"### {peer} ({rows[0].role})", rows) for peer, rows in real.items()
    ]
    return "\n".join([*parts, versions(of)])


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def overview(of: dict[str, list[Row]]) -> str:
    lines = [
        [f"[{peer}](#{anchor(peer)})", *(mark(rows, each) for each in SITUATIONS)]
        for peer, rows in of.items()
    ]
    return (
        "## Overview\n\n"
        f"{AS_THE_RFC_SAYS} as the RFC says, {DEVIATES} otherwise on some version or in"
        f" some role, {CANNOT} never played: it has no way to.\n\n"
        + table(["", *SITUATIONS], lines)
    )


def anchor(heading: str) -> str:
    """As GitHub makes them."""
    kept = (letter for letter in heading.lower() if letter.isalnum() or letter in " -")
    return "".join(kept).replace(" ", "-")


def mark(rows: Sequence[Row], situation: str) -> str:
    played = [row for row in rows if row.situation == situation and not row.cannot]
    if not played:
        return CANNOT
    return DEVIATES if any(row.deviation for row in played) else AS_THE_RFC_SAYS


def situations() -> str:
    lines = [[name, each.says] for name, each in SITUATIONS.items()]
    return "## Situations\n\n" + table(
        ["", "*we* are `TLSStream`, *it* is the peer"], lines
    )


def section(heading: str, rows: Sequence[Row]) -> str:
    head = ["", "crossed (> ours)", "our report", "its application saw", "remarks"]
    return f"{heading}\n\n" + table(head, lines_of(rows))


def lines_of(rows: Sequence[Row]) -> Iterator[list[str]]:
    """A line for all versions and roles of a situation that ended alike."""
    order = [*SITUATIONS, *sorted({row.situation for row in rows})]
    roles = {row.role for row in rows if row.real} or set(ROLES)
    for situation, group in groupby(
        sorted(rows, key=lambda row: order.index(row.situation)),
        key=lambda row: row.situation,
    ):
        alike: dict[tuple[str, ...], list[Row]] = {}
        for row in group:
            alike.setdefault(tuple(cells(row)), []).append(row)
        for what, whose in alike.items():
            yield [situation + where(whose, roles), *what]


def cells(row: Row) -> list[str]:
    remark = row.deviation or row.cannot
    report = f"{row.outcome}{', secure' if row.secure else ''}"
    if row.error:
        report += f", `{row.error}`"
    return [
        row.crossed,
        "not played" if row.cannot else report,
        row.peer_saw,
        f"[{remark}]({row.link})" if remark else "",
    ]


class Placed(Protocol):
    """What has a version of TLS, and somebody's role."""

    @property
    def tls(self) -> str: ...
    @property
    def role(self) -> str: ...


def where(rows: Sequence[Placed], all_roles: Collection[str] = ROLES) -> str:
    """Of which versions and roles, if not of all."""
    there = {(row.tls, row.role) for row in rows}
    tls, roles = ({pair[i] for pair in there} for i in (0, 1))
    words = [*sorted(tls)] * (tls != set(VERSIONS))
    words += [f"as a {role}" for role in sorted(roles)] * (roles != set(all_roles))
    if len(there) < len(tls) * len(roles):
        words = [f"{version} as a {role}" for version, role in sorted(there)]
    return f" ({', '.join(words)})" if words else ""


def versions(of: dict[str, list[Row]]) -> str:
    lines = [[peer, rows[0].peer_version] for peer, rows in of.items()]
    return f"{VERSIONS_OF_PEERS}\n\n" + table(
        ["peer", "when this page was made"], lines
    )


def differences(page: Path, new: str) -> list[str]:
    """What is not up to date; versions may differ."""
    old = page.read_text()
    before, after = (
        text.partition(VERSIONS_OF_PEERS)[0].splitlines() for text in (old, new)
    )
    names = str(page), "this run"
    return list(difflib.unified_diff(before, after, *names, lineterm="", n=0))


def main(arguments: Sequence[str]) -> str | int:
    """Make the page, or check it; what to exit with."""
    folder, *options = arguments
    return make(PAGE, page(read(Path(folder))), options)


def make(page: Path, text: str, options: Sequence[str]) -> str | int:
    if options == ["--check"]:
        return "\n".join(differences(page, text)) or 0
    page.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
