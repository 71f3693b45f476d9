"""The results on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .tables import Rows, circumstances, tables

PIPED_WIDTH: Final = 140
STYLES: Final = {"met": "green", "MISSED": "bold red", "failed": "bold red"}


def console() -> Console:
    found = Console(highlight=False, markup=False)
    if not found.is_terminal:
        found.width = PIPED_WIDTH
    return found


def show(found: Mapping[str, Any], out: Console) -> None:
    whole = not out.is_terminal  # whoever reads the lines of a pipe wants them so
    for rows in tables(found):
        out.print(rows.title, style="bold")
        out.print(_table(rows))
        for note in rows.notes:
            out.print(f"   {note}", style="dim", soft_wrap=whole)
        out.print()
    for line in circumstances(found):
        out.print(line, soft_wrap=whole)


def _table(rows: Rows) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    for number, head in enumerate(rows.heads):
        table.add_column(
            head,
            justify="right" if number else "left",
            # Numbers are narrow; a narrow terminal wraps the heads.
            min_width=max((len(row[number]) for row in rows.rows), default=0),
        )
    for row in rows.rows:
        cells = [Text(cell, STYLES.get(cell, "")) for cell in row]
        table.add_row(*cells, style="bold" if rows.is_ours(row) else None)
    return table
