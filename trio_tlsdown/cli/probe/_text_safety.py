"""What a stranger sent, made fit to be shown."""

from __future__ import annotations

import unicodedata
from typing import Final

MAX_LENGTH: Final = 200  # characters


def printable(text: str | bytes) -> str:
    r"""Replace what could steer a terminal or hide other text, and cut what is long.

    Control and format characters (escape codes, line breaks, marks that turn the
    direction of writing), and what is no character at all, become ``\x1b`` and the
    like.
    """
    if isinstance(text, bytes):
        text = text[: 4 * MAX_LENGTH].decode("utf-8", "backslashreplace")
    cut = text[:MAX_LENGTH]
    shown = "".join(
        char if char.isprintable() and not _is_mark(char) else _escaped(char)
        for char in cut
    )
    return shown + ("..." if len(text) > MAX_LENGTH else "")


def _is_mark(char: str) -> bool:
    # Hundreds of combining marks can be piled up on one letter, across other lines.
    return unicodedata.category(char) in {"Mn", "Me"}


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
