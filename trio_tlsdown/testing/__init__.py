"""What tests need to see how a program takes the bad endings of a connection.

It comes with the extra ``testing``.
"""

from ._faulty import (
    Cut as Cut,
    Delay as Delay,
    Direction as Direction,
    Fault as Fault,
    FaultyStream as FaultyStream,
    Rechunk as Rechunk,
    Reset as Reset,
    Stall as Stall,
)
from ._forge import RecordForge as RecordForge
