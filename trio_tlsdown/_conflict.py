"""One task a direction: a second one is a bug, and is told so."""

from __future__ import annotations

import trio


class ConflictDetector:
    """A context manager that only one task may be in."""

    __slots__ = ("_message", "busy")

    def __init__(self, doing: str) -> None:
        self._message = f"another task is currently {doing} this TLSStream"
        self.busy = False

    def check(self) -> None:
        """Raise `trio.BusyResourceError` if a task is inside."""
        if self.busy:
            raise trio.BusyResourceError(self._message)

    def __enter__(self) -> None:
        if self.busy:
            self.check()
        self.busy = True

    def __exit__(self, *_: object) -> None:
        self.busy = False
