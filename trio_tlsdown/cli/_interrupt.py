"""Ctrl-C as a way to end, not as an error."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

import trio


async def run_until_interrupt(work: Callable[[], Awaitable[object]]) -> bool:
    """Run *work* until it is done, or until Ctrl-C cancels it; whether that was so."""
    interrupted = False

    async def watch(nursery: trio.Nursery) -> None:
        nonlocal interrupted
        with trio.open_signal_receiver(signal.SIGINT) as signals:
            async for _ in signals:
                interrupted = True
                nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch, nursery)
        await work()
        nursery.cancel_scope.cancel()
    return interrupted
