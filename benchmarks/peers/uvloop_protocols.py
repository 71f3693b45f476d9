"""asyncio's protocols, on uvloop."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from .asyncio_protocols import CANNOT, connect, hold
from .interface import Laps, PythonPeer


def run(main: Callable[[], Coroutine[Any, Any, Laps]]) -> Laps:
    return uvloop.run(main())


PEER = PythonPeer(
    version=f"uvloop {importlib.metadata.version('uvloop')}",
    run=run,
    connect=connect,
    hold=hold,
    cannot=CANNOT,
)
