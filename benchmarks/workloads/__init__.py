"""The workloads. Each module has both ends, and its docstring says what is timed.

A module for clients has ``client``, which is measured, and ``serve``, the reference
server. One for servers has ``run``, the reference clients; the server echoes.
"""

from __future__ import annotations

import importlib
from types import ModuleType


def module_of(kind: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{kind.replace('-', '_')}")
