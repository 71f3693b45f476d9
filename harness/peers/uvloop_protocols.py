"""asyncio's protocols, on uvloop."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import uvloop

from . import asyncio_protocols
from .interface import T


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return uvloop.run(main())


PEER = replace(
    asyncio_protocols.PEER,
    version=f"uvloop {importlib.metadata.version('uvloop')}",
    run=run,
)
