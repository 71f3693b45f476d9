"""How a server lets go of those who would wait: scopes, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import attrs
import trio

from ._shutdown import ShutdownOutcome


@attrs.frozen(kw_only=True)
class DrainReport:
    """What became of the connections that were open when a drain began."""

    tally: Counter[ShutdownOutcome]
    """How many ended in which way. Failed handshakes, and those that were under
    way, are FAILED."""

    handlers_cancelled: int
    """How many handlers were cancelled because the grace was over."""

    elapsed: float
    """Seconds from the beginning of the drain until all were closed."""


class Scopes:
    """Cancel scopes that many tasks are in, and that one can cancel together."""

    def __init__(self) -> None:
        self._open: set[trio.CancelScope] = set()
        self._cancelled = False

    @contextmanager
    def enter(self) -> Generator[trio.CancelScope]:
        """A scope that is cancelled by `cancel`, even if that was called before."""
        with trio.CancelScope() as scope:
            if self._cancelled:
                scope.cancel()
            self._open.add(scope)
            try:
                yield scope
            finally:
                self._open.discard(scope)

    def cancel(self) -> int:
        """Cancel all that are open, and all that will be.

        Returns:
          How many it was that cancelled.
        """
        self._cancelled = True
        running = [scope for scope in self._open if not scope.cancel_called]
        for scope in running:
            scope.cancel()
        return len(running)


# The waits for a next request, of the server whose handler is running.
IDLE: Final[ContextVar[Scopes | None]] = ContextVar("IDLE", default=None)


@contextmanager
def cancel_on_drain() -> Generator[trio.CancelScope]:
    """A cancel scope that a drain of the server cancels.

    For handlers of `TLSServer`, around the wait for the *next* request, and nothing
    else. So an idle connection does not hold up the drain, and its peer gets a
    close_notify; an answer that has begun is finished::

        async def handler(stream):
            while True:
                with cancel_on_drain() as scope:
                    request = await stream.receive_some()
                if scope.cancelled_caught or not request:
                    return
                await stream.send_all(answer_to(request))

    It finds the server of the handler that it is called in, or that started the
    task. When the server drains already, it is cancelled from the start.

    Returns:
      A context manager that gives a `trio.CancelScope`, whose ``cancelled_caught``
      tells whether the wait was cut short.

    Raises:
      RuntimeError: this is no task of a handler.
    """
    idle = IDLE.get()
    if idle is None:
        raise RuntimeError(
            "cancel_on_drain() is for handlers that TLSNursery.start_server runs: "
            "here is no server that could drain"
        )
    with idle.enter() as scope:
        yield scope
