"""What one repetition of a workload took."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds of wall time, and of CPU time (user and system) of the measured process."""

    seconds: float
    cpu: float


Samples: TypeAlias = list[Sample]


class Stopwatch:
    """Runs from the moment it is made."""

    def __init__(self) -> None:
        self._cpu = time.process_time()
        self._wall = time.perf_counter()

    def sample(self) -> Sample:
        wall = time.perf_counter() - self._wall
        return Sample(wall, time.process_time() - self._cpu)
