"""Whether other programs ran on the cores of a measurement.

The kernel counts how long each core was busy. What remains when the CPU time of our own
programs is subtracted belonged to others, or was stolen by the machine's host.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import psutil

FOREIGN_LIMIT: Final = 0.05  # of the time, as a share of one core
STEAL_LIMIT: Final = 0.02

# The kernel counts in ticks, on each core and for several kinds of time.
TICK: Final = 1 / os.sysconf("SC_CLK_TCK")
SLACK: Final = 0.05  # seconds on each core


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What did not belong to a measurement."""

    foreign: float
    """The time that others ran on its cores, as a share of one core."""
    steal: float
    """The time that the machine's host took away, likewise."""

    @property
    def reason(self) -> str | None:
        """Why the measurement is disturbed; None if it is not."""
        if self.foreign > FOREIGN_LIMIT:
            return f"others had {self.foreign:.0%} of a core"
        if self.steal > STEAL_LIMIT:
            return f"the host stole {self.steal:.0%} of a core"
        return None


def _own() -> float:
    """CPU seconds of this process, and of those that it started and that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


class Watch:
    """Watches cores, from the moment it is made until all our programs have ended."""

    def __init__(self, cores: Collection[int]) -> None:
        self._cores = cores
        self._began = time.perf_counter()
        self._own_before = _own()
        self._busy_before, self._stolen_before = self._count()

    def _count(self) -> tuple[float, float]:
        """Seconds that programs ran on our cores, and that were stolen from them."""
        times = psutil.cpu_times(percpu=True)
        cores = [times[core] for core in self._cores]
        busy = sum(core.user + core.nice + core.system for core in cores)
        return busy, sum(core.steal for core in cores)

    def end(self) -> Disturbance:
        elapsed = time.perf_counter() - self._began
        busy, stolen = self._count()
        own = _own() - self._own_before
        cores = len(self._cores)
        foreign = busy - self._busy_before - own - SLACK * cores
        steal = stolen - self._stolen_before - TICK * cores
        return Disturbance(max(0.0, foreign) / elapsed, max(0.0, steal) / elapsed)
