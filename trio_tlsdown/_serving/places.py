"""The places of a server that are for clients who have shaken hands."""

from __future__ import annotations

import math
from typing import Final

import trio

# How long a client that was accepted has its place kept, in seconds. A handshake takes
# one round trip from there; one that takes longer may wait for a place at its end.
RESERVATION: Final = 0.5


class Places:
    """So many may be taken at a time; see `TLSNursery.start_server`.

    Only who has shaken hands takes one, so silent clients lock nobody out. But one is
    reserved for a moment when a client is accepted: so others wait where they cost
    nothing, in the kernel's backlog, and not behind their handshake.

    Args:
      count: How many there are.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._taken: set[object] = set()
        self._reserved: dict[object, float] = {}  # until when; soonest first
        self._changed = trio.lowlevel.ParkingLot()

    def reserve(self, owner: object) -> None:
        """Keep a place for *owner*, who is about to shake hands, if there is one."""
        if self._has_free():
            self._reserved[owner] = trio.current_time() + RESERVATION

    async def take(self, owner: object) -> None:
        """Take a place, the reserved one if it is still; wait until there is one."""
        self._forget_old_reservations()
        if self._reserved.pop(owner, None) is None:
            await self.wait_free()
        self._taken.add(owner)

    def release(self, owner: object) -> None:
        """Give back what *owner* has reserved or taken."""
        self._taken.discard(owner)
        self._reserved.pop(owner, None)
        self._changed.unpark_all()

    async def wait_free(self) -> None:
        """Wait until there is a place that is neither taken nor reserved."""
        while not self._has_free():
            next_end = next(iter(self._reserved.values()), math.inf)
            with trio.move_on_at(next_end):
                await self._changed.park()

    def _has_free(self) -> bool:
        self._forget_old_reservations()
        return len(self._taken) + len(self._reserved) < self._count

    def _forget_old_reservations(self) -> None:
        now = trio.current_time()
        while self._reserved:
            owner, until = next(iter(self._reserved.items()))
            if now < until:
                return
            del self._reserved[owner]
