"""Tasks of a user, in a nursery that has others too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio


class Tasks:
    """Counts tasks, so that their end can be waited for while others run."""

    def __init__(self) -> None:
        self.running: int = 0
        self._none = trio.Event()

    def start_soon(
        self,
        nursery: trio.Nursery,
        async_fn: Callable[..., Awaitable[object]],
        args: tuple[object, ...],
        name: object,
    ) -> None:
        """Start a task in *nursery*, as that does."""
        if not callable(async_fn):
            raise TypeError(f"start_soon() wants an async function, not {async_fn!r}")
        nursery.start_soon(self._run, async_fn, args, name=name or async_fn)
        self.running += 1

    async def _run(
        self, async_fn: Callable[..., Awaitable[object]], args: tuple[object, ...]
    ) -> None:
        try:
            await async_fn(*args)
        finally:
            self.running -= 1
            if not self.running:
                self._none.set()
                self._none = trio.Event()

    async def wait_none(self) -> None:
        """Wait until none runs, of those either that have been started meanwhile."""
        while self.running:
            await self._none.wait()
