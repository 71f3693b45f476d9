"""Our client and PostgreSQL; psql and our server. TLS begins with an SSLRequest.

https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
import pytest
import trio

from harness.process import PATIENCE, Program, running, stop_other
from tests.support import NAME, Maker, client_context, server_context
from trio_tlsdown import TLSStream, TruncatedError

from . import parts, we
from .data import DATA, digest
from .endings import Saw, check
from .programs import require
from .rows import RealProgram
from .servers import HOST, certificate_authority, key_and_certificate, reserved_port

MUCH = (DATA * 4).hex().encode()

# It refuses to run as root.
USER = "postgres" if os.getuid() == 0 else None
NO_GROUPS: list[int] | None = [] if USER else None

SSL_REQUEST = struct.pack("!II", 8, 80877103)


def message(kind: bytes, content: bytes = b"") -> bytes:
    return kind + struct.pack("!I", 4 + len(content)) + content


STARTUP = message(
    b"", struct.pack("!I", 3 << 16) + b"user\0name\0database\0postgres\0\0"
)
TERMINATE = message(b"X")
READY = message(b"Z", b"I")


def query(text: bytes) -> bytes:
    return message(b"Q", text + b"\0")


# Where Debian puts it.
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
SERVER = RealProgram("PostgreSQL", "server", str(Path("/", *PROGRAMS[-1:], "postgres")))
CLIENT = RealProgram("psql", "client", "psql")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A PostgreSQL for all tests: it starts slowly."""
    postgres = require(SERVER.command)
    with TemporaryDirectory() as name, reserved_port() as port:
        folder = Path(name)
        data = folder / "data"
        pem = key_and_certificate(folder)
        for path in (folder, pem):
            shutil.chown(path, USER or os.getuid())
        subprocess.run(  # noqa: S603 - found by us
            [
                *(str(Path(postgres).with_name("initdb")), "-D", str(data)),
                *("-U", "name", "--auth=trust", "--no-sync", "--no-locale"),
                *("-E", "UTF8"),
            ],
            check=True,
            capture_output=True,
            timeout=PATIENCE,
            user=USER,
            group=USER,
            extra_groups=NO_GROUPS,
        )
        settings = (
            f"port={port}",
            f"listen_addresses={HOST}",
            f"unix_socket_directories={folder}",
            "ssl=on",
            f"ssl_cert_file={pem}",
            f"ssl_key_file={pem}",
            "fsync=off",
        )
        with subprocess.Popen(  # noqa: S603 - likewise
            [
                *(postgres, "-D", str(data)),
                *(word for setting in settings for word in ("-c", setting)),
            ],
            stderr=subprocess.PIPE,
            text=True,
            user=USER,
            group=USER,
            extra_groups=NO_GROUPS,
        ) as process:
            assert process.stderr is not None
            next(line for line in process.stderr if "ready to accept" in line)
            yield port
            process.send_signal(signal.SIGINT)  # at once, and clients are told
            process.communicate(timeout=PATIENCE)


@asynccontextmanager
async def session(port: int, version: str) -> AsyncIterator[we.Stream]:
    while True:
        stream = await connect(port, version)
        async with stream:
            await stream.send_all(STARTUP)
            if (await until_ready(stream)).endswith(READY):
                yield stream
                return
        await trio.sleep(0.05)  # it recovers: an earlier session was killed


@pytest.fixture
async def ours(tls: Maker, port: int) -> AsyncIterator[we.Stream]:
    """A session of a client of ours."""
    async with session(port, tls.version) as stream:
        yield stream


async def connect(port: int, version: str) -> we.Stream:
    while True:
        transport = await trio.open_tcp_stream(HOST, port)
        with suppress(trio.BrokenResourceError):
            await transport.send_all(SSL_REQUEST)
            # Nothing else: https://www.postgresql.org/support/security/CVE-2021-23222/
            if await transport.receive_some() == b"S":
                return TLSStream(
                    transport, client_context(version), server_hostname=NAME
                )
        # While it recovers from a killed session it resets new connections.
        await transport.aclose()  # pragma: no cover - it is seldom that slow
        await trio.sleep(0.05)  # pragma: no cover - likewise


