"""asyncio's protocols, on uvloop."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from .asyncio_protocols import CANNOT, connect, serve
from .interface import PythonPeer, Samples


def run(main: Callable[[], Coroutine[Any, Any, Samples]]) -> Samples:
    return uvloop.run(main())


PEER = PythonPeer(
    version=f"uvloop {importlib.metadata.version('uvloop')}",
    run=run,
    connect=connect,
    serve=serve,
    cannot=CANNOT,
)
