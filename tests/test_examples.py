"""The examples of the docs, run as users run them."""

import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import trio

from trio_tlsdown import ShutdownOutcome

from .serving import client_of
from .support import CERT, Maker

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"


class Server:
    """graceful_server.py in a process of its own."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._output = bytearray()

    async def port(self) -> int:
        assert self._process.stdout is not None
        while b"\n" not in self._output:
            chunk = await self._process.stdout.receive_some()
            assert chunk, "it did not start"
            self._output += chunk
        return int(self._output.split()[-1])

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    async def end(self) -> str:
        """What it has printed since it listens; it must have succeeded."""
        assert self._process.stdout is not None
        rest = b"".join([chunk async for chunk in self._process.stdout])
        assert await self._process.wait() == 0
        return rest.decode()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    CERT.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    CERT.private_key_pem.write_to_path(tmp_path / "key.pem")
    command = [
        sys.executable,
        EXAMPLES / "graceful_server.py",
        tmp_path / "cert.pem",
        tmp_path / "key.pem",
        "0",
    ]
    async with trio.open_nursery() as nursery:
        process = await nursery.start(
            partial(trio.run_process, command, stdout=subprocess.PIPE, check=False)
        )
        with trio.fail_after(60):
            yield Server(process)
        nursery.cancel_scope.cancel()


async def test_sigterm_lets_idle_clients_go_with_a_close_notify(
    server: Server, tls: Maker
) -> None:
    port = await server.port()
    clients = [await client_of(port, tls.version) for _ in range(3)]
    for client in clients:
        await client.send_all(b"hello")
        assert await client.receive_some() == b"hello"
    server.terminate()
    for client in clients:
        assert await client.receive_some() == b""
        report = await client.shutdown()
        assert report.outcome is ShutdownOutcome.COMPLETE
        await client.aclose()
    assert await server.end() == "3 complete\n"


async def test_sigterm_without_clients_ends_it_at_once(server: Server) -> None:
    await server.port()
    server.terminate()
    assert await server.end() == ""
