"""The examples of the docs, run as users run them."""

import os
import runpy
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.servers import HOST, client_of, until
from tests.support import (
    CERT,
    NAME,
    TLS13_FIRST,
    Maker,
    client_context,
    must_raise,
    needs_posix,
    unread,
)
from trio_tlsdown import ShutdownOutcome, TLSStream, testing

from .cuts import strict

GRACE = 1.5  # seconds
DEADLINE = 2 * GRACE  # which the example promises
ROOM = 2**12  # bytes
MUCH = os.urandom(2**18)

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"


class Server:
    """graceful_server.py in a process of its own."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._output = bytearray()
        self.terminated = trio.Event()

    async def port(self) -> int:
        assert self._process.stdout is not None
        while b"\n" not in self._output:
            chunk = await self._process.stdout.receive_some()
            assert chunk, "it did not start"
            self._output += chunk
        return int(self._output.split()[-1])

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self.terminated.set()

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
        str(GRACE),
    ]
    async with trio.open_nursery() as nursery:
        process = await nursery.start(
            partial(trio.run_process, command, stdout=subprocess.PIPE, check=False)
        )
        try:
            with trio.fail_after(60):
                yield Server(process)
        finally:
            process.kill()  # if it runs still, it may ignore another SIGTERM


@needs_posix("SIGTERM")
@pytest.mark.parametrize("version", TLS13_FIRST)
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


async def narrow_client(port: int, version: str) -> TLSStream[trio.SocketStream]:
    """One whose kernel takes little that it has not read."""
    sock = trio.socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
    await sock.connect((HOST, port))
    context = client_context(version)
    return TLSStream(trio.SocketStream(sock), context, server_hostname=NAME)


def is_clogged(client: TLSStream[trio.SocketStream]) -> bool:
    return unread(client.transport_stream.socket) >= ROOM // 2


@needs_posix("SIGTERM")
@pytest.mark.parametrize("version", TLS13_FIRST)
async def test_sigterm_ends_the_server_in_time_whatever_its_clients_do(
    server: Server, tls: Maker
) -> None:
    """Idle clients, and those that get what was begun, see a close_notify."""
    port = await server.port()
    silent = await client_of(port, tls.version, handshake=False)
    idle = await client_of(port, tls.version)
    mute = await client_of(port, tls.version)
    busy = await narrow_client(port, tls.version)
    deaf = await narrow_client(port, tls.version)

    async def ask_and_listen() -> None:
        async with trio.open_nursery() as asking:
            asking.start_soon(busy.send_all, MUCH)
            await server.terminated.wait()
            answer = b"".join([chunk async for chunk in busy])
        assert len(answer) > ROOM
        assert MUCH.startswith(answer)
        assert (await busy.shutdown()).outcome is ShutdownOutcome.COMPLETE

    async with trio.open_nursery() as nursery:
        too_much = MUCH * 64  # for kernels
        nursery.start_soon(
            must_raise, trio.BrokenResourceError, deaf.send_all, too_much
        )
        nursery.start_soon(ask_and_listen)
        await until(lambda: is_clogged(deaf) and is_clogged(busy))
        server.terminate()
        began = trio.current_time()
        with trio.fail_after(DEADLINE):
            assert await idle.receive_some() == b""
            assert (await idle.shutdown()).outcome is ShutdownOutcome.COMPLETE
            assert await mute.receive_some() == b""  # and says nothing
            assert await silent.transport_stream.receive_some() == b""
            assert trio.current_time() - began < GRACE
            tally = await server.end()
        assert trio.current_time() - began >= GRACE  # which the deaf one took
    assert set(tally.splitlines()) == {"2 complete", "2 aborted"}
    for client in (silent, idle, mute, busy, deaf):
        await trio.aclose_forcefully(client)


@pytest.fixture
def half_an_answer(capsys: pytest.CaptureFixture[str]) -> Callable[[int], str]:
    """What the example prints, with these options of `ssl` or without."""
    main = runpy.run_path(str(EXAMPLES / "half_an_answer.py"))["main"]

    def printed(options: int) -> str:
        context = strict(testing.client_context())
        context.options |= options
        trio.run(main, context)
        return capsys.readouterr().out

    return printed


def test_readme_shows_who_takes_half_an_answer_for_a_whole_one(
    half_an_answer: Callable[[int], str],
) -> None:
    readme = (EXAMPLES.parents[1] / "README.md").read_text("utf-8")
    assert half_an_answer(ssl.OP_IGNORE_UNEXPECTED_EOF) in readme


def test_on_other_pythons_sslstream_notices(
    half_an_answer: Callable[[int], str],
) -> None:
    _, sslstream, tlsstream = half_an_answer(0).split("Stream:\n")
    assert "BrokenResourceError: " in sslstream
    assert "TruncatedError: " in tlsstream


@needs_posix("SIGTERM")
async def test_sigterm_ends_a_server_without_clients_at_once(server: Server) -> None:
    await server.port()
    server.terminate()
    assert await server.end() == ""
