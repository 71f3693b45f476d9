"""At most one task may send and one may receive; a second raises BusyResourceError."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

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


class SendConflictDetector(ConflictDetector):
    """One task may send data, or any number may end the direction, together."""

    __slots__ = ("_ending",)

    def __init__(self) -> None:
        super().__init__("sending data on")
        self._ending = 0

    @property
    def sending(self) -> bool:
        """Whether a task is sending data."""
        return self.busy and not self._ending

    def check(self) -> None:
        """Raise if a task is inside.

        Raises:
          trio.BusyResourceError: it sends data.
          trio.ClosedResourceError: it sends close_notify, and nothing can follow.
        """
        if self._ending:
            raise trio.ClosedResourceError("another task is ending this TLSStream")
        super().check()

    def check_sending(self) -> None:
        """Raise `trio.BusyResourceError` if a task is sending data."""
        if self.sending:
            super().check()

    @contextmanager
    def ending(self) -> Generator[None]:
        """Keep data out while close_notify is sent."""
        self.check_sending()
        self.busy = True
        self._ending += 1
        try:
            yield
        finally:
            self._ending -= 1
            self.busy = self._ending > 0
