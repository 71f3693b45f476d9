"""What a program is asked to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    kind: str
    """A module of this package."""
    repeat: int = 1
    """How many samples; of ``echo``, how many messages on each connection."""
    size: int = 1
    """Bytes of data in a sample, or of one message."""
    piece: int = 0
    """Bytes of one read or send; 0 is the implementation's default."""
    connections: int = 0
    """How many connections the measured program serves; 0: it is a client."""
    one_core: bool = False
    """Whether both ends share a core. An idle core sleeps, and waking it takes longer than
    what is measured: an implementation slow enough to find the answer there would win."""

    @property
    def arguments(self) -> list[str]:
        """Of a client, and of the reference peer."""
        return [str(self.repeat), str(self.size), str(self.piece)]
