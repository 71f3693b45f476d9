"""Our client and redis-server; redis-cli and our server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest
import trio

from harness.process import Program, running
from tests.support import NAME, Maker, client_context, server_context
from trio_tlsdown import TLSStream, TruncatedError

from . import we
from .data import DATA, digest
from .endings import Saw, check
from .parts import Part, kill_it, kill_it_before_it_reads, kill_it_inside_a_record
from .programs import require
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


async def half_close(ours: we.Stream, program: Program) -> None:
    """It would answer a second later."""
    await ours.send_all(command(b"BLPOP", b"nothing", b"1"))
    await ours.send_eof(allow_tls12=True)
    with pytest.raises(TruncatedError):
        await ours.receive_some()
    await ours.shutdown()


SERVER = RealProgram("redis-server", "server", "redis-server")
SOURCE = "https://github.com/redis/redis/blob/7.0.15"

PARTS = {
    "it is asked to quit": (ask_it_to_quit, "4B"),
    # RFC 9846 section 6.1 and RFC 5246 section 7.2.1 ask for a close_notify: 3A.
    "we shut down": (we.shut_down, "2A"),
    "we close without waiting": (we.shut_down_and_close_at_once, "4A"),
    # RFC 9846 section 6.1 lets it answer still.
    "we half-close": (half_close, "2A"),
    "we cut": (we.close_the_transport, "1B"),
    "we cut a record": (we.cut_a_record, "1B"),
    "we reset": (we.reset_it, "1B"),
    "it is killed": (kill_it, "1A"),
    "it is killed before it reads": (kill_it_before_it_reads, "2A reset"),
}
NO_ANSWER = Remark(
    "sends no close_notify: updateStateAfterSSLIO() takes ours for the end of the"
    " connection (CONN_STATE_CLOSED), after which connTLSClose() does not call"
    " SSL_shutdown()",
    f"{SOURCE}/src/tls.c",
)
REMARKS = {
    "we shut down": NO_ANSWER,
    "we half-close": Remark(
        "takes our close_notify for the end of the connection (CONN_STATE_CLOSED), and"
        " does not answer what was asked before",
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


async def test_redis_stores_what_we_sent_right_before_shutting_down(
    redis: Redis, ours: we.Stream
) -> None:
    await ours.send_all(command(b"SET", b"key", MUCH))
    await ours.shutdown()
    async with await redis.connect() as another:
        assert await ask(another, b"STRLEN", b"key") == b":%d\r\n" % len(MUCH)
    check(ours.report, "2A")
    SERVER.ended(redis.version, "8 MiB to it", ours.report, remark=NO_ANSWER)


async def test_what_redis_sent_right_before_closing_reaches_us(
    redis: Redis, ours: we.Stream
) -> None:
    assert await ask(ours, b"SET", b"key", MUCH) == OK
    await ours.send_all(command(b"GET", b"key") + command(b"QUIT"))
    received = b"".join([chunk async for chunk in ours])
    assert digest(received) == digest(bulk(MUCH) + OK)
    await ours.shutdown()
    check(ours.report, "4B")
    SERVER.ended(redis.version, "8 MiB from it", ours.report)


# redis-cli:

LINES = MUCH.hex().encode()[: len(MUCH)]  # it prints what it got, and a newline


async def answer(ours: we.Stream, program: Program, data: bytes = b"yes") -> None:
    await ours.send_all(bulk(data))
    with pytest.raises(trio.BrokenResourceError):
        await ours.receive_some()
    await ours.shutdown()


async def answer_much(ours: we.Stream, program: Program) -> None:
    await answer(ours, program, LINES)


async def receive_much(ours: we.Stream, program: Program) -> None:
    received = await we.receive(ours, len(bulk(MUCH)))
    assert digest(received) == digest(bulk(MUCH))
    await answer(ours, program)


CLIENT = RealProgram("redis-cli", "client", "redis-cli")
NO_GOODBYE = Remark(
    "never sends a close_notify: redisSSLFree() is but SSL_free()",
    f"{SOURCE}/deps/hiredis/ssl.c",
)
SAYS_GOODBYE = ("it closes", "we shut down", "8 MiB to it", "8 MiB from it")
CLI_REMARKS = dict.fromkeys(SAYS_GOODBYE, NO_GOODBYE)
CLI: dict[str, tuple[Part, str, bytes]] = {
    "it closes": (answer, "1A", b"yes\n"),
    "we shut down": (we.shut_down, "2A", b""),
    "we close without waiting": (we.shut_down_and_close_at_once, "4A", b""),
    "we cut": (we.close_the_transport, "1B", b""),
    "we cut a record": (we.cut_a_record, "1B", b""),
    "we reset": (we.reset_it, "1B", b""),
    "it is killed": (kill_it, "1A", b""),
    "it is killed before it reads": (kill_it_before_it_reads, "2A reset", b""),
    "it is killed inside a record": (kill_it_inside_a_record, "1A", b""),
    "8 MiB to it": (answer_much, "1A", LINES + b"\n"),
    "8 MiB from it": (receive_much, "1A", b"yes\n"),
}
# With -x, its input is the last argument.
FROM_ITS_INPUT = ("8 MiB from it", "it is killed inside a record")


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
            *("--sni", NAME, "--cacert", str(certificate_authority(tmp_path))),
            *(("-x",) if part in FROM_ITS_INPUT else ()),
            "ASK",
        ) as program,
    ):
        async with (
            TLSStream(
                await listener.accept(), server_context(tls.version), server_side=True
            ) as ours,
            trio.open_nursery() as nursery,
        ):
            head = command(b"ASK")
            if part in FROM_ITS_INPUT:
                nursery.start_soon(program.type_all, MUCH)
                head = command(b"ASK", b"")[: -len(bulk(b""))]
            assert await we.receive(ours, len(head)) == head
            await play(ours, program)
            check(ours.report, cell)
            await program.ended.wait()
    assert program.output == printed
    assert (program.process.returncode == 0) is bool(printed)
    saw = Saw.NOTHING if "killed" in part else Saw.FAILED
    saw = Saw.CLOSE_NOTIFY if printed else saw
    CLIENT.ended(tls.version, part, ours.report, saw, CLI_REMARKS.get(part))
