"""What the demo draws on and with: so many columns, such characters."""

from __future__ import annotations

import textwrap
from typing import Final

import attrs
from rich.console import Console

WIDEST: Final = 76  # of a drawing: fits 80 columns, and a page of documentation
NARROWEST: Final = 40  # of anything: the shortest labels fit
TEXT: Final = 79  # the longest line of text


@attrs.frozen
class Glyphs:
    """What lines are made of."""

    line: str
    right: str
    left: str
    life: str
    gone: str
    from_left: str
    from_right: str
    lost: str
    dots: str


UNICODE: Final = Glyphs(
    "─", "►", "◄", "│", "┊", "├", "┤", "\N{MULTIPLICATION SIGN}", "· · ·"
)
ASCII: Final = Glyphs("-", ">", "<", "|", ":", "|", "|", "x", ". . .")


@attrs.frozen
class Paper:
    """A width and glyphs."""

    columns: int = 80
    """How many columns there are."""

    glyphs: Glyphs = UNICODE

    @classmethod
    def of(cls, console: Console) -> Paper:
        """The paper that a console is."""
        unicode = console.encoding.startswith("utf")
        return cls(max(console.width, NARROWEST), UNICODE if unicode else ASCII)

    @property
    def width(self) -> int:
        """Columns of a drawing."""
        return min(self.columns, WIDEST)

    def wrap(self, paragraph: str) -> list[str]:
        """Break a paragraph into lines."""
        return textwrap.wrap(paragraph, min(self.columns, TEXT))
