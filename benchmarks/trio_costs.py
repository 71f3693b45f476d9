"""What a cancel scope and a checkpoint of Trio cost, and what they are made of.

``python -m benchmarks.trio_costs`` prints it for this machine, in microseconds of CPU: the
least of several rounds. See docs/benchmarks.md.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager

import trio

ROUNDS = 9
TIMES = 5_000
TASKS = 100


@contextmanager
def nothing() -> Generator[None]:
    """A scope enters one like this twice, only to do something when it is left."""
    try:
        yield
    finally:
        pass


async def scope() -> None:
    for _ in range(TIMES):
        with trio.CancelScope():  # noqa: ASYNC100 - that is what is measured
            pass


async def two_context_managers() -> None:
    for _ in range(TIMES):
        with nothing():
            pass
        with nothing():
            pass


async def checkpoints(times: int | None = None) -> None:
    for _ in range(times or TIMES):
        await trio.lowlevel.checkpoint()


async def checkpoints_of_many_tasks() -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(TASKS):
            nursery.start_soon(checkpoints, TIMES // TASKS)


async def coroutines() -> None:
    async def inner() -> None:
        pass

    for _ in range(TIMES):
        await inner()


async def cost(part: Callable[[], Awaitable[None]]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        await part()
        best = min(best, time.process_time() - began)
    return best / TIMES * 1e6


async def main() -> None:
    print(f"Trio {trio.__version__}, microseconds:")
    for what, part in {
        "to enter and leave a CancelScope": scope,
        "of that, two generator-based context managers": two_context_managers,
        "a checkpoint of the only task": checkpoints,
        f"a checkpoint of one of {TASKS} tasks": checkpoints_of_many_tasks,
        "to call a coroutine that does nothing": coroutines,
    }.items():
        print(f"{await cost(part):6.2f}  {what}")


if __name__ == "__main__":
    trio.run(main)
