"""Makes ``docs/interop.md`` from what test runs recorded.

    python -m tests.interop.table ROWS          write it
    python -m tests.interop.table ROWS --check  check that it is up to date

Versions of peers are shown, but not compared: they differ between machines. What a
program does not play needs a reason in `unplayed`.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final, Protocol

from tests.support import VERSIONS

from .peer import ROLES
from .playing import UNSEEN
from .rows import VARIES, Row, cells_of
from .situations import SITUATIONS, TLS12, TLS13
from .unplayed import PLAYS, REASONS, REQUIRED

PAGE: Final = Path("docs/interop.md")
VERSIONS_OF_PEERS: Final = "## Versions"

INTRODUCTION: Final = f"""\
# How TLS implementations close

Each of these peers closed against `TLSStream` in every way it can, as client and as server, and
this page was generated from what happened. *A* is the party that shuts down, *B* the other one;
the letter after a situation says which of them `TLSStream` was. [Servers and
clients](#programs) that use these libraries follow.

Every row is an observation. What crossed the wire is what tshark saw, decrypted with the session
keys: the alerts of both parties, in order. (*{UNSEEN}*: 8 MiB take long to decrypt, so this was
done only for peers known to deviate.) Our report is that of `TLSStream`; what its application
saw is what the peer's program said. Where a cell says {VARIES}, a race decides, and the remark
explains between what.

What should happen follows from [RFC 9846 §6.1]({TLS13}) and, for TLS 1.2, from
[RFC 5246 §7.2.1]({TLS12}), and is listed under [Situations](#situations). If a peer deviates, its
row says so, with a link to its documentation or source. (Both RFCs allow an error alert in
place of close_notify, if it says what was wrong.) [Versions](#versions) lists the versions that
ran, and those that the links show. `make interop` repeats all of it.
"""

PROGRAMS: Final = """\
## Programs

Servers and clients as people use them, on TLS 1.2 and 1.3, with `TLSStream` as the other party;
nginx, HAProxy and stunnel forward to a plain server. *We* are `TLSStream`, *it* is the program.
The numbers are those of the situations; *reset* means that the party which closes the transport
has not read everything. The alerts are those in our report, not from a capture, so alerts that
a program sends after we have closed are missing. What its application saw is what a client's
exit code says, or how the connection ended for the server behind; where nothing tells, the cell
is empty.
"""

# The marks of the overview.
AS_THE_RFC_SAYS, DEVIATES, CANNOT = "✓", "≠", "-"


def read(folder: Path) -> list[Row]:
    return [
        Row(**json.loads(line))
        for file in sorted(folder.glob("*.jsonl"))
        for line in file.read_text().splitlines()
    ]


def page(rows: Sequence[Row]) -> str:
    """The page, in Markdown."""
    peers = sorted({row.peer for row in rows}, key=str.lower)
    of = {peer: [row for row in rows if row.peer == peer] for peer in peers}
    real = {peer: rows for peer, rows in of.items() if rows[0].real}
    labs = {peer: rows for peer, rows in of.items() if peer not in real}
    parts = [INTRODUCTION, overview(labs), situations()]
    parts += [section(f"## {peer}", rows) for peer, rows in labs.items()]
    parts += [PROGRAMS] * bool(real)
    parts += [
        section(f"### {peer} ({rows[0].role})", rows, REASONS.get(peer, {}))
        for peer, rows in real.items()
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
        f"{AS_THE_RFC_SAYS} as the RFC says, {DEVIATES} not so on some version or in some"
        f" role, {CANNOT} never played, because the peer has no way to, or does something else"
        " before it can be told. With a number: on that version of TLS only.\n\n"
        + table(["", *SITUATIONS], lines)
    )


def anchor(heading: str) -> str:
    """An anchor, as GitHub makes it."""
    kept = (letter for letter in heading.lower() if letter.isalnum() or letter in " -")
    return "".join(kept).replace(" ", "-")


def mark(rows: Sequence[Row], situation: str) -> str:
    there = [row for row in rows if row.situation == situation]
    played = [row for row in there if row.played]
    if not played:
        return CANNOT
    what = DEVIATES if any(row.remarks for row in played) else AS_THE_RFC_SAYS
    versions = sorted({row.tls.removeprefix("TLSv") for row in played})
    only = len(versions) < len({row.tls for row in there})
    return " ".join([what, *versions * only])


SEEN: Final = ("our report", "its application saw")


def situations() -> str:
    head = ["", "*we* are `TLSStream`, *it* is the peer", "has to cross", *SEEN]
    lines = [
        [name, each.says, *cells_of(each.ending).values()]
        for name, each in SITUATIONS.items()
    ]
    return "## Situations\n\n" + table(head, lines)


def section(
    heading: str, rows: Sequence[Row], reasons: Mapping[str, Sequence[str]] = {}
) -> str:
    crossed = "alerts, in our report (> ours)" if rows[0].real else "crossed (> ours)"
    unplayed = [
        [", ".join(situations), "", "not played", "", why]
        for why, situations in reasons.items()
    ]
    return f"{heading}\n\n" + table(
        ["", crossed, *SEEN, "remarks"], [*lines_of(rows), *unplayed]
    )


def holes(rows: Sequence[Row]) -> list[str]:
    """What a program neither plays nor has a reason for, and what it has both for."""
    found = []
    for peer in sorted({row.peer for row in rows if row.real}):
        played = [PLAYS.get(row.situation) for row in rows if row.peer == peer]
        excused = [each for some in REASONS.get(peer, {}).values() for each in some]
        found += [
            f"{peer}: {each}: a row and a reason"
            if each in played
            else f"{peer}: {each}"
            for each in REQUIRED
            if (each in played) is (each in excused)
        ]
    return found


def lines_of(rows: Sequence[Row]) -> Iterator[list[str]]:
    """A line for all versions and roles of a situation that ended alike."""
    names = sorted({row.situation for row in rows})
    order = [
        *(SITUATIONS if not rows[0].real else ()),
        *(name for each in REQUIRED for name in names if PLAYS.get(name) == each),
        *names,
    ]
    roles = {row.role for row in rows if row.real} or set(ROLES)
    for _, group in groupby(
        sorted(rows, key=lambda row: order.index(row.situation)),
        key=lambda row: row.situation,
    ):
        alike: dict[tuple[str, ...], list[Row]] = {}
        for row in group:
            alike.setdefault(tuple(cells(row)), []).append(row)
        for what, whose in alike.items():
            yield [label(whose[0]) + where(whose, roles), *what]


def cells(row: Row) -> list[str]:
    return [
        row.crossed,
        row.report if row.played else "not played",
        row.peer_saw,
        "; ".join(f"[{what}]({link})" for what, link in row.remarks),
    ]


def label(row: Row) -> str:
    """What happened, with the number of its situation."""
    plays = PLAYS.get(row.situation) if row.real else None
    if plays is None or row.situation in SITUATIONS:
        return row.situation
    return f"{plays}: {row.situation}"


class Placed(Protocol):
    """Anything with a TLS version and a role."""

    @property
    def tls(self) -> str: ...
    @property
    def role(self) -> str: ...


def where(rows: Sequence[Placed], all_roles: Collection[str] = ROLES) -> str:
    """Which versions and roles, if not all."""
    there = {(row.tls, row.role) for row in rows}
    tls, roles = ({pair[i] for pair in there} for i in (0, 1))
    words = [*sorted(tls)] * (tls != set(VERSIONS))
    words += [f"as a {role}" for role in sorted(roles)] * (roles != set(all_roles))
    if len(there) < len(tls) * len(roles):
        words = [f"{version} as a {role}" for version, role in sorted(there)]
    return f" ({', '.join(words)})" if words else ""


def versions(of: dict[str, list[Row]]) -> str:
    lines = [
        [peer, rows[0].peer_version, ", ".join(sorted(tags(rows)))]
        for peer, rows in of.items()
    ]
    return f"{VERSIONS_OF_PEERS}\n\n" + table(
        ["peer", "when this page was made", "its links show"], lines
    )


def tags(rows: Sequence[Row]) -> set[str]:
    """The version of the source that the rows link to, if they do."""
    links = [link for row in rows for _, link in row.remarks]
    found = [re.search(r"(?:/blob/(?:v/)?|\?h=)([^/]+)", link) for link in links]
    return {match[1] for match in found if match}


def differences(page: Path, new: str) -> list[str]:
    """The lines that are out of date; versions of peers may differ."""
    before, after = comparable(page.read_text()), comparable(new)
    names = str(page), "this run"
    return list(difflib.unified_diff(before, after, *names, lineterm="", n=0))


def comparable(text: str) -> list[str]:
    """The lines of the page, without the second column of the versions."""
    before, heading, after = text.partition(VERSIONS_OF_PEERS)
    after = re.sub(r"^(\|[^|]*\|)[^|]*", r"\1", after, flags=re.MULTILINE)
    return [*before.splitlines(), heading, *after.splitlines()]


def main(arguments: Sequence[str]) -> str | int:
    """Make the page, or check it; return the exit code."""
    folder, *options = arguments
    rows = read(Path(folder))
    return "\n".join(holes(rows)) or make(PAGE, page(rows), options)


def make(page: Path, text: str, options: Sequence[str]) -> str | int:
    if options == ["--check"]:
        return "\n".join(differences(page, text)) or 0
    page.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
