"""The four scenarios with ``openssl s_server`` and ``openssl s_client`` as peers.

They play the parts that their ways of closing allow.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import product
from typing import TypeAlias

import pytest
import trio

from harness.process import Program
from tests.support import Maker

from . import we
from .data import DATA, digest
from .endings import TABLE, Saw, check
from .openssl import Name, OpenSSL, alerts
from .parts import (
    end_its_input,
    kill_it,
    kill_it_before_it_reads,
    kill_it_inside_a_record,
)
from .rows import RealProgram, Remark


async def tell_it_to_close(ours: we.Stream, program: Program) -> None:
    await program.type(b"Q\n")
    await we.shut_down_when_it_is_gone(ours, program)


async def tell_rev_to_close_and_read(ours: we.Stream, program: Program) -> None:
    await ours.send_all(b"CLOSE\n")
    await we.read_and_close_the_transport(ours, program)


async def tell_rev_to_close_unread(ours: we.Stream, program: Program) -> None:
    await ours.send_all(b"CLOSE\n")
    await we.close_the_transport_unread(ours, program)


async def tell_rev_to_close(ours: we.Stream, program: Program) -> None:
    await ours.send_all(b"CLOSE\n")
    await we.shut_down_too(ours, program)


MUCH = DATA * 8

ANSWERS = "it answers a close_notify as soon as it reads it"
ONE_WAY = "it sends close_notify and FIN, and listens to TLS no more"
NO_RESET = "it never resets a connection on purpose"

# How each program plays the other part: options, and what it is made to do; or why it
# cannot: an `ssl.SSLSocket` plays those. (For s_server that is known:
# https://github.com/openssl/openssl/issues/1806.)
Part: TypeAlias = tuple[
    tuple[str, ...], Callable[[we.Stream, Program], Awaitable[None]]
]
PROGRAMS: dict[tuple[str, Name], Part | str] = {
    # Q makes s_server close its socket, and s_client send close_notify.
    ("1A", "s_server"): ((), tell_it_to_close),
    ("1A", "s_client"): ((), kill_it),
    ("1A reset", "s_server"): NO_RESET,
    ("1A reset", "s_client"): NO_RESET,
    # With that they take a FIN for an end, and shut down.
    ("1B", "s_server"): (("-ignore_unexpected_eof",), we.close_the_transport),
    ("1B", "s_client"): (("-ignore_unexpected_eof",), we.close_the_transport),
    ("2A", "s_server"): ANSWERS,
    ("2A", "s_client"): ANSWERS,
    ("2A reset", "s_server"): ((), kill_it_before_it_reads),
    ("2A reset", "s_client"): ((), kill_it_before_it_reads),
    # With -rev, which sends lines back reversed, s_server shuts down at the line
    # CLOSE and waits for the answer.
    ("2B", "s_server"): (("-rev",), tell_rev_to_close_and_read),
    ("2B", "s_client"): ONE_WAY,
    ("2B reset", "s_server"): (("-rev",), tell_rev_to_close_unread),
    ("2B reset", "s_client"): ONE_WAY,
    ("3A", "s_server"): ((), we.shut_down),
    ("3A", "s_client"): ((), we.shut_down),
    ("3B", "s_server"): (("-rev",), tell_rev_to_close),
    ("3B", "s_client"): ONE_WAY,
    ("4A", "s_server"): ((), we.shut_down_and_close_at_once),
    ("4A", "s_client"): ((), we.shut_down_and_close_at_once),
    # Only with -quiet does s_server send close_notify at the end of its input.
    ("4B", "s_server"): (("-quiet",), end_its_input),
    ("4B", "s_client"): ((), end_its_input),
}
# No tickets: a client that never reads would have them unread when it closes.
OPTIONS: dict[Name, tuple[str, ...]] = {
    "s_server": ("-num_tickets", "0"),
    "s_client": (),
}


RECORDED = {
    "s_server": RealProgram("openssl s_server", "server", "openssl", "version"),
    "s_client": RealProgram("openssl s_client", "client", "openssl", "version"),
}


def alerts_of(cell: str) -> list[str]:
    return [3 * way + " close_notify" for way in TABLE[cell].program_alerts]


def test_openssl_plays_every_scenario_or_there_is_a_reason() -> None:
    cells = set(TABLE) - {"1B reset"}  # which needs session tickets
    assert set(PROGRAMS) == set(product(cells, TRANSPARENT))


@pytest.mark.parametrize(
    ("cell", "name"),
    [key for key, part in PROGRAMS.items() if not isinstance(part, str)],
)
async def test_an_openssl_program_and_we_agree_how_it_ended(
    tls: Maker, openssl: OpenSSL, cell: str, name: Name
) -> None:
    part = PROGRAMS[cell, name]
    assert not isinstance(part, str)
    options, play = part
    async with openssl.peer(name, tls.version, *OPTIONS[name], *options) as (
        ours,
        program,
    ):
        await play(ours, program)
        check(ours.report, cell)
        await ours.aclose()
        check(ours.report, cell)
        await program.ended.wait()
    assert alerts(program) == alerts_of(cell)
    RECORDED[name].ended(tls.version, cell, ours.report)


CUTS = {"we cut": we.close_the_transport, "we cut a record": we.cut_a_record}
DECODE_ERROR = Remark(
    "sends a fatal decode_error when it reads a FIN without close_notify, unless it has"
    " -ignore_unexpected_eof (1B)",
    "https://docs.openssl.org/3.0/man1/openssl-s_client/",
)


@pytest.mark.parametrize("name", ["s_server", "s_client"])
@pytest.mark.parametrize("event", CUTS)
async def test_an_openssl_program_tells_our_abort_from_a_goodbye(
    tls: Maker, openssl: OpenSSL, name: Name, event: str
) -> None:
    """Without -ignore_unexpected_eof: what an abort is for."""
    async with openssl.peer(name, tls.version, *OPTIONS[name]) as (ours, program):
        await CUTS[event](ours, program)
        check(ours.report, "1B")
        await program.ended.wait()
    assert alerts(program) == [">>> decode_error"]
    assert b"unexpected eof while reading" in program.log
    RECORDED[name].ended(tls.version, event, ours.report, Saw.CUT, remark=DECODE_ERROR)


@pytest.mark.parametrize("name", ["s_server", "s_client"])
async def test_an_openssl_program_is_reset(
    tls: Maker, openssl: OpenSSL, name: Name
) -> None:
    async with openssl.peer(name, tls.version, *OPTIONS[name]) as (ours, program):
        await we.reset_it(ours, program)
        check(ours.report, "1B")
        await program.ended.wait()
    assert alerts(program) == []
    RECORDED[name].ended(tls.version, "we reset", ours.report)


# Standard output has only the data, and no line of them is taken
# for a command.
TRANSPARENT: dict[Name, tuple[str, ...]] = {
    "s_server": ("-quiet",),
    "s_client": ("-quiet", "-no_ign_eof", "-nocommands"),
}
both_programs = pytest.mark.parametrize("name", TRANSPARENT)


@both_programs
@pytest.mark.parametrize("cell", ["3A", "4A"])
async def test_what_we_sent_right_before_closing_reaches_an_openssl_program(
    tls: Maker, openssl: OpenSSL, name: Name, cell: str
) -> None:
    our_part = {"3A": we.shut_down, "4A": we.shut_down_and_close_at_once}[cell]
    async with (
        openssl.peer(name, tls.version, *TRANSPARENT[name]) as (ours, program),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(program.type, MUCH)
        received = await we.receive(ours, len(MUCH))
        await ours.send_all(MUCH)
        await our_part(ours, program)
        check(ours.report, cell)
        await ours.aclose()
        await program.ended.wait()
    assert digest(received) == digest(program.output) == digest(MUCH)
    assert alerts(program) == alerts_of(cell)
    RECORDED[name].ended(tls.version, f"8 MiB to it ({cell})", ours.report)


@both_programs
async def test_what_an_openssl_program_sent_right_before_closing_reaches_us(
    tls: Maker, openssl: OpenSSL, name: Name
) -> None:
    async with (
        openssl.peer(name, tls.version, *TRANSPARENT[name]) as (ours, program),
        trio.open_nursery() as nursery,
    ):
        await ours.send_all(MUCH)
        await program.prints(len(MUCH))

        nursery.start_soon(program.type_all, MUCH)
        received = await we.receive(ours, len(MUCH))
        await we.shut_down_too(ours, program)
        check(ours.report, "4B")
        await ours.aclose()
        await program.ended.wait()
    assert digest(received) == digest(program.output) == digest(MUCH)
    assert alerts(program) == alerts_of("4B")
    RECORDED[name].ended(tls.version, "8 MiB from it", ours.report)


async def test_s_server_is_killed_inside_a_record(tls: Maker, openssl: OpenSSL) -> None:
    name: Name = "s_server"

    async def type_until_it_dies() -> None:
        with suppress(trio.BrokenResourceError):
            await program.type(MUCH)

    async with (
        openssl.peer(name, tls.version, *TRANSPARENT[name]) as (ours, program),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(type_until_it_dies)
        await kill_it_inside_a_record(ours, program)
        check(ours.report, "1A")
    RECORDED[name].ended(tls.version, "it is killed inside a record", ours.report)
