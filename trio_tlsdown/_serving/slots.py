"""Limiting the connections of a server that have completed their handshake."""

from __future__ import annotations

import math
from typing import Final

import trio

# How long a slot is kept for a client that was accepted, in seconds. Its handshake takes
# one round trip from there; after a longer one it may have to wait for a slot.
RESERVATION_TIME: Final = 0.5


class ConnectionSlots:
    """The slots of *max_connections*; see `TLSNursery.start_server`.

    A connection takes one after its handshake, so silent clients cannot use them up. But
    one is reserved for a moment when a client is accepted: so further clients wait in the
    kernel's backlog, where they cost nothing, and not after their handshake.

    Args:
      count: How many slots there are.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._taken: set[object] = set()
        self._reserved: dict[object, float] = {}  # until when; soonest first
        self._changed = trio.lowlevel.ParkingLot()

    def reserve(self, owner: object) -> None:
        """Reserve a slot for *owner*, which was just accepted, if one is free."""
        if self._has_free():
            self._reserved[owner] = trio.current_time() + RESERVATION_TIME

    async def take(self, owner: object) -> None:
        """Take the reserved slot, or else wait until one is free."""
        self._forget_old_reservations()
        if self._reserved.pop(owner, None) is None:
            await self.wait_free()
        self._taken.add(owner)

    def release(self, owner: object) -> None:
        """Release the slot that *owner* has reserved or taken."""
        self._taken.discard(owner)
        self._reserved.pop(owner, None)
        self._changed.unpark_all()

    async def wait_free(self) -> None:
        """Wait until a slot is neither taken nor reserved."""
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
