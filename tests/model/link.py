"""A cable between two network namespaces, as bad as a test wants it.

At each end is a TUN device. What the kernel sends into one, a thread takes, and gives to
the other one: late, in another order, twice, or never. That takes root, and no module
that a kernel may lack, as netem is.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import os
import random
import select
import struct
import threading
import time
from contextlib import suppress
from typing import Final

import attrs

TUN: Final = "/dev/net/tun"
TUNSETIFF: Final = 0x400454CA
IFF_TUN: Final = 0x0001
IFF_NO_PI: Final = 0x1000  # packets as they are
LARGEST: Final = 2**16
LOOK: Final = 0.05  # seconds between looks at whether the test is over


def tun(name: str) -> int:
    """Make a device in the namespace of this thread, and open its other side."""
    device = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
    request = struct.pack("16sH14x", name.encode(), IFF_TUN | IFF_NO_PI)
    fcntl.ioctl(device, TUNSETIFF, request)
    return device


@attrs.frozen
class Trouble:
    """What a cable does to packets; chances are from 0 to 1."""

    delay: float = 0.0
    """Seconds, for each."""

    loss: float = 0.0
    reordering: float = 0.0
    """The chance to be overtaken by what comes within a `delay`."""

    doubling: float = 0.0


class Link:
    """Forwards packets from each of two devices to the other one."""

    def __init__(self, devices: tuple[int, int], seed: int) -> None:
        self.trouble = Trouble()
        self._other = dict(zip(devices, reversed(devices), strict=True))
        self._rng = random.Random(seed)  # noqa: S311 - to be the same each time
        self._due: list[tuple[float, int, int, bytes]] = []
        self._numbers = itertools.count()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._forward)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        for device in self._other:
            os.close(device)

    def _forward(self) -> None:
        while not self._over.is_set():
            wait = LOOK
            if self._due:
                wait = min(wait, max(self._due[0][0] - time.monotonic(), 0))
            readable, _, _ = select.select(list(self._other), [], [], wait)
            for device in readable:
                with suppress(OSError):  # it is down
                    self._take(os.read(device, LARGEST), self._other[device])
            while self._due and self._due[0][0] <= time.monotonic():
                _, _, device, packet = heapq.heappop(self._due)
                with suppress(OSError):
                    os.write(device, packet)

    def _take(self, packet: bytes, to: int) -> None:
        trouble, chance = self.trouble, self._rng.random
        for _ in range(1 + (chance() < trouble.doubling)):
            if chance() < trouble.loss:
                continue
            delay = trouble.delay * (1 + (chance() < trouble.reordering))
            due = time.monotonic() + delay
            heapq.heappush(self._due, (due, next(self._numbers), to, packet))
