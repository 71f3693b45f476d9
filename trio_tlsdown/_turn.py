"""Locks that cost nothing while nobody else wants them."""

from __future__ import annotations

import trio


class SendLock:
    """A lock, first come, first served.

    Its uncontended path neither allocates nor yields to the scheduler.
    """

    __slots__ = ("_queue", "locked")

    def __init__(self) -> None:
        self.locked = False
        self._queue: trio.lowlevel.ParkingLot | None = None

    @property
    def contended(self) -> bool:
        """Whether a task is waiting for it."""
        return bool(self._queue)

    async def acquire(self) -> None:
        """Take it; wait only while another task has it.

        Cancellation:
          It was not taken.
        """
        if not self.locked:
            self.locked = True
            return
        if self._queue is None:
            self._queue = trio.lowlevel.ParkingLot()
        await self._queue.park()  # release() has handed it to us

    def release(self) -> None:
        """Hand it to the task that has waited longest; no other can come between."""
        if self._queue:
            self._queue.unpark()
        else:
            self.locked = False


class InProgress:
    """What one task does while others wait for it to be over.

    Enter it with ``with``, when it is not `locked`.
    """

    __slots__ = ("_over", "locked")

    def __init__(self) -> None:
        self.locked = False
        self._over: trio.Event | None = None

    async def wait_released(self) -> None:
        """Wait until the task that is in it leaves it."""
        if self._over is None:
            self._over = trio.Event()
        await self._over.wait()

    def __enter__(self) -> None:
        self.locked = True

    def __exit__(self, *_: object) -> None:
        self.locked = False
        if self._over is not None:
            self._over.set()
            self._over = None
