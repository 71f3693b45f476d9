"""What one repetition of a workload took."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lap:
    """Seconds on the wall, and of CPU (user and system) in the measured process."""

    seconds: float
    cpu: float


class Stopwatch:
    """Runs from the moment it is made."""

    def __init__(self) -> None:
        self._cpu = time.process_time()
        self._wall = time.perf_counter()

    def lap(self) -> Lap:
        wall = time.perf_counter() - self._wall
        return Lap(wall, time.process_time() - self._cpu)
