"""The four scenarios with OpenSSL as the peer.

It comes as the standard library's blocking `ssl.SSLSocket`, which can play every
part, and as ``openssl s_server`` and ``openssl s_client``, which play those that
their own ways of closing allow.
"""

from __future__ import annotations

import enum
import hashlib
import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

import attrs
import pytest
import trio

from tests.support import Maker
from trio_tlsdown import (
    ShutdownOutcome as Outcome,
    ShutdownReport,
    TLSStream,
    TransportBrokenError,
    TruncatedError,
)

from .blocking import (
    blocking_peer,
    receive_all,
    receive_exactly,
    reset,
    send_close_notify,
    wait_until_readable,
)
from .openssl import Name, OpenSSL, alerts, stop
from .programs import Program

Stream: TypeAlias = TLSStream[trio.SocketStream]

# What has to come out. It follows from
#
# - RFC 9846 section 6.1: each party sends a close_notify before it closes its
#   write side; a transport that ends without one may have been cut, and that
#   must not pass for the end of the data; nobody has to wait for the other's;
# - RFC 5246 section 7.2.1, for TLS 1.2: the same, and the other party answers
#   with a close_notify of its own;
# - TCP: who closes a socket with unread input sends a RST and no FIN;
# - what `ShutdownOutcome` and `ShutdownReport` promise.


class Saw(enum.Enum):
    """How the connection ended for an SSLSocket."""

    NOTHING = "it did not look"
    CLOSE_NOTIFY = "a clean end"
    CUT = "a FIN without close_notify"
    RESET = "a RST"


SECURE, INSECURE = True, False


@attrs.frozen
class Ending:
    """Our report, and what the peer saw.

    ``>`` is a close_notify sent, ``<`` one received, each from where that party
    stands, in order.
    """

    outcome: Outcome
    our_alerts: str
    secure: bool
    sslsocket_saw: Saw
    program_alerts: str = ""


# The number is the scenario, the letter is *our* part: A shuts down, B is the
# other. In 1 and 2 B closes the transport without close_notify.
# fmt: off
TABLE = {
    # 1: B closes the transport, then A shuts down.
    "1A":       Ending(Outcome.TRUNCATED, ">",  INSECURE, Saw.NOTHING),
    "1A reset": Ending(Outcome.RESET,     "",   INSECURE, Saw.NOTHING),
    "1B":       Ending(Outcome.ABORTED,   "",   INSECURE, Saw.CUT,   ">"),
    "1B reset": Ending(Outcome.ABORTED,   "",   INSECURE, Saw.RESET),
    # 2: A shuts down and waits; B closes the transport instead of answering:
    #    after it has read A's close_notify, or (reset) without.
    "2A":       Ending(Outcome.TRUNCATED, ">",  INSECURE, Saw.CLOSE_NOTIFY),
    "2A reset": Ending(Outcome.RESET,     ">",  INSECURE, Saw.NOTHING),
    "2B":       Ending(Outcome.ABORTED,   "<",  INSECURE, Saw.CUT,   ">"),
    "2B reset": Ending(Outcome.ABORTED,   "",   INSECURE, Saw.RESET, ">"),
    # 3: both shut down.
    "3A":       Ending(Outcome.COMPLETE,  "><", SECURE,   Saw.CLOSE_NOTIFY, "<>"),
    "3B":       Ending(Outcome.COMPLETE,  "<>", SECURE,   Saw.CLOSE_NOTIFY, "><"),
    # 4: A sends close_notify and closes without waiting; B shuts down.
    "4A":       Ending(Outcome.SENT,      ">",  SECURE,   Saw.CLOSE_NOTIFY, "<>"),
    "4B":       Ending(Outcome.COMPLETE,  "<>", SECURE,   Saw.NOTHING, ">"),
}
# fmt: on

FIRST = {"": None, ">": "local", "<": "peer"}
ERRORS = {Outcome.TRUNCATED: TruncatedError, Outcome.RESET: TransportBrokenError}


def check(report: ShutdownReport, cell: str) -> None:
    expected = TABLE[cell]
    assert report.outcome is expected.outcome
    assert report.close_notify_sent is (">" in expected.our_alerts)
    assert report.close_notify_received is ("<" in expected.our_alerts)
    assert report.first == FIRST[expected.our_alerts[:1]]
    assert report.secure is expected.secure
    assert type(report.error) is ERRORS.get(expected.outcome, type(None))


# Our parts:


class Peer(Protocol):
    ended: trio.Event


async def shut_down(ours: Stream, peer: Peer) -> None:
    await ours.shutdown()


