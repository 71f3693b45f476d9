"""Limiting the connections of a server that have completed their handshake."""

from __future__ import annotations

import math
from typing import Final

import trio

# How long a slot is kept for a client that was accepted, in seconds. Its ClientHello comes
# right behind, so one that is silent must not keep others waiting for longer.
SILENT_TIME: Final = 0.05
# How long one is kept for a handshake. It takes one round trip; after a longer one the
# client may have to wait for a slot.
HANDSHAKE_TIME: Final = 0.5


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
        # For how long, for whom, and until when; soonest first.
        self._reserved: dict[float, dict[object, float]] = {
            SILENT_TIME: {},
            HANDSHAKE_TIME: {},
        }
        self._changed = trio.lowlevel.ParkingLot()

    def reserve(self, owner: object, seconds: float) -> None:
        """Reserve a slot for *owner*, or prolong that, if one is free."""
        self._withdraw(owner)
        if self._has_free():
            self._reserved[seconds][owner] = trio.current_time() + seconds

    def _withdraw(self, owner: object) -> None:
        for kind in self._reserved.values():
            kind.pop(owner, None)

    async def take(self, owner: object) -> None:
        """Take the reserved slot, or else wait until one is free."""
        self._withdraw(owner)  # then its slot is free
        await self.wait_free()
        self._taken.add(owner)

    def release(self, owner: object) -> None:
        """Release the slot that *owner* has reserved or taken."""
        self._taken.discard(owner)
        self._withdraw(owner)
        self._changed.unpark_all()

    async def wait_free(self) -> None:
        """Wait until a slot is neither taken nor reserved."""
        while not self._has_free():
            ends = (
                next(iter(ends.values()), math.inf) for ends in self._reserved.values()
            )
            with trio.move_on_at(min(ends)):
                await self._changed.park()

    def _has_free(self) -> bool:
        self._forget_old_reservations()
        return len(self._taken) + sum(map(len, self._reserved.values())) < self._count

    def _forget_old_reservations(self) -> None:
        now = trio.current_time()
        for kind in self._reserved.values():
            while kind and now >= next(iter(kind.values())):
                del kind[next(iter(kind))]