async def until_ready(ours: we.Stream) -> bytes:
    """What it sends until it is ready, or ends."""
    data = bytearray()
    while not data.endswith(READY) and (more := await ours.receive_some()):
        data += more
    return bytes(data)


async def terminate(ours: we.Stream) -> None:
    await ours.send_all(TERMINATE)
    assert await ours.receive_some() == b""
    await ours.shutdown()


async def have_it_end_the_session(ours: we.Stream) -> None:
    await ours.send_all(query(b"SELECT pg_terminate_backend(pg_backend_pid())"))
    received = b"".join([chunk async for chunk in ours])
    assert b"terminating connection" in received
    await ours.shutdown()


async def pid_of(ours: we.Stream) -> int:
    """The process of this session. When it is killed, all sessions end:
    https://www.postgresql.org/docs/15/server-shutdown.html.
    """
    await ours.send_all(query(b"SELECT pg_backend_pid()"))
    found = re.search(
        rb"\x00\x01\x00\x00\x00.(\d+)C", await until_ready(ours), re.DOTALL
    )
    assert found is not None
    return int(found[1])


async def kill_it(ours: we.Stream) -> None:
    os.kill(await pid_of(ours), signal.SIGKILL)
    with pytest.raises(TruncatedError):
        await ours.receive_some()
    await ours.shutdown()


async def kill_it_before_it_reads(ours: we.Stream) -> None:
    pid = await pid_of(ours)
    stop_other(pid)
    await ours.shutdown(wait=False)
    os.kill(pid, signal.SIGKILL)
    await ours.shutdown()


async def kill_it_inside_a_record(ours: we.Stream) -> None:
    pid = await pid_of(ours)
    await ours.send_all(query(b"SELECT repeat('x', 1 << 25)"))
    await we.wait_until_no_more_comes(ours)
    os.kill(pid, signal.SIGKILL)
    await we.read_to_a_cut_record(ours)


async def half_close(ours: we.Stream) -> None:
    """On TLS 1.2 it does the same as on TLS 1.3."""
    await ours.send_all(query(b"SELECT 'late' FROM pg_sleep(0.05)"))
    await ours.send_eof(allow_tls12=True)
    assert b"late" in b"".join([chunk async for chunk in ours])
    await ours.shutdown()


Part = Callable[[we.Stream], Awaitable[None]]


@attrs.define
class Nobody:
    """The server outlives each session."""

    ended: trio.Event = attrs.field(factory=trio.Event)


def alone(play: we.Part) -> Part:
    return lambda ours: play(ours, Nobody())


# As RFC 9846 section 6.1 and RFC 5246 section 7.2.1 ask.
PARTS: dict[str, tuple[Part, str]] = {
    "we terminate": (terminate, "4B"),
    "it ends the session": (have_it_end_the_session, "4B"),
    "we shut down": (alone(we.shut_down), "3A"),
    "we half-close": (half_close, "3A"),
    "we close without waiting": (alone(we.shut_down_and_close_at_once), "4A"),
    "we cut": (alone(we.close_the_transport), "1B"),
    "we cut a record": (alone(we.cut_a_record), "1B"),
    "we reset": (alone(we.reset_it), "1B"),
    "it is killed": (kill_it, "1A"),
    "it is killed before it reads": (kill_it_before_it_reads, "2A reset"),
    "it is killed inside a record": (kill_it_inside_a_record, "1A"),
}


@pytest.mark.parametrize("part", PARTS)
async def test_postgresql_and_we_agree_how_it_ended(
    tls: Maker, ours: we.Stream, port: int, part: str
) -> None:
    play, cell = PARTS[part]
    async with session(port, tls.version) as witness:
        await play(ours)
        if "killed" in part:
            # Who connects before the server has noticed would be ended as well.
            with suppress(trio.BrokenResourceError):
                await witness.receive_some()
    check(ours.report, cell)
    await ours.aclose()
    check(ours.report, cell)
    SERVER.ended(tls.version, part, ours.report)


