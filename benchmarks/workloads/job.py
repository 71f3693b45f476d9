"""What a program is asked to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Job:
    kind: str
    """One of the protocol's: which file of this folder."""
    repeat: int
    """How many laps; of ``hold``, how many connections."""
    size: int = 1
    """Bytes of data in a lap, or of one message."""
    piece: int = 0
    """Bytes of one read or send; 0 is the stack's default."""
    one_core: bool = False
    """Whether both ends share a core. An idle core sleeps, and to wake it takes longer
    than what is measured: who is slow enough to find the answer there would win."""

    @property
    def arguments(self) -> list[str]:
        return [str(self.repeat), str(self.size), str(self.piece)]
