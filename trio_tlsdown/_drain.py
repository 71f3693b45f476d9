"""How a server lets go of those who would wait: scopes, and what came of it."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager
from contextvars import ContextVar
from types import TracebackType
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
        self.open: set[trio.CancelScope] = set()
        self.cancelled = False

    def enter(self) -> OneOfScopes:
        """A scope that is cancelled by `cancel`, even if that was called before."""
        return OneOfScopes(self)

    def cancel(self) -> int:
        """Cancel all that are open, and all that will be.

        Returns:
          How many it was that cancelled.
        """
        self.cancelled = True
        running = [scope for scope in self.open if not scope.cancel_called]
        for scope in running:
            scope.cancel()
        return len(running)


class OneOfScopes:
    """A `trio.CancelScope`, entered and left together with its place among the others.

    A generator would be shorter. But idle connections wait in here: it would stay in
    memory, and a drain would throw an exception into each.
    """

    __slots__ = ("_scope", "_scopes")

    def __init__(self, scopes: Scopes) -> None:
        self._scopes = scopes
        self._scope = trio.CancelScope()

    def __enter__(self) -> trio.CancelScope:
        if self._scopes.cancelled:
            self._scope.cancel()
        self._scopes.open.add(self._scope)
        return self._scope.__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._scopes.open.discard(self._scope)
        return self._scope.__exit__(exc_type, exc_value, traceback)


# The waits for a next request, of the server whose handler is running.
IDLE: Final[ContextVar[Scopes | None]] = ContextVar("IDLE", default=None)


def cancel_on_drain() -> AbstractContextManager[trio.CancelScope, bool | None]:
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
    return idle.enter()
