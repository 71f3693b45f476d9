"""For pytest: counts the TLSStreams that a test suite makes.

It also stands in for pytest-httpbin, as far as httpcore needs that.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs
import pytest
import trio.testing

import trio_tlsdown
from trio_tlsdown import testing

MADE: list[bool] = []

_init = trio_tlsdown.TLSStream.__init__


def _count(self: Any, *args: Any, **options: Any) -> None:
    MADE.append(True)
    _init(self, *args, **options)


setattr(trio_tlsdown.TLSStream, "__init__", _count)  # noqa: B010


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    # Its deadlines of 10 ms, before which others must sleep, are for a machine that is idle.
    for item in items:
        if item.path.name == "test_cancellations.py":
            clock = trio.testing.MockClock(autojump_threshold=0)
            item.callspec.params["anyio_backend"] = ("trio", {"clock": clock})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"{len(MADE)} TLSStreams were made")


@attrs.frozen
class Httpbin:
    url: str


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _serving(scheme: str) -> Iterator[Httpbin]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        if scheme == "https":
            context = testing.server_context()
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield Httpbin(f"{scheme}://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def httpbin() -> Iterator[Httpbin]:
    with _serving("http") as server:
        yield server


@pytest.fixture
def httpbin_secure() -> Iterator[Httpbin]:
    with _serving("https") as server:
        yield server
