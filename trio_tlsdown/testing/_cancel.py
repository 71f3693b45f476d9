"""Cancel a scenario at each point where it can be cancelled."""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeAlias

import trio

from trio_tlsdown import TLSStream

from ._endings import check_endings, watching

MOST_POINTS: Final = 5000

# Where a process sees its descriptors, if the system shows them.
DESCRIPTORS: Final = Path("/dev/fd")


class Cancellation(trio.abc.Instrument):
    """The part of a scenario that gets cancelled: ``with cancellation: ...``.

    It can be entered once. It works like a `trio.CancelScope`: if it was cancelled, the
    scenario goes on after it.
    """

    def __init__(self, point: int) -> None:
        self._left = point
        self._scope = trio.CancelScope()
        self._task: trio.lowlevel.Task | None = None
        self._outside: list[trio.Nursery] = []

    @property
    def cancelled(self) -> bool:
        """Whether the part was cut short. It may also finish although it was cancelled."""
        return self._scope.cancelled_caught

    @property
    def struck(self) -> bool:
        """Whether the point was reached."""
        return self._left < 0

    def __enter__(self) -> Self:
        """Begin to count."""
        if self._task is not None:
            raise RuntimeError("a cancellation can be entered once")
        self._task = trio.lowlevel.current_task()
        self._outside = list(self._task.child_nurseries)
        self._scope.__enter__()
        trio.lowlevel.add_instrument(self)
        self._count()  # before the first step
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Stop counting, and catch the cancellation."""
        trio.lowlevel.remove_instrument(self)
        return self._scope.__exit__(exc_type, exc_value, traceback)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count: it goes on, and what it waited for has happened."""
        if self._concerns(task):
            self._count()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count: it waits."""
        if self._concerns(task):
            self._count()

    def _concerns(self, task: trio.lowlevel.Task) -> bool:
        while task is not self._task:
            nursery = task.parent_nursery
            if nursery is None or nursery in self._outside:
                return False
            task = nursery.parent_task
        return True

    def _count(self) -> None:
        if self._left == 0:
            self._scope.cancel()
        self._left -= 1


Scenario: TypeAlias = (
    Callable[[Cancellation], Awaitable[object]] | Callable[[], Awaitable[object]]
)


async def cancel_everywhere(scenario: Scenario) -> int:
    """Run a scenario again and again, cancelled at each possible point.

    A point is each moment when its task, or a task started inside that part, begins to
    wait or goes on. The scenario marks the part to cancel, and then checks what must be
    true wherever it was cancelled::

        async def scenario(cancellation):
            client, server = await memory_tls_pair()
            with cancellation:
                await client.shutdown()
            assert client.report.secure is client.report.close_notify_sent

        await cancel_everywhere(scenario)

    A scenario without a parameter is cancelled as a whole.

    After each run, no task and no descriptor may be left, and `check_endings` must pass
    for each connection that the test kit made in the run. Streams need not be closed.

    Args:
      scenario: An async function that creates everything it needs.

    Returns:
      The number of points at which it was cancelled.

    Raises:
      AssertionError: a check failed, or there was nothing to cancel. Exceptions of the
        scenario are raised too. A note names the point.
    """
    whole = not any(
        parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and parameter.default is parameter.empty
        for parameter in inspect.signature(scenario).parameters.values()
    )
    cancelled = 0
    for point in range(MOST_POINTS):
        cancellation = Cancellation(point)
        run: Callable[..., Awaitable[object]] = scenario
        try:
            if whole:
                await _run(partial(_as_a_whole, run, cancellation))
            else:
                await _run(partial(run, cancellation))
        except BaseException as exc:
            exc.add_note(f"cancelled at point {point} of the scenario")
            raise
        if not cancellation.struck:
            assert cancelled, "there was nothing to cancel"
            return cancelled
        cancelled += cancellation.cancelled
    raise AssertionError(f"the scenario has more than {MOST_POINTS} points")


async def _as_a_whole(
    scenario: Callable[..., Awaitable[object]], cancellation: Cancellation
) -> None:
    with cancellation:
        await scenario()


async def _run(scenario: Callable[..., Awaitable[object]]) -> None:
    tasks, descriptors = _tasks(), _descriptors()
    with watching() as connections:
        await scenario()
    assert _tasks() == tasks, "the scenario has left a task running"
    for one, other in connections:
        await check_endings(one, other)
        for end in (one, other):
            await trio.aclose_forcefully(
                end if isinstance(end, TLSStream) else end.transport
            )
    # Fewer, if garbage of somebody else was collected meanwhile.
    assert _descriptors() <= descriptors, "the scenario has left a descriptor open"


def _tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


def _descriptors() -> int:
    # Where there is no such folder, nothing is left.
    return len(os.listdir(DESCRIPTORS)) if DESCRIPTORS.is_dir() else 0