async def shut_down_when_it_is_gone(ours: Stream, peer: Peer) -> None:
    await peer.ended.wait()
    await ours.shutdown()


async def shut_down_after_a_reset(ours: Stream, peer: Peer) -> None:
    await peer.ended.wait()
    with pytest.raises(TransportBrokenError):
        await ours.receive_some()
    await ours.shutdown()


async def shut_down_and_close_at_once(ours: Stream, peer: Peer) -> None:
    await ours.shutdown(wait=False)
    await ours.aclose()


async def shut_down_too(ours: Stream, peer: Peer) -> None:
    assert await ours.receive_some() == b""
    await ours.shutdown()


async def shut_down_too_when_it_is_gone(ours: Stream, peer: Peer) -> None:
    await peer.ended.wait()
    await shut_down_too(ours, peer)


async def close_the_transport(ours: Stream, peer: Peer) -> None:
    await trio.aclose_forcefully(ours)


async def read_and_close_the_transport(ours: Stream, peer: Peer) -> None:
    assert await ours.receive_some() == b""
    await trio.aclose_forcefully(ours)


async def close_the_transport_unread(ours: Stream, peer: Peer) -> None:
    await trio.lowlevel.wait_readable(ours.transport_stream.socket)
    await trio.aclose_forcefully(ours)


# With ssl.SSLSocket:


def it_closes_the_transport(peer: ssl.SSLSocket) -> Saw:
    peer.close()
    return Saw.NOTHING


def it_resets_the_transport(peer: ssl.SSLSocket) -> Saw:
    reset(peer)
    return Saw.NOTHING


def it_reads_and_closes_the_transport(peer: ssl.SSLSocket) -> Saw:
    assert peer.recv(1) == b""
    peer.close()
    return Saw.CLOSE_NOTIFY


def it_closes_the_transport_unread(peer: ssl.SSLSocket) -> Saw:
    wait_until_readable(peer)
    peer.close()
    return Saw.NOTHING


def it_shuts_down(peer: ssl.SSLSocket) -> Saw:
    try:
        # Returns when both alerts have crossed.
        peer.unwrap().close()
    except ssl.SSLEOFError:
        return Saw.CUT
    except ConnectionResetError:
        return Saw.RESET
    return Saw.CLOSE_NOTIFY


def it_shuts_down_when_we_are_gone(peer: ssl.SSLSocket) -> Saw:
    wait_until_readable(peer)
    return it_shuts_down(peer)


def it_shuts_down_too(peer: ssl.SSLSocket) -> Saw:
    assert peer.recv(1) == b""
    return it_shuts_down(peer)


def it_shuts_down_and_closes_at_once(peer: ssl.SSLSocket) -> Saw:
    send_close_notify(peer)
    peer.close()
    return Saw.NOTHING


SSLSOCKET: dict[
    str,
    tuple[Callable[[Stream, Peer], Awaitable[None]], Callable[[ssl.SSLSocket], Saw]],
] = {
    "1A": (shut_down_when_it_is_gone, it_closes_the_transport),
    "1A reset": (shut_down_after_a_reset, it_resets_the_transport),
    "1B": (close_the_transport, it_shuts_down_when_we_are_gone),
    "2A": (shut_down, it_reads_and_closes_the_transport),
    "2A reset": (shut_down, it_closes_the_transport_unread),
    "2B": (read_and_close_the_transport, it_shuts_down),
    "2B reset": (close_the_transport_unread, it_shuts_down),
    "3A": (shut_down, it_shuts_down_too),
    "3B": (shut_down_too, it_shuts_down),
    "4A": (shut_down_and_close_at_once, it_shuts_down_too),
    # unwrap() would take our answer if it came at once.
    "4B": (shut_down_too_when_it_is_gone, it_shuts_down_and_closes_at_once),
}
both_roles = pytest.mark.parametrize("ours_is", ["client", "server"])


@pytest.mark.parametrize("cell", SSLSOCKET)
@both_roles
async def test_an_sslsocket_and_we_agree_how_it_ended(
    tls: Maker, ours_is: str, cell: str
) -> None:
    our_part, script = SSLSOCKET[cell]
    async with blocking_peer(
        script, version=tls.version, server_side=ours_is == "server"
    ) as (ours, peer):
        await our_part(ours, peer)
        check(ours.report, cell)
        await ours.aclose()
        check(ours.report, cell)
        await peer.ended.wait()
    assert peer.saw is TABLE[cell].sslsocket_saw


