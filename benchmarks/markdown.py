"""The results as tables for a document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .tables import circumstances, tables


def markdown(found: Mapping[str, Any]) -> str:
    return "\n".join(_lines(found)).rstrip() + "\n"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    for rows in tables(found):
        yield f"### {rows.title}\n"
        yield _row(rows.heads)
        yield f"|---{'|--:' * (len(rows.heads) - 1)}|"
        for row in rows.rows:
            name, *cells = row
            yield _row([f"**{name}**" if rows.is_ours(row) else name, *cells])
        yield ""
        yield from (f"- {note}" for note in rows.notes)
        if rows.notes:
            yield ""
    yield "### Where and how\n"
    yield from (f"- {line}" for line in circumstances(found))
