"""Our client and PostgreSQL; psql and our server. TLS begins with an SSLRequest.

https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL
"""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio

from tests.support import NAME, Maker, client_context, server_context
from trio_tlsdown import TLSStream

from . import we
from .data import DATA, digest
from .endings import Saw, check
from .programs import PATIENCE, require, running
from .rows import RealProgram
from .servers import HOST, certificate_authority, key_and_certificate, reserved_port

MUCH = (DATA * 4).hex().encode()

# It refuses to run as root.
ROOT = os.getuid() == 0
USER = "postgres" if ROOT else os.getuid()
AS_USER = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups") * ROOT

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


# Where Debian has it.
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
SERVER = RealProgram("PostgreSQL", "server", str(Path("/", *PROGRAMS[-1:], "postgres")))
CLIENT = RealProgram("psql", "client", "psql")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Of a PostgreSQL that runs for all tests: it starts slowly."""
    postgres = require(SERVER.command)
    with TemporaryDirectory() as name, reserved_port() as port:
        folder = Path(name)
        data = folder / "data"
        pem = key_and_certificate(folder)
        for path in (folder, pem):
            shutil.chown(path, USER)
        subprocess.run(  # noqa: S603 - found by us
            [
                *(*AS_USER, str(Path(postgres).with_name("initdb")), "-D", str(data)),
                *(
                    "-U",
                    "name",
                    "--auth=trust",
                    "--no-sync",
                    "--no-locale",
                    "-E",
                    "UTF8",
                ),
            ],
            check=True,
            capture_output=True,
            timeout=PATIENCE,
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
                *(*AS_USER, postgres, "-D", str(data)),
                *(word for setting in settings for word in ("-c", setting)),
            ],
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            next(line for line in process.stderr if "ready to accept" in line)
            yield port
            process.send_signal(signal.SIGINT)  # at once, and clients are told
            process.communicate(timeout=PATIENCE)


@pytest.fixture
async def ours(tls: Maker, port: int) -> AsyncIterator[we.Stream]:
    """A session of a client of ours."""
    transport = await trio.open_tcp_stream(HOST, port)
    await transport.send_all(SSL_REQUEST)
    # Nothing else: https://www.postgresql.org/support/security/CVE-2021-23222/
    assert await transport.receive_some() == b"S"
    async with TLSStream(
        transport, client_context(tls.version), server_hostname=NAME
    ) as stream:
        await stream.send_all(STARTUP)
        await until_ready(stream)
        yield stream


async def until_ready(ours: we.Stream) -> bytes:
    data = bytearray()
    while not data.endswith(READY):
        data += await ours.receive_some()
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


async def shut_down(ours: we.Stream) -> None:
    await ours.shutdown()


async def close_without_waiting(ours: we.Stream) -> None:
    await ours.shutdown(wait=False)
    await ours.aclose()


async def cut(ours: we.Stream) -> None:
    await trio.aclose_forcefully(ours)


async def half_close(ours: we.Stream) -> None:
    """It does what TLS 1.3 does, on TLS 1.2 too."""
    await ours.send_all(query(b"SELECT 'late' FROM pg_sleep(0.05)"))
    await ours.send_eof(allow_tls12=True)
    assert b"late" in b"".join([chunk async for chunk in ours])
    await ours.shutdown()


Part = Callable[[we.Stream], Awaitable[None]]
# As RFC 9846 section 6.1 and RFC 5246 section 7.2.1 ask.
PARTS: dict[str, tuple[Part, str]] = {
    "we terminate": (terminate, "4B"),
    "it ends the session": (have_it_end_the_session, "4B"),
    "we shut down": (shut_down, "3A"),
    "we half-close": (half_close, "3A"),
    "we close without waiting": (close_without_waiting, "4A"),
    "we cut": (cut, "1B"),
}


@pytest.mark.parametrize("part", PARTS)
async def test_postgresql_and_we_agree_how_it_ended(
    tls: Maker, ours: we.Stream, part: str
) -> None:
    play, cell = PARTS[part]
    await play(ours)
    check(ours.report, cell)
    await ours.aclose()
    check(ours.report, cell)
    SERVER.ended(tls.version, part, ours.report)


async def test_much_comes_back_right_before_it_closes(ours: we.Stream) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.send_all, query(b"SELECT '%s'" % MUCH) + TERMINATE)
        received = b"".join([chunk async for chunk in ours])
    [_, start, rest] = received.partition(struct.pack("!I", len(MUCH)))
    assert start
    assert digest(rest[: len(MUCH)]) == digest(MUCH)
    assert rest.endswith(READY)
    await ours.shutdown()
    check(ours.report, "4B")


# psql:


async def answer(ours: we.Stream) -> None:
    await ours.send_all(message(b"C", b"SELECT 1\0") + READY)
    assert await ours.receive_some() == TERMINATE
    assert await ours.receive_some() == b""
    await ours.shutdown()


LOST = 2  # https://www.postgresql.org/docs/current/app-psql.html (exit status)
CLI: dict[str, tuple[Part, str, int]] = {
    "it terminates": (answer, "4B", 0),
    "we shut down": (shut_down, "3A", LOST),
    "we cut": (cut, "1B", LOST),
}


@pytest.mark.parametrize("part", CLI)
async def test_psql_and_we_agree_how_it_ended(
    tls: Maker, tmp_path: Path, part: str
) -> None:
    play, cell, code = CLI[part]
    [listener] = await trio.open_tcp_listeners(0, host=HOST)
    uri = (
        f"postgresql://name@{NAME}:{listener.socket.getsockname()[1]}/postgres"
        f"?hostaddr={HOST}&sslmode=verify-full"
        f"&sslrootcert={certificate_authority(tmp_path)}"
    )
    async with listener, running(require("psql"), uri, "-c", "SELECT 1") as program:
        transport = await listener.accept()
        assert await transport.receive_some() == SSL_REQUEST
        await transport.send_all(b"S")
        async with TLSStream(
            transport, server_context(tls.version), server_side=True
        ) as ours:
            assert b"user\0name\0" in await ours.receive_some()
            await ours.send_all(message(b"R", bytes(4)) + READY)
            assert await ours.receive_some() == query(b"SELECT 1")
            await play(ours)
            check(ours.report, cell)
            await program.ended.wait()
    assert program.process.returncode == code, program.log.decode()
    saw = Saw.FAILED if code else Saw.CLOSE_NOTIFY
    CLIENT.ended(tls.version, part, ours.report, saw)
