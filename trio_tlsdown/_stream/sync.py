"""Locks that are free while uncontended, and detectors of conflicting tasks."""

from __future__ import annotations

import trio


class SendLock:
    """A first-come, first-served lock.

    Its uncontended path neither allocates nor yields to the scheduler.
    """

    __slots__ = ("_queue", "locked")

    def __init__(self) -> None:
        self.locked = False
        self._queue: trio.lowlevel.ParkingLot | None = None

    @property
    def contended(self) -> bool:
        """Whether a task is waiting for the lock."""
        return bool(self._queue)

    async def acquire(self) -> None:
        """Take the lock. Only waits while another task holds it.

        Cancellation:
          The lock was not taken.
        """
        if not self.locked:
            self.locked = True
            return
        if self._queue is None:
            self._queue = trio.lowlevel.ParkingLot()
        await self._queue.park()  # release() hands it over

    def release(self) -> None:
        """Hand the lock to the task that has waited longest, if any."""
        if self._queue:
            self._queue.unpark()
        else:
            self.locked = False


class InProgress:
    """Something that one task does and others may wait for.

    Enter it with ``with``, when it is not `locked`.
    """

    __slots__ = ("_over", "locked")

    def __init__(self) -> None:
        self.locked = False
        self._over: trio.Event | None = None

    async def wait_released(self) -> None:
        """Wait until the task inside leaves."""
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


class ConflictDetector:
    """A context manager for one task at a time; a second gets BusyResourceError."""

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
    """Admits one task that sends data, or any number that end the direction.

    Attributes:
      endings: How many tasks are sending close_notify.
    """

    __slots__ = ("endings",)

    def __init__(self) -> None:
        super().__init__("sending data on")
        self.endings = 0

    @property
    def sending(self) -> bool:
        """Whether a task is sending data."""
        return self.busy and not self.endings

    def check(self) -> None:
        """Raise if a task is inside.

        Raises:
          trio.BusyResourceError: it is sending data.
          trio.ClosedResourceError: it is sending close_notify; nothing can follow.
        """
        if self.endings:
            raise trio.ClosedResourceError("another task is ending this TLSStream")
        super().check()

    def check_sending(self) -> None:
        """Raise `trio.BusyResourceError` if a task is sending data."""
        if self.sending:
            super().check()

    def ending(self) -> Ending:
        """Exclude senders of data while close_notify is being sent."""
        return Ending(self)


class Ending:
    """The context manager of `SendConflictDetector.ending`.

    Not a generator: closing would notice its cost.
    """

    __slots__ = ("_sends",)

    def __init__(self, sends: SendConflictDetector) -> None:
        self._sends = sends

    def __enter__(self) -> None:
        self._sends.check_sending()
        self._sends.busy = True
        self._sends.endings += 1

    def __exit__(self, *_: object) -> None:
        self._sends.endings -= 1
        self._sends.busy = self._sends.endings > 0