async def test_a_big_answer_arrives_when_postgresql_closes_right_after_it(
    tls: Maker, ours: we.Stream
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.send_all, query(b"SELECT '%s'" % MUCH) + TERMINATE)
        received = b"".join([chunk async for chunk in ours])
    [_, start, rest] = received.partition(struct.pack("!I", len(MUCH)))
    assert start
    assert digest(rest[: len(MUCH)]) == digest(MUCH)
    assert rest.endswith(READY)
    await ours.shutdown()
    check(ours.report, "4B")
    for part in ("8 MiB to it", "8 MiB from it"):
        SERVER.ended(tls.version, part, ours.report)


# psql:


async def answer(ours: we.Stream, program: Program, rows: bytes = b"") -> None:
    await ours.send_all(rows + message(b"C", b"SELECT 1\0") + READY)
    assert await ours.receive_some() == TERMINATE
    assert await ours.receive_some() == b""
    await ours.shutdown()


async def answer_much(ours: we.Stream, program: Program) -> None:
    # https://www.postgresql.org/docs/current/protocol-message-formats.html
    text = struct.pack("!IHIhih", 0, 0, 25, -1, -1, 0)
    described = message(b"T", struct.pack("!H", 1) + b"name\0" + text)
    row = message(b"D", struct.pack("!HI", 1, len(MUCH)) + MUCH)
    await answer(ours, program, described + row)


LOST = 2  # https://www.postgresql.org/docs/current/app-psql.html (exit status)
KILLED = -9
SAW = {0: Saw.CLOSE_NOTIFY, LOST: Saw.FAILED, KILLED: Saw.NOTHING}
ONE = query(b"SELECT 1;")
CLI: dict[str, tuple[parts.Part, str, int, bytes]] = {
    "it terminates": (answer, "4B", 0, ONE),
    "we shut down": (we.shut_down, "3A", LOST, ONE),
    "we close without waiting": (we.shut_down_and_close_at_once, "4A", LOST, ONE),
    "we cut": (we.close_the_transport, "1B", LOST, ONE),
    "we cut a record": (we.cut_a_record, "1B", LOST, ONE),
    "we reset": (we.reset_it, "1B", LOST, ONE),
    "it is killed": (parts.kill_it, "1A", KILLED, ONE),
    "it is killed before it reads": (
        parts.kill_it_before_it_reads,
        "2A reset",
        KILLED,
        ONE,
    ),
    "it is killed inside a record": (
        parts.kill_it_inside_a_record,
        "1A",
        KILLED,
        query(b"SELECT '%s';" % MUCH),
    ),
    "8 MiB to it": (answer_much, "4B", 0, ONE),
    "8 MiB from it": (answer, "4B", 0, query(b"SELECT '%s';" % MUCH)),
}


@pytest.mark.parametrize("part", CLI)
async def test_psql_and_we_agree_how_it_ended(
    tls: Maker, tmp_path: Path, part: str
) -> None:
    play, cell, code, asked = CLI[part]
    [listener] = await trio.open_tcp_listeners(0, host=HOST)
    uri = (
        f"postgresql://name@{NAME}:{listener.socket.getsockname()[1]}/postgres"
        f"?hostaddr={HOST}&sslmode=verify-full"
        f"&sslrootcert={certificate_authority(tmp_path)}"
    )
    async with listener, running(require("psql"), uri, "-At") as program:
        transport = await listener.accept()
        assert await transport.receive_some() == SSL_REQUEST
        await transport.send_all(b"S")
        async with TLSStream(
            transport, server_context(tls.version), server_side=True
        ) as ours:
            assert b"user\0name\0" in await ours.receive_some()
            await ours.send_all(message(b"R", bytes(4)) + READY)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(program.type_all, asked[5:-1])
                if "inside" not in part:
                    assert await we.receive(ours, len(asked)) == asked
                await play(ours, program)
            check(ours.report, cell)
            await program.ended.wait()
    assert program.process.returncode == code, program.log.decode()
    assert (MUCH in program.output) is (part == "8 MiB to it")
    CLIENT.ended(tls.version, part, ours.report, SAW[code])
