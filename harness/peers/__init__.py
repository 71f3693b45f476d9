"""TLS implementations, each used the way its users make it fast.

The labs of ``tests/interop`` and the benchmarks run on the same ones. Those in Python
have the interface of ``interface.py``; a compiled one is a program with both roles.
"""

from __future__ import annotations

import pkgutil

from .interface import PythonPeer


def load(name: str) -> PythonPeer:
    """The peer of ``module`` or ``module:NAME``, in this folder."""
    module, _, variable = name.partition(":")
    found: PythonPeer = pkgutil.resolve_name(
        f"{__name__}.{module}:{variable or 'PEER'}"
    )
    return found
