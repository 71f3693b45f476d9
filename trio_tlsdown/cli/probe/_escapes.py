r"""Bytes as people type them: ``PING\r\n``."""

from __future__ import annotations

import os
import re
from typing import Final

ESCAPE: Final = re.compile(
    rb"\\(?:x(?P<hex>[0-9A-Fa-f]{2})|(?P<octal>[0-7]{1,3})|(?P<letter>.?))", re.DOTALL
)
LETTERS: Final = dict(zip(b"abfnrtv\\'\"", b"\a\b\f\n\r\t\v\\'\"", strict=True))


def unescape(text: str) -> bytes:
    r"""Replace the escapes of C and Python; all else stays as it was typed.

    Raises:
      ValueError: there is no such escape.
    """
    return ESCAPE.sub(_byte, os.fsencode(text))


def _byte(found: re.Match[bytes]) -> bytes:
    number: int | None
    if found["hex"]:
        number = int(found["hex"], 16)
    elif found["octal"]:
        number = int(found["octal"], 8)
    else:
        number = LETTERS.get(ord(found["letter"] or b"\0"))
    if number is None or number > 0xFF:
        raise ValueError(
            f"no such escape: {os.fsdecode(found[0])} (there are \\r, \\n, \\t, and \\x00 "
            "to \\xff; a backslash is \\\\)"
        )
    return bytes([number])
