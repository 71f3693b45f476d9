"""What Pythons make of a cut, and how to make them all call it one.

Python had a bug there, which that of Debian 12 still has: python/cpython#95494.
"""

from __future__ import annotations

import ssl


def strict(context: ssl.SSLContext) -> ssl.SSLContext:
    """Let a cut be no end for SSLSocket and SSLStream: it may be, by default."""
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    return context


def is_cut(error: BaseException | None) -> bool:
    """Whether that is how a program with a strict context is told of a cut."""
    return isinstance(error, ssl.SSLEOFError | EOFError) or (
        # With the bug it is no SSLEOFError.
        isinstance(error, ssl.SSLError)
        and error.reason == "UNEXPECTED_EOF_WHILE_READING"
    )