async def test_a_client_that_has_not_read_its_tickets_closes_with_a_reset(
    tls13: Maker,
) -> None:
    """A server sends them unasked: scenario 1 with a RST where a FIN is meant."""
    async with blocking_peer(
        it_shuts_down_when_we_are_gone,
        version=tls13.version,
        server_side=False,
        tickets=2,
    ) as (ours, peer):
        await close_the_transport_unread(ours, peer)
        check(ours.report, "1B reset")
        await peer.ended.wait()
    assert peer.saw is TABLE["1B reset"].sslsocket_saw


async def test_a_goodbye_arrives_though_tickets_lie_unread(tls13: Maker) -> None:
    """Scenario 4 by a client straight after the handshake."""

    def script(peer: ssl.SSLSocket) -> Saw:
        assert peer.recv(1) == b""
        return Saw.CLOSE_NOTIFY

    async with blocking_peer(
        script, version=tls13.version, server_side=False, tickets=2
    ) as (ours, peer):
        await trio.lowlevel.wait_readable(ours.transport_stream.socket)
        await shut_down_and_close_at_once(ours, peer)
        check(ours.report, "4A")
        await peer.ended.wait()
    assert peer.saw is TABLE["4A"].sslsocket_saw


@both_roles
@pytest.mark.parametrize("we_start", [True, False])
async def test_after_scenario_3_both_use_the_transport_again(
    tls: Maker, ours_is: str, *, we_start: bool
) -> None:
    def script(peer: ssl.SSLSocket) -> bytes:
        if we_start:
            assert peer.recv(1) == b""
        with peer.unwrap() as bare:
            bare.sendall(b"their clear text")
            return bare.recv(100)

    async with blocking_peer(
        script, version=tls.version, server_side=ours_is == "server"
    ) as (ours, peer):
        if not we_start:
            assert await ours.receive_some() == b""
        bare, trailing = await ours.unwrap()
        async with bare:
            text = trailing
            while len(text) < len(b"their clear text"):
                text += await bare.receive_some()
            assert text == b"their clear text"
            await bare.send_all(b"our clear text")
    assert peer.saw == b"our clear text"


# With openssl s_server and s_client:


async def tell_it_to_close(ours: Stream, program: Program) -> None:
    await program.type(b"Q\n")
    await shut_down_when_it_is_gone(ours, program)


async def kill_it(ours: Stream, program: Program) -> None:
    program.process.kill()
    await shut_down_when_it_is_gone(ours, program)


async def kill_it_before_it_reads(ours: Stream, program: Program) -> None:
    stop(program)
    await ours.shutdown(wait=False)
    program.process.kill()
    await ours.shutdown()


async def tell_rev_to_close_and_read(ours: Stream, program: Program) -> None:
    await ours.send_all(b"CLOSE\n")
    await read_and_close_the_transport(ours, program)


async def tell_rev_to_close_unread(ours: Stream, program: Program) -> None:
    await ours.send_all(b"CLOSE\n")
    await close_the_transport_unread(ours, program)


async def tell_rev_to_close(ours: Stream, program: Program) -> None:
    await ours.send_all(b"CLOSE\n")
    await shut_down_too(ours, program)


async def end_its_input(ours: Stream, program: Program) -> None:
    await program.type_eof()
    await shut_down_too(ours, program)


ANSWERS = "it answers a close_notify as soon as it reads it"
ONE_WAY = "it sends close_notify and FIN, and listens to TLS no more"
NO_RESET = "it never resets a connection on purpose"

# How each program plays the other part: options, and what is done; or why it
# cannot. The SSLSocket plays those. (What s_server cannot do is known:
# https://github.com/openssl/openssl/issues/1806.)
Part: TypeAlias = tuple[tuple[str, ...], Callable[[Stream, Program], Awaitable[None]]]
PROGRAMS: dict[tuple[str, Name], Part | str] = {
    # Q makes s_server close its socket, and s_client say goodbye.
    ("1A", "s_server"): ((), tell_it_to_close),
    ("1A", "s_client"): ((), kill_it),
    ("1A reset", "s_server"): NO_RESET,
    ("1A reset", "s_client"): NO_RESET,
    # They take a FIN for an end then, and go on to shut down.
    ("1B", "s_server"): (("-ignore_unexpected_eof",), close_the_transport),
    ("1B", "s_client"): (("-ignore_unexpected_eof",), close_the_transport),
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
    ("3A", "s_server"): ((), shut_down),
    ("3A", "s_client"): ((), shut_down),
    ("3B", "s_server"): (("-rev",), tell_rev_to_close),
    ("3B", "s_client"): ONE_WAY,
    ("4A", "s_server"): ((), shut_down_and_close_at_once),
    ("4A", "s_client"): ((), shut_down_and_close_at_once),
    # Only with -quiet does s_server say goodbye at the end of its input.
    ("4B", "s_server"): (("-quiet",), end_its_input),
    ("4B", "s_client"): ((), end_its_input),
}
# No tickets: a client that never reads would meet them when it closes.
OPTIONS: dict[Name, tuple[str, ...]] = {
    "s_server": ("-num_tickets", "0"),
    "s_client": (),
}


