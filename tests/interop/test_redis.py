"""Our client and redis-server; redis-cli and our server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import attrs
import pytest
import trio

from tests.support import NAME, Maker, client_context, server_context
from trio_tlsdown import TLSStream

from . import we
from .data import DATA, digest
from .endings import Saw, check
from .parts import kill_it, kill_it_before_it_reads
from .programs import Program, require, running
from .rows import RealProgram, Remark
from .servers import (
    HOST,
    certificate_authority,
    connect,
    key_and_certificate,
    reserved_port,
)

MUCH = DATA * 8
OK = b"+OK\r\n"


@attrs.frozen
class Redis:
    program: Program
    port: int
    version: str

    async def connect(self) -> we.Stream:
        return TLSStream(
            await connect(self.port, self.program),
            client_context(self.version),
            server_hostname=NAME,
        )


@pytest.fixture
async def redis(tls: Maker, tmp_path: Path) -> AsyncIterator[Redis]:
    with reserved_port() as port:
        pem = str(key_and_certificate(tmp_path))
        async with running(
            *(require("redis-server"), "--bind", HOST, "--dir", str(tmp_path)),
            *("--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no"),
            *("--tls-cert-file", pem, "--tls-key-file", pem),
            *("--tls-ca-cert-file", str(certificate_authority(tmp_path))),
            *("--save", "", "--appendonly", "no"),
        ) as program:
            yield Redis(program, port, tls.version)


@pytest.fixture
async def ours(redis: Redis) -> AsyncIterator[we.Stream]:
    async with await redis.connect() as stream:
        assert await ask(stream, b"PING") == b"+PONG\r\n"
        yield stream


def command(*words: bytes) -> bytes:
    # https://redis.io/docs/latest/develop/reference/protocol-spec/
    return b"*%d\r\n" % len(words) + b"".join(bulk(word) for word in words)


def bulk(data: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(data), data)


async def ask(ours: we.Stream, *words: bytes) -> bytes:
    await ours.send_all(command(*words))
    return await ours.receive_some()


async def ask_it_to_quit(ours: we.Stream, program: Program) -> None:
    assert await ask(ours, b"QUIT") == OK
    await we.shut_down_too(ours, program)


SERVER = RealProgram("redis-server", "server", "redis-server")
SOURCE = "https://github.com/redis/redis/blob/7.0.15"

PARTS = {
    "it is asked to quit": (ask_it_to_quit, "4B"),
    # RFC 9846 section 6.1 and RFC 5246 section 7.2.1 ask for a close_notify: 3A.
    "we shut down": (we.shut_down, "2A"),
    "we close without waiting": (we.shut_down_and_close_at_once, "4A"),
    "we cut": (we.close_the_transport, "1B"),
    "it is killed": (kill_it, "1A"),
    "it is killed before it reads": (kill_it_before_it_reads, "2A reset"),
}
REMARKS = {
    "we shut down": Remark(
        "sends no close_notify: updateStateAfterSSLIO() takes ours for the end of the"
        " connection (CONN_STATE_CLOSED), after which connTLSClose() does not call"
        " SSL_shutdown()",
        f"{SOURCE}/src/tls.c",
    ),
}


@pytest.mark.parametrize("part", PARTS)
async def test_redis_and_we_agree_how_it_ended(
    redis: Redis, ours: we.Stream, part: str
) -> None:
    play, cell = PARTS[part]
    await play(ours, redis.program)
    check(ours.report, cell)
    await ours.aclose()
    check(ours.report, cell)
    SERVER.ended(redis.version, part, ours.report, remark=REMARKS.get(part))


async def test_what_we_sent_right_before_shutting_down_is_stored(
    redis: Redis, ours: we.Stream
) -> None:
    await ours.send_all(command(b"SET", b"key", MUCH))
    await ours.shutdown()
    async with await redis.connect() as another:
        assert await ask(another, b"STRLEN", b"key") == b":%d\r\n" % len(MUCH)


async def test_what_redis_sent_right_before_closing_reaches_us(ours: we.Stream) -> None:
    assert await ask(ours, b"SET", b"key", MUCH) == OK
    await ours.send_all(command(b"GET", b"key") + command(b"QUIT"))
    received = b"".join([chunk async for chunk in ours])
    assert digest(received) == digest(bulk(MUCH) + OK)
    await ours.shutdown()
    check(ours.report, "4B")


# redis-cli:


async def answer(ours: we.Stream) -> None:
    await ours.send_all(bulk(b"the answer"))
    with pytest.raises(trio.BrokenResourceError):
        await ours.receive_some()
    await ours.shutdown()


async def shut_down(ours: we.Stream) -> None:
    await ours.shutdown()


async def cut(ours: we.Stream) -> None:
    await trio.aclose_forcefully(ours)


CLIENT = RealProgram("redis-cli", "client", "redis-cli")
NO_GOODBYE = Remark(
    "never sends a close_notify: redisSSLFree() is but SSL_free()",
    f"{SOURCE}/deps/hiredis/ssl.c",
)
CLI_REMARKS = {"it closes": NO_GOODBYE, "we shut down": NO_GOODBYE}
CLI: dict[str, tuple[Callable[[we.Stream], Awaitable[None]], str, bytes]] = {
    "it closes": (answer, "1A", b"the answer\n"),
    "we shut down": (shut_down, "2A", b""),
    "we cut": (cut, "1B", b""),
}


@pytest.mark.parametrize("part", CLI)
async def test_redis_cli_and_we_agree_how_it_ended(
    tls: Maker, tmp_path: Path, part: str
) -> None:
    play, cell, printed = CLI[part]
    [listener] = await trio.open_tcp_listeners(0, host=HOST)
    port = listener.socket.getsockname()[1]
    async with (
        listener,
        running(
            *(require("redis-cli"), "-h", HOST, "-p", str(port), "--tls"),
            *("--sni", NAME, "--cacert", str(certificate_authority(tmp_path)), "ASK"),
        ) as program,
        TLSStream(
            await listener.accept(), server_context(tls.version), server_side=True
        ) as ours,
    ):
        assert await ours.receive_some() == command(b"ASK")
        await play(ours)
        check(ours.report, cell)
        await program.ended.wait()
    assert program.output == printed
    assert (program.process.returncode == 0) is bool(printed)
    saw = Saw.CLOSE_NOTIFY if printed else Saw.FAILED
    CLIENT.ended(tls.version, part, ours.report, saw, CLI_REMARKS.get(part))
