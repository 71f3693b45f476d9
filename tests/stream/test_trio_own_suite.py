"""Trio's own tests of SSLStream and SSLListener, on TLSStream and TLSListener.

The source is that of the installed Trio; no copy of it is kept. It is compiled
here with one import changed, and pytest collects what it defines.
"""

import ast
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from trio_tlsdown import TLSListener, TLSStream

OURS = {"SSLListener": TLSListener, "SSLStream": TLSStream}

pytestmark = [
    # It leaves memory streams, and one listening socket, to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def _trio_suite_with_ours() -> ast.Module:
    spec = importlib.util.find_spec("trio._tests.test_ssl")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"), spec.origin)
    replaced = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            kept = []
            for name in node.names:
                if name.name in OURS:
                    replaced.add(name.name)
                else:
                    kept.append(name)
            node.names = kept
    assert replaced == set(OURS), "Trio's suite has changed: look at it"
    return tree


SUITE = ModuleType("trio._tests.test_ssl")
SUITE.__package__ = "trio._tests"  # its imports are relative
vars(SUITE).update(OURS)
exec(compile(_trio_suite_with_ours(), "<Trio's test_ssl.py>", "exec"), vars(SUITE))  # noqa: S102
globals().update(
    {name: thing for name, thing in vars(SUITE).items() if not name.startswith("_")}
)


def test_trios_own_suite_runs_on_our_stream_and_listener() -> None:
    assert vars(SUITE)["SSLStream"] is TLSStream
    assert vars(SUITE)["SSLListener"] is TLSListener
