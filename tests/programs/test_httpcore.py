"""httpcore, which httpx stands on: with TLSStream in trio.SSLStream's place.

Its tests also run on the network backend of `trio_tlsdown.contrib.httpcore`, which has
tests of its own in tests/contrib.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE, STDOUT

import pytest
import trio

from harness.process import PATIENCE
from tests.interop.programs import require, require_module
from tests.servers import HOST, Stream, port_of, serving, until
from tests.support import Maker, client_context
from trio_tlsdown import TLSStream

require_module("httpcore")

import httpcore

OK = b"HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n"
PLUGIN = Path(__file__).parent / "plugin"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The source of the httpcore that is installed, for only that has its tests."""
    name = f"httpcore-{importlib.metadata.version('httpcore')}"
    archive = require(f"{sys.prefix}/sources/{name}.tar.gz", os.F_OK)  # by `make peers`
    assert run("tarfile", "--extract", archive, str(tmp_path)).returncode == 0
    return tmp_path / name


def run(*module: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a module of this Python, which knows nothing of the tests that run now."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("COV", "PYTEST"))
    }
    return subprocess.run(  # noqa: S603 - ours
        [sys.executable, "-m", *module],
        cwd=cwd,
        env=environment | {"PYTHONPATH": str(PLUGIN)},
        stdout=PIPE,
        stderr=STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize("plugin", ["in_place_of_sslstream", "in_place_of_triobackend"])
def test_the_tests_of_httpcore_pass(source: Path, plugin: str) -> None:
    suite = run(
        *("pytest", "-p", "httpcore_suite", "-p", plugin, "-k", "trio"),
        *("tests/_async", "tests/test_cancellations.py"),
        cwd=source,
    )
    assert suite.returncode == 0, suite.stdout
    made = re.search(r"(\d+) TLSStreams were made", suite.stdout)
    assert made is not None
    assert int(made[1]) > 0
    passed = re.search(r"(\d+) passed", suite.stdout)
    assert passed is not None
    assert int(passed[1]) > 50


async def answer(stream: Stream) -> None:
    """As a web server that keeps connections alive."""
    request = b""
    async for chunk in stream:
        request += chunk
        while b"\r\n\r\n" in request:
            head, _, request = request.partition(b"\r\n\r\n")
            body = head.split()[1]
            length = str(len(body)).encode()
            await stream.send_all(OK % length + body)


async def test_httpcore_finds_what_it_needs_on_a_stream(
    tls: Maker, in_place: None
) -> None:
    async with serving(tls.version, answer) as (_, server):
        url = f"https://{HOST}:{port_of(server)}"
        context = client_context(tls.version)
        async with httpcore.AsyncConnectionPool(ssl_context=context) as pool:
            first = await pool.request("GET", f"{url}/first")
            second = await pool.request("GET", f"{url}/second")
            assert (first.content, second.content) == (b"/first", b"/second")
            stream = second.extensions["network_stream"]
            assert isinstance(stream._stream, TLSStream)
            assert stream.get_extra_info("ssl_object").version() == tls.version
            assert stream.get_extra_info("server_addr") == server.addresses[0]
            assert not stream.get_extra_info("is_readable")
    assert sum(server.tally.values()) == 1  # one connection was enough


async def test_httpcore_reconnects_to_a_server_that_let_an_idle_connection_go(
    tls: Maker, in_place: None
) -> None:
    """The pool looks whether a connection is readable, before it uses it again."""

    # With the answer in one segment, the end would not be left for the pool to see.
    answered = trio.Semaphore(0)

    async def answer_once(stream: Stream) -> None:
        await stream.receive_some()
        await stream.send_all(OK % b"2" + b"ok")
        await answered.acquire()

    async with serving(tls.version, answer_once) as (_, server):
        url = f"https://{HOST}:{port_of(server)}"
        context = client_context(tls.version)
        async with httpcore.AsyncConnectionPool(ssl_context=context) as pool:
            for _ in range(2):
                assert (await pool.request("GET", url)).content == b"ok"
                answered.release()
                await until(lambda: all(c.has_expired() for c in pool.connections))
    assert sum(server.tally.values()) == 2
