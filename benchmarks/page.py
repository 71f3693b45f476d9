"""The figures in a page of the documentation, and the picture beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from .markdown import markdown

BEGIN: Final = "<!-- figures, made by --page -->\n"
END: Final = "<!-- end of figures -->\n"


def check(file: Path) -> None:
    """Whether there is a place for figures.

    Raises:
      ValueError: there is none.
    """
    _, begin, rest = file.read_text("utf-8").partition(BEGIN)
    if not begin or END not in rest:
        raise ValueError(f"{file} has no lines {BEGIN.strip()} and {END.strip()}")


def with_figures(page: str, found: Mapping[str, Any]) -> str:
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{markdown(found)}\n{END}{after}"


def write(file: Path, found: Mapping[str, Any]) -> None:
    """The figures into *file*, and the overview into an SVG file of the same name."""
    from .plots import draw_overview  # slow to import

    file.write_text(with_figures(file.read_text("utf-8"), found), "utf-8")
    draw_overview(found, file.with_suffix(".svg"))
