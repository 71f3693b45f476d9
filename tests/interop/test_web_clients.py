"""curl and wget as clients of an HTTP server of ours."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, Literal, TypeAlias

import attrs
import pytest
import trio

from harness.process import Program, running
from tests import support
from tests.servers import HOST, port_of
from tests.support import Maker, reset, server_context
from trio_tlsdown import ShutdownReport, open_tls_nursery

from . import we
from .data import DATA, digest
from .endings import Saw, check
from .parts import kill_it, kill_it_before_it_reads
from .programs import require
from .rows import RealProgram, Remark
from .servers import certificate_authority

Event: TypeAlias = Literal[
    "it closes",
    "we shut down",
    "we close without waiting",
    "we cut",
    "we cut a record",
    "we cut, the length is known",
    "we reset",
]
FINE, FAILED = True, False
Ending: TypeAlias = tuple[str, bool]
"""A cell of `endings.TABLE`, and whether the client reports success."""

# RFC 9112 section 9.8: a client must send close_notify before it closes; it has to
# answer ours (RFC 9846 section 6.1, RFC 5246 section 7.2.1), but we need not wait for
# that. Section 8: an answer that ends with the connection is incomplete if that ends
# without close_notify.
ASKED: Final[Mapping[Event, Ending]] = {
    "it closes": ("4B", FINE),
    "we shut down": ("3A", FINE),
    "we close without waiting": ("4A", FINE),
    "we cut": ("1B", FAILED),
    "we cut a record": ("1B", FAILED),
    "we cut, the length is known": ("1B", FAILED),
    "we reset": ("1B", FAILED),
}


@attrs.frozen
class Deviation:
    """What a client does instead."""

    ending: Ending
    remark: Remark


@attrs.frozen
class Kind:
    program: RealProgram
    options: tuple[str, ...]
    trusts: str
    """The option that names the CA."""

    uploads: tuple[str, ...]
    """The options that upload a file, which are followed by its name."""

    deviations: Mapping[Event, Deviation] = {}


A_CUT_IS_AN_END = Deviation(
    ("1B", FINE),
    Remark(
        'ossl_recv() takes a cut for an end, "for compatibility with older peers"',
        "https://github.com/curl/curl/blob/curl-7_88_1/lib/vtls/openssl.c",
    ),
)
NO_GOODBYE = Remark(
    "wgnutls_close() only closes the socket",
    "https://git.savannah.gnu.org/cgit/wget.git/tree/src/gnutls.c?h=v1.21.3",
)

KINDS = [
    Kind(
        RealProgram("curl", "client", "curl"),
        ("-sS", "--http1.1", "--header", "Expect:"),
        "--cacert",
        ("--upload-file",),
        {"we cut": A_CUT_IS_AN_END, "we cut a record": A_CUT_IS_AN_END},
    ),
    Kind(
        RealProgram("wget", "client", "wget"),
        ("--no-config", "--quiet", "--tries=1", "--output-document=-"),
        "--ca-certificate",
        ("--post-file",),
        {
            "it closes": Deviation(("1A", FINE), NO_GOODBYE),
            "we shut down": Deviation(("2A", FINE), NO_GOODBYE),
        },
    ),
]

MUCH = DATA * 8
HALF = len(MUCH) // 2
LENGTH: Final = f"Content-Length: {len(MUCH)}"
CLOSE: Final = "Connection: close"
HALF_A_RECORD = b"\x17\x03\x03\x40\x00" + bytes(1000)  # RFC 9846 section 5.2


async def request(ours: we.Stream) -> bytes:
    """Its body."""
    data = bytearray()
    while b"\r\n\r\n" not in data:
        data += await ours.receive_some()
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    size = int(length[1]) if length else 0
    return bytes(body + await we.receive(ours, size - len(body)))


async def answer(ours: we.Stream, header: str, size: int = len(MUCH)) -> None:
    await ours.send_all(f"HTTP/1.1 200 OK\r\n{header}\r\n\r\n".encode() + MUCH[:size])


async def let_it_close(ours: we.Stream) -> None:
    await answer(ours, LENGTH)
    with suppress(trio.BrokenResourceError):
        assert await ours.receive_some() == b""
    await ours.shutdown()


async def shut_down(ours: we.Stream) -> None:
    await answer(ours, CLOSE)
    await ours.shutdown()


async def close(ours: we.Stream) -> None:
    await answer(ours, CLOSE)
    await ours.shutdown(wait=False)
    await ours.aclose()


async def cut(ours: we.Stream) -> None:
    await answer(ours, CLOSE, HALF)
    await support.cut(ours)


async def cut_a_record(ours: we.Stream) -> None:
    await answer(ours, CLOSE, HALF)
    await ours.transport_stream.send_all(HALF_A_RECORD)
    await support.cut(ours)


async def cut_a_known_length(ours: we.Stream) -> None:
    await answer(ours, LENGTH, HALF)
    await support.cut(ours)


async def reset_it(ours: we.Stream) -> None:
    await answer(ours, CLOSE, HALF)
    reset(ours)
    await trio.aclose_forcefully(ours)


PARTS: Final[Mapping[Event, Callable[[we.Stream], Awaitable[None]]]] = {
    "it closes": let_it_close,
    "we shut down": shut_down,
    "we close without waiting": close,
    "we cut": cut,
    "we cut a record": cut_a_record,
    "we cut, the length is known": cut_a_known_length,
    "we reset": reset_it,
}


@attrs.define(eq=False)
class Server:
    """Serve one client, and keep what it sent."""

    answer: Callable[[we.Stream], Awaitable[None]]
    received: bytes = b""
    ours: we.Stream | None = None
    asked: trio.Event = attrs.field(factory=trio.Event)

    async def handle(self, ours: we.Stream) -> None:
        self.ours = ours
        self.received = await request(ours)
        self.asked.set()
        await self.answer(ours)

    def check(self, cell: str) -> ShutdownReport:
        assert self.ours is not None
        check(self.ours.report, cell)
        return self.ours.report


@asynccontextmanager
async def client_of(
    server: Server, kind: Kind, version: str, folder: Path, *options: str
) -> AsyncIterator[Program]:
    context = server_context(version)
    context.num_tickets = 0  # a client that is killed before it reads them sends RST
    async with open_tls_nursery() as tls:
        listening = await tls.start_server(server.handle, 0, context, host=HOST)
        async with running(
            *(require(kind.program.command), *kind.options),
            *(kind.trusts, str(certificate_authority(folder)), *options),
            f"https://localhost:{port_of(listening)}/",
        ) as program:
            yield program
            await program.ended.wait()
        await listening.drain()


@pytest.fixture(params=KINDS, ids=lambda kind: kind.program.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    result: Kind = request.param
    return result


def test_a_deviation_is_none_that_is_asked_for(kind: Kind) -> None:
    for event, deviation in kind.deviations.items():
        assert deviation.ending != ASKED[event]


@pytest.mark.parametrize("event", ASKED)
async def test_a_web_client_and_we_agree_how_it_ended(
    tls: Maker, kind: Kind, tmp_path: Path, event: Event
) -> None:
    server = Server(PARTS[event])
    async with client_of(server, kind, tls.version, tmp_path) as program:
        pass
    deviation = kind.deviations.get(event)
    cell, well = deviation.ending if deviation else ASKED[event]
    remark = deviation.remark if deviation else None
    report = server.check(cell)
    assert (program.process.returncode == 0) is well
    assert MUCH.startswith(program.output)
    assert (len(program.output) == len(MUCH)) is (ASKED[event][1])
    saw = Saw.CLOSE_NOTIFY if well else Saw.FAILED
    kind.program.ended(tls.version, event, report, saw, remark)


@pytest.mark.parametrize(
    ("event", "kill", "cell"),
    [
        ("it is killed", kill_it, "1A"),
        ("it is killed before it reads", kill_it_before_it_reads, "2A reset"),
    ],
)
async def test_a_web_client_is_killed(
    tls: Maker,
    kind: Kind,
    tmp_path: Path,
    event: str,
    kill: Callable[[we.Stream, Program], Awaitable[None]],
    cell: str,
) -> None:
    async def kill_the_client(ours: we.Stream) -> None:
        await kill(ours, program)

    server = Server(kill_the_client)
    async with client_of(server, kind, tls.version, tmp_path) as program:
        await server.asked.wait()
    report = server.check(cell)
    kind.program.ended(tls.version, event, report)


async def test_what_a_client_uploads_arrives_and_so_does_the_answer(
    tls: Maker, kind: Kind, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(MUCH[::-1])
    server = Server(shut_down)
    async with client_of(
        server, kind, tls.version, tmp_path, *kind.uploads, str(file)
    ) as program:
        pass
    assert digest(server.received) == digest(MUCH[::-1])
    assert digest(program.output) == digest(MUCH)
    deviation = kind.deviations.get("we shut down")
    cell, _ = deviation.ending if deviation else ASKED["we shut down"]
    for event in ("8 MiB to it", "8 MiB from it"):
        kind.program.ended(
            tls.version,
            event,
            server.check(cell),
            Saw.CLOSE_NOTIFY,
            deviation.remark if deviation else None,
        )
