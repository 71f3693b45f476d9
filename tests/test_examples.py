"""The examples of the docs, run as users run them."""

import os
import runpy
import socket
import ssl
from collections.abc import AsyncIterator, Callable

import pytest
import trio

from harness.process import Program
from tests.servers import HOST, client_of, is_told_goodbye, until
from tests.serving.processes import EXAMPLES, end, example, terminate
from tests.support import (
    NAME,
    TLS13_FIRST,
    Files,
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


@pytest.fixture
async def server(files: Files) -> AsyncIterator[tuple[Program, int]]:
    """graceful_server.py in a process of its own, and its port."""
    async with example("graceful_server", files, 0, GRACE) as program_and_port:
        yield program_and_port


async def said_by(program: Program) -> str:
    """What it has printed since it listens; it must have succeeded."""
    await end(program)
    return program.output.decode()


@needs_posix("SIGTERM")
@pytest.mark.parametrize("version", TLS13_FIRST)
async def test_sigterm_lets_idle_clients_go_with_a_close_notify(
    server: tuple[Program, int], tls: Maker
) -> None:
    program, port = server
    clients = [await client_of(port, tls.version) for _ in range(3)]
    for client in clients:
        await client.send_all(b"hello")
        assert await client.receive_some() == b"hello"
    terminate(program)
    for client in clients:
        await is_told_goodbye(client)
    assert await said_by(program) == "3 complete\n"


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
    server: tuple[Program, int], tls: Maker
) -> None:
    """Idle clients, and those that get what was begun, see a close_notify."""
    program, port = server
    terminated = trio.Event()
    silent = await client_of(port, tls.version, handshake=False)
    idle = await client_of(port, tls.version)
    mute = await client_of(port, tls.version)
    busy = await narrow_client(port, tls.version)
    deaf = await narrow_client(port, tls.version)

    async def ask_and_listen() -> None:
        async with trio.open_nursery() as asking:
            asking.start_soon(busy.send_all, MUCH)
            await terminated.wait()
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
        terminate(program)
        terminated.set()
        began = trio.current_time()
        with trio.fail_after(DEADLINE):
            assert await idle.receive_some() == b""
            assert (await idle.shutdown()).outcome is ShutdownOutcome.COMPLETE
            assert await mute.receive_some() == b""  # and says nothing
            assert await silent.transport_stream.receive_some() == b""
            assert trio.current_time() - began < GRACE
            tally = await said_by(program)
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


def test_a_page_shows_who_takes_half_an_answer_for_a_whole_one(
    half_an_answer: Callable[[int], str],
) -> None:
    page = (EXAMPLES.parent / "how-to" / "truncation.md").read_text("utf-8")
    assert half_an_answer(ssl.OP_IGNORE_UNEXPECTED_EOF) in page


def test_on_other_pythons_sslstream_notices(
    half_an_answer: Callable[[int], str],
) -> None:
    _, sslstream, tlsstream = half_an_answer(0).split("Stream:\n")
    assert "BrokenResourceError: " in sslstream
    assert "TruncatedError: " in tlsstream


@needs_posix("SIGTERM")
async def test_sigterm_ends_a_server_without_clients_at_once(
    server: tuple[Program, int],
) -> None:
    program, _ = server
    assert await said_by(program) == ""
