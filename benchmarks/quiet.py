"""Whether anything else ran meanwhile on the cores of a measurement.

The kernel counts what each core was busy with. What is left, when our programs' own
CPU time is taken off, was somebody else's, or stolen by the machine's host.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOREIGN_LIMIT: Final = 0.05  # of a core's time
STEAL_LIMIT: Final = 0.02
SLACK: Final = 0.05  # seconds: the kernel counts in ticks of 10 ms, on each core

STAT: Final = Path("/proc/stat")
TICK: Final = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What did not belong to a measurement."""

    foreign: float
    """Share of the time that others ran on the busier-with-others of its cores."""
    steal: float
    """Share of the time that the machine's host took away, on the worse core."""

    @property
    def reason(self) -> str | None:
        """Why the measurement is disturbed; None if it is not."""
        if self.foreign > FOREIGN_LIMIT:
            return f"others had {self.foreign:.0%} of a core"
        if self.steal > STEAL_LIMIT:
            return f"the host stole {self.steal:.0%} of a core"
        return None


def cpu_of(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime


class Watch:
    """Watches cores, from the moment it is made."""

    def __init__(self, cores: set[int]) -> None:
        self._cores = cores
        self._before = self._busy()
        self._began = time.perf_counter()

    def _busy(self) -> dict[int, tuple[float, float]]:
        """Seconds of programs, and stolen, for each core."""
        found = {}
        for line in STAT.read_text("ascii").splitlines():
            name, *fields = line.split()
            if name[:3] == "cpu" and name[3:] and int(name[3:]) in self._cores:
                user, nice, system, _, _, _, _, steal = map(int, fields[:8])
                found[int(name[3:])] = ((user + nice + system) * TICK, steal * TICK)
        return found

    def end(self, own: Mapping[int, float]) -> Disturbance:
        """Compare with the CPU seconds that our own programs had on each core."""
        elapsed = time.perf_counter() - self._began
        foreign = steal = 0.0
        for core, (busy, stolen) in self._busy().items():
            busy_before, stolen_before = self._before[core]
            others = busy - busy_before - own.get(core, 0.0) - SLACK
            foreign = max(foreign, others / elapsed)
            steal = max(steal, (stolen - stolen_before - TICK) / elapsed)
        return Disturbance(foreign, steal)