def alerts_of(cell: str) -> list[str]:
    return [3 * way + " close_notify" for way in TABLE[cell].program_alerts]


def test_every_cell_is_played_by_a_program_or_by_an_sslsocket() -> None:
    assert {cell for cell, _ in PROGRAMS} == set(SSLSOCKET)
    assert len(PROGRAMS) == 2 * len(SSLSOCKET)


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


@pytest.mark.parametrize("name", ["s_server", "s_client"])
async def test_an_openssl_program_tells_our_abort_from_a_goodbye(
    tls: Maker, openssl: OpenSSL, name: Name
) -> None:
    """Without -ignore_unexpected_eof: what an abort is for."""
    async with openssl.peer(name, tls.version, *OPTIONS[name]) as (ours, program):
        await trio.aclose_forcefully(ours)
        await program.ended.wait()
    assert alerts(program) == [">>> decode_error"]
    assert b"unexpected eof while reading" in program.log


# With data:

DATA = hashlib.shake_256(b"data").digest(2**20)


def digest(data: bytes | bytearray) -> str:
    return hashlib.sha256(data).hexdigest()


async def receive(ours: Stream, size: int) -> bytearray:
    data = bytearray()
    while len(data) < size:
        data += await ours.receive_some(size - len(data))
    return data


@both_roles
@pytest.mark.parametrize("cell", ["3A", "4A"])
async def test_what_we_sent_right_before_closing_reaches_an_sslsocket(
    tls: Maker, ours_is: str, cell: str
) -> None:
    def script(peer: ssl.SSLSocket) -> str:
        peer.sendall(DATA)
        data = receive_all(peer)
        assert it_shuts_down(peer) is Saw.CLOSE_NOTIFY
        return digest(data)

    our_part, _ = SSLSOCKET[cell]
    async with blocking_peer(
        script, version=tls.version, server_side=ours_is == "server", tickets=2
    ) as (ours, peer):
        received = await receive(ours, len(DATA))
        await ours.send_all(DATA)
        await our_part(ours, peer)
        check(ours.report, cell)
        assert digest(received) == digest(DATA)
    assert peer.saw == digest(DATA)


@both_roles
@pytest.mark.parametrize("cell", ["3B", "4B"])
async def test_what_an_sslsocket_sent_right_before_closing_reaches_us(
    tls: Maker, ours_is: str, cell: str
) -> None:
    our_part, close = SSLSOCKET[cell]

    def script(peer: ssl.SSLSocket) -> str:
        data = receive_exactly(peer, len(DATA))
        peer.sendall(DATA)
        close(peer)
        return digest(data)

    async with blocking_peer(
        script, version=tls.version, server_side=ours_is == "server", tickets=2
    ) as (ours, peer):
        await ours.send_all(DATA)
        received = await receive(ours, len(DATA))
        await our_part(ours, peer)
        check(ours.report, cell)
        assert digest(received) == digest(DATA)
    assert peer.saw == digest(DATA)


# Standard output has the data and nothing else, and nothing in the data is taken
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
    our_part, _ = SSLSOCKET[cell]
    async with (
        openssl.peer(name, tls.version, *TRANSPARENT[name]) as (ours, program),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(program.type, DATA)
        received = await receive(ours, len(DATA))
        await ours.send_all(DATA)
        await our_part(ours, program)
        check(ours.report, cell)
        await ours.aclose()
        await program.ended.wait()
    assert digest(received) == digest(program.output) == digest(DATA)
    assert alerts(program) == alerts_of(cell)


@both_programs
async def test_what_an_openssl_program_sent_right_before_closing_reaches_us(
    tls: Maker, openssl: OpenSSL, name: Name
) -> None:
    async with (
        openssl.peer(name, tls.version, *TRANSPARENT[name]) as (ours, program),
        trio.open_nursery() as nursery,
    ):
        await ours.send_all(DATA)
        await program.prints(len(DATA))

        async def type_all() -> None:
            await program.type(DATA)
            await program.type_eof()

        nursery.start_soon(type_all)
        received = await receive(ours, len(DATA))
        await shut_down_too(ours, program)
        check(ours.report, "4B")
        await ours.aclose()
        await program.ended.wait()
    assert digest(received) == digest(program.output) == digest(DATA)
    assert alerts(program) == alerts_of("4B")
