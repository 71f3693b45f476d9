"""The four scenarios with ``gnutls-cli`` as the peer. Ours is the server.

At the end of its input it half-closes: it sends close_notify and goes on reading.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio

from harness.process import Program, running
from tests.support import NAME, TLS13_FIRST, Maker, server_context
from trio_tlsdown import TLSStream

from . import we
from .data import DATA, digest
from .endings import Saw, check
from .parts import (
    end_its_input,
    kill_it,
    kill_it_before_it_reads,
    kill_it_inside_a_record,
)
from .programs import require
from .rows import RealProgram, Remark
from .servers import HOST, certificate_authority

MUCH = DATA * 8

GREETING = b"220 ready"

FINE, FAILED = 0, 1


@asynccontextmanager
async def gnutls_cli(
    version: str, folder: Path
) -> AsyncIterator[tuple[we.Stream, Program]]:
    [listener] = await trio.open_tcp_listeners(0, host=HOST)
    async with (
        listener,
        running(
            *(require("gnutls-cli"), HOST, "-p", str(listener.socket.getsockname()[1])),
            *("--x509cafile", str(certificate_authority(folder))),
            *("--sni-hostname", NAME, "--verify-hostname", NAME),
            "--logfile=/dev/stderr",  # only the data are on its standard output
        ) as program,
        TLSStream(
            await listener.accept(), server_context(version), server_side=True
        ) as ours,
    ):
        # Its log is buffered: the handshake appears late.
        await ours.send_all(GREETING)
        await program.prints(len(GREETING))
        program.output.clear()
        yield ours, program


@pytest.fixture
async def both(tls: Maker, tmp_path: Path) -> AsyncIterator[tuple[we.Stream, Program]]:
    """Our end, and the program, past the handshake."""
    async with gnutls_cli(tls.version, tmp_path) as result:
        yield result


async def end_its_input_and_cut(ours: we.Stream, program: Program) -> None:
    await program.type_eof()
    await we.read_and_close_the_transport(ours, program)


async def kill_it_while_it_sends(ours: we.Stream, program: Program) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(type_until_it_dies, program)
        await kill_it_inside_a_record(ours, program)


async def type_until_it_dies(program: Program) -> None:
    with suppress(trio.BrokenResourceError):
        await program.type(MUCH)


KILLED = -9

GNUTLS_CLI = RealProgram("gnutls-cli", "client", "gnutls-cli")
SOURCE = "https://gitlab.com/gnutls/gnutls/-/blob/3.7.9/src/cli.c"
SAW = {FINE: Saw.CLOSE_NOTIFY, FAILED: Saw.FAILED, KILLED: Saw.NOTHING}

# How each of them ends for us, and the program's exit code: main() in its source.
PARTS = {
    "it is killed": (kill_it, "1A", KILLED),
    "it is killed before it reads": (kill_it_before_it_reads, "2A reset", KILLED),
    "it is killed inside a record": (kill_it_while_it_sends, "1A", KILLED),
    "we cut": (we.close_the_transport, "1B", FAILED),
    "we cut a record": (we.cut_a_record, "1B", FAILED),
    "we reset": (we.reset_it, "1B", FAILED),
    # RFC 9846 section 6.1 and RFC 5246 section 7.2.1 ask for a close_notify: 3A.
    "we shut down": (we.shut_down, "2A", FINE),
    "we close without waiting": (we.shut_down_and_close_at_once, "4A", FINE),
    "it shuts down": (end_its_input, "3B", FINE),
    "it shuts down, we cut": (end_its_input_and_cut, "2B", FINE),
}
REMARKS = {
    "we shut down": Remark(
        "closes without close_notify: main() ends with socket_bye(&hd, 0), not polite",
        SOURCE,
    ),
    "it shuts down, we cut": Remark(
        "takes a cut after its own close_notify for an end: main() has"
        " GNUTLS_E_PREMATURE_TERMINATION && user_term",
        SOURCE,
    ),
}


@pytest.mark.parametrize("part", PARTS)
async def test_gnutls_cli_and_we_agree_how_it_ended(
    tls: Maker, both: tuple[we.Stream, Program], part: str
) -> None:
    ours, program = both
    play, cell, code = PARTS[part]
    await play(ours, program)
    check(ours.report, cell)
    await ours.aclose()
    check(ours.report, cell)
    await program.ended.wait()
    assert program.process.returncode == code, program.log.decode()
    GNUTLS_CLI.ended(tls.version, part, ours.report, SAW[code], REMARKS.get(part))


async def test_we_answer_after_gnutls_cli_has_half_closed(
    tls: Maker, both: tuple[we.Stream, Program]
) -> None:
    """On TLS 1.2 as well: it does not discard, as RFC 5246 section 7.2.1 would allow."""
    ours, program = both
    await program.type(b"question")
    await program.type_eof()
    assert b"".join([chunk async for chunk in ours]) == b"question"
    await ours.send_all(b"answer")
    await ours.shutdown()
    check(ours.report, "3B")
    await program.ended.wait()
    assert program.output == b"answer"
    assert program.process.returncode == FINE
    GNUTLS_CLI.ended(tls.version, "it half-closes", ours.report, SAW[FINE])


@pytest.mark.parametrize("cell", ["2A", "4A"])
@pytest.mark.parametrize("version", TLS13_FIRST)
async def test_what_we_sent_right_before_closing_reaches_gnutls_cli(
    both: tuple[we.Stream, Program], cell: str
) -> None:
    our_part = {"2A": we.shut_down, "4A": we.shut_down_and_close_at_once}[cell]
    ours, program = both
    await ours.send_all(DATA)  # only a little: it prints byte by byte
    await our_part(ours, program)
    check(ours.report, cell)
    await ours.aclose()
    await program.ended.wait()
    assert digest(program.output) == digest(DATA)
    assert program.process.returncode == FINE


async def test_what_gnutls_cli_sent_right_before_closing_reaches_us(
    tls: Maker, both: tuple[we.Stream, Program]
) -> None:
    ours, program = both
    async with trio.open_nursery() as nursery:
        nursery.start_soon(program.type_all, MUCH)
        received = await we.receive(ours, len(MUCH))
    await we.shut_down_too(ours, program)
    check(ours.report, "3B")
    await program.ended.wait()
    assert digest(received) == digest(MUCH)
    assert program.process.returncode == FINE
    GNUTLS_CLI.ended(tls.version, "8 MiB from it", ours.report, SAW[FINE])
