"""Tasks of a user, in a nursery that has others too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio


class Tasks:
    """Counts tasks, so that their end can be waited for while others run."""

    def __init__(self) -> None:
        self._running = 0
        self._none = trio.Event()

    def start_soon(
        self,
        nursery: trio.Nursery,
        async_fn: Callable[..., Awaitable[object]],
        args: tuple[object, ...],
        name: object,
    ) -> None:
        """Start a task in *nursery*, as that does."""
        nursery.start_soon(self._run, async_fn, args, name=name or async_fn)
        self._running += 1

    async def _run(
        self, async_fn: Callable[..., Awaitable[object]], args: tuple[object, ...]
    ) -> None:
        try:
            await async_fn(*args)
        finally:
            self._running -= 1
            if not self._running:
                self._none.set()

    async def wait_none(self) -> None:
        """Wait until none runs, of those either that have been started meanwhile."""
        while self._running:
            self._none = trio.Event()
            await self._none.wait()
