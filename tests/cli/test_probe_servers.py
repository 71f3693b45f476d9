"""The probe against servers: STARTTLS, refusals, and those that mean harm."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.lowlevel

from tests.support import CA, server_context, tcp_transports
from trio_tlsdown import ShutdownPolicy, TLSStream, TraceKind
from trio_tlsdown.cli._rows import rows_of
from trio_tlsdown.cli.probe import _observe
from trio_tlsdown.cli.probe._observe import Experiment, Limits
from trio_tlsdown.cli.probe._protocols import (
    LDAP_BIND,
    LDAP_START_TLS,
    LDAP_UNBIND,
    PROTOCOLS,
    Answer,
    http,
    named,
    raw,
)
from trio_tlsdown.cli.probe._results import HostResult, as_line
from trio_tlsdown.cli.probe._run import probe_host, probe_hosts
from trio_tlsdown.cli.probe._targets import Target
from trio_tlsdown.cli.probe._witness import Witness
from trio_tlsdown.testing import ScriptedPeer
from trio_tlsdown.testing._transports import reset_when_closed

from .probing import (
    ANSWER,
    HOST,
    Serve,
    probed,
    serve_tcp,
    settings_of,
    verdicts,
    web_server,
)

# What the servers below say: to which line (a regular expression), and whether they
# end behind it.
MAIL = {
    rb"EHLO \S+\r\n": (b"250-probe\r\n250 STARTTLS\r\n", False),
    rb"NOOP\r\n": (b"250 OK\r\n", False),
    rb"QUIT\r\n": (b"221 Bye\r\n", True),
    rb"\x01[^\n]*\n": (b"500 What?\r\n", False),
}
POP3 = {
    rb"NOOP\r\n": (b"-ERR not yet\r\n", False),
    rb"QUIT\r\n": (b"+OK\r\n", True),
    rb"\x01[^\n]*\n": (b"-ERR\r\n", True),
}
IMAP = {
    rb"p1 NOOP\r\n": (b"p1 OK\r\n", False),
    rb"p2 LOGOUT\r\n": (b"* BYE\r\np2 OK\r\n", True),
    rb"\x01[^\n]*\n": (b"* BAD\r\n", False),
}
LDAP = {
    re.escape(LDAP_BIND): (
        b"\x30\x84\0\0\0\x0c\x02\x01\x02\x61\x07\x0a\x01\x00\x04\x00\x04\x00",
        False,
    ),
    re.escape(LDAP_UNBIND): (b"", True),
    rb"\xff+": (b"", True),
}
POSTGRES = {
    rb"\0\0\0.\0\x03\0\0.*\0\0X?": (b"R\0\0\0\x08\0\0\0\0", True),
    rb"\0\0\0\x08\x7f\xff\0\x01": (b"E\0\0\0\x06XX", True),
}
XMPP = {
    rb"<\?xml.*?>(?=$|<stream).*?<stream:stream[^>]*>": (
        b"<stream:stream><stream:features></stream:features>",
        False,
    ),
    rb"</stream:stream>": (b"</stream:stream>", True),
    rb"<is-no-request<": (b"<stream:error/></stream:stream>", True),
}
# The greeting, then what is asked and answered before TLS; or a greeting within TLS.
STARTTLS: dict[str, list[tuple[bytes, bytes]]] = {
    "smtp": [
        (b"", b"220 probe\r\n"),
        (b"EHLO", b"250-x\r\n250 y\r\n"),
        (b"STA", b"220 \r\n"),
    ],
    "imap": [(b"", b"* OK hello\r\n"), (b"p0 STARTTLS", b"p0 OK\r\n")],
    "pop3": [(b"", b"+OK hello\r\n"), (b"STLS", b"+OK\r\n")],
    "ftp": [(b"", b"220 hello\r\n"), (b"AUTH TLS", b"234 go\r\n")],
    "ldap": [
        (LDAP_START_TLS, b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00")
    ],
    "postgres": [(b"\0\0\0\x08\x04\xd2\x16\x2f", b"S")],
    "xmpp": [
        (b"<?xml", b"<stream:stream><stream:features><starttls/></stream:features>"),
        (b"<starttls", b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
    ],
}
GREETINGS = {
    "smtps": b"220-hello\r\n220 there\r\n",
    "imaps": b"* OK hello\r\n",
    "pop3s": b"+OK hello\r\n",
    "ftps": b"220 hello\r\n",
    "ldaps": b"",
}
SPOKEN: dict[str, dict[bytes, tuple[bytes, bool]]] = {
    **dict.fromkeys(("smtp", "smtps", "ftp", "ftps"), MAIL),
    **dict.fromkeys(("imap", "imaps"), IMAP),
    **dict.fromkeys(("pop3", "pop3s"), POP3),
    **dict.fromkeys(("ldap", "ldaps"), LDAP),
    "postgres": POSTGRES,
    "xmpp": XMPP,
}


async def speak(stream: TLSStream[Any], name: str) -> None:
    await stream.send_all(GREETINGS.get(name, b""))
    asked = b""
    async for data in stream:
        asked += data
        while found := next(
            (
                (match, answer)
                for pattern, answer in SPOKEN[name].items()
                if (match := re.match(pattern, asked, re.DOTALL))
            ),
            None,
        ):
            match, (answer, ends) = found
            asked = asked[match.end() :]
            await stream.send_all(answer)
            if ends:
                return


def server_of(name: str) -> Serve:
    async def handle(transport: trio.SocketStream) -> None:
        for asked, answer in STARTTLS.get(name, []):
            heard = b""
            while not heard.startswith(asked):
                heard += await transport.receive_some()
            await transport.send_all(answer)
        stream = TLSStream(
            transport,
            server_context(),
            server_side=True,
            policy=ShutdownPolicy(timeout=1.0),
        )
        try:
            async with stream:
                await speak(stream, name)
        except trio.BrokenResourceError:
            pass

    return partial(serve_tcp, handle)


async def result_of(serve: Serve, folder: Path, **options: Any) -> HostResult:
    async with trio.open_nursery() as nursery:
        port = await nursery.start(serve)
        result = await probed(port, settings_of(folder, **options))
        nursery.cancel_scope.cancel()
    return result


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(SPOKEN))
async def test_each_protocol_reaches_tls_and_gets_its_answers(
    tmp_path: Path, name: str
) -> None:
    result = await result_of(server_of(name), tmp_path, protocol=name)
    assert result.reachable, result
    for version in result.versions:
        found = verdicts(result, version.tls)
        assert "fail" not in found.values(), (found, version.findings)
        assert found["ends-with-close-notify"] == "pass"
        if name not in ("ldap", "ldaps"):  # an unbind has no answer
            assert found["answer-is-whole"] == "pass"
        if version.tls == "1.3":
            assert found["answers-after-half-close"] == "pass"
    if name not in ("ldap", "ldaps", "postgres", "xmpp"):
        assert result.banner is not None
        assert "hello" in result.banner or "probe" in result.banner


@pytest.mark.parametrize("name", sorted(STARTTLS))
async def test_a_server_that_refuses_starttls_is_told_apart_from_one_that_is_away(
    tmp_path: Path, name: str
) -> None:
    async def refuse(transport: trio.SocketStream) -> None:
        said = b"N" if name == "postgres" else b"502 no\r\n<x/></stream:features>"
        await transport.send_all(said)
        if await transport.receive_some():
            await transport.send_all(said)

    limits = Limits(handshake=0.3, answer=0.3)
    result = await result_of(
        partial(serve_tcp, refuse), tmp_path, protocol=name, limits=limits
    )
    assert not result.reachable
    assert result.address == HOST
    assert "the server said" in (result.versions[0].error or "")


async def test_a_reset_before_tls_is_no_starttls(tmp_path: Path) -> None:
    async def reset(transport: trio.SocketStream) -> None:
        reset_when_closed(transport)

    result = await result_of(partial(serve_tcp, reset), tmp_path, protocol="smtp")
    assert result.versions[0].error == (
        "no STARTTLS: the server sent no greeting; if TLS starts at once there, use "
        "--protocol smtps"
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("imap", "sent no greeting; if TLS starts at once there, use --protocol imaps"),
        ("ldap", "did not answer; if TLS starts at once there, use --protocol ldaps"),
        ("xmpp", "did not answer"),
        ("postgres", "did not answer"),
    ],
)
async def test_a_server_that_waits_for_tls_gets_a_protocol_that_begins_with_it(
    tmp_path: Path, name: str, words: str
) -> None:
    result = await result_of(
        partial(serve_tcp, wait), tmp_path, protocol=name, limits=HASTY
    )
    assert result.versions[0].error == f"no STARTTLS: the server {words}"


async def test_a_server_that_greets_and_then_says_nothing_speaks_the_right_protocol(
    tmp_path: Path,
) -> None:
    async def greet(transport: trio.SocketStream) -> None:
        await transport.send_all(b"220 hello\r\n")
        await wait(transport)

    result = await result_of(
        partial(serve_tcp, greet), tmp_path, protocol="smtp", limits=HASTY
    )
    assert result.versions[0].error == "no STARTTLS: the server did not answer"


HASTY = Limits(handshake=0.1, answer=0.1)


async def wait(transport: trio.SocketStream) -> None:
    while await transport.receive_some():
        pass


async def test_a_server_that_goes_away_meanwhile_gets_the_verdicts_until_then(
    tmp_path: Path,
) -> None:
    served: list[trio.SocketStream] = []

    async def once(transport: trio.SocketStream) -> None:
        served.append(transport)
        if len(served) == 1:
            stream = TLSStream(transport, server_context(), server_side=True)
            async with stream:
                await stream.receive_some()

    result = await result_of(partial(serve_tcp, once), tmp_path, versions=("1.3",))
    found = verdicts(result, "1.3")
    assert found["answers-close-notify"] == "pass"
    assert found["ends-with-close-notify"] == "n/a"


async def test_a_witness_passes_on_what_it_sees() -> None:
    ours, theirs = await tcp_transports()
    witness = Witness(ours)
    await witness.wait_send_all_might_not_block()
    await witness.send_all(b"there")
    assert await theirs.receive_some() == b"there"
    await theirs.send_all(b"\x15\x03")
    assert await witness.receive_some() == b"\x15\x03"
    await theirs.send_all(b"\x03\x00\x02\x01")
    assert await witness.receive_some() == b"\x03\x00\x02\x01"
    assert witness.alerts == 1
    await theirs.aclose()
    for _ in range(2):
        assert await witness.receive_some() == b""
    assert witness.end.value == "FIN"
    await witness.aclose()


async def test_a_host_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    result = await probed(1, settings_of(tmp_path))
    assert not result.reachable
    assert result.address is None
    assert "Connection refused" in (result.versions[0].error or "")


async def test_a_name_that_cannot_be_one_is_unreachable(tmp_path: Path) -> None:
    result = await probe_host(Target("a" * 70 + ".invalid", 443), settings_of(tmp_path))
    assert not result.reachable


async def test_a_host_that_does_not_answer_costs_no_more_than_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(trio, "open_tcp_stream", never)
    limits = Limits(handshake=0.05, answer=0.05)
    result = await probed(1, settings_of(tmp_path, limits=limits))
    assert result.versions[0].error == "no connection in 0.05 s"


async def test_a_version_that_the_server_does_not_speak_is_no_failure(
    tmp_path: Path,
) -> None:
    for only, other in (("1.2", "1.3"), ("1.3", "1.2")):
        result = await result_of(web_server(version=f"TLSv{only}"), tmp_path)
        assert result.reachable
        [missing] = [each for each in result.versions if each.error]
        assert missing.tls == other
        assert missing.unsupported
        assert not missing.findings
        assert result.verdict.value == "pass"


async def test_a_certificate_that_is_not_trusted_is_told(tmp_path: Path) -> None:
    settings = attrs.evolve(
        settings_of(tmp_path), contexts={"1.3": ssl.create_default_context()}
    )
    async with trio.open_nursery() as nursery:
        port = await nursery.start(web_server())
        result = await probed(port, settings)
        nursery.cancel_scope.cancel()
    assert not result.reachable
    assert "certificate not trusted" in (result.versions[0].error or "")


async def test_raw_without_a_request_is_a_handshake_only(tmp_path: Path) -> None:
    result = await result_of(web_server(), tmp_path, protocol=raw(b""))
    found = verdicts(result, "1.3")
    assert found["answers-close-notify"] == "pass"
    assert found["resumes-after-end"] == "pass"
    assert {found[name] for name in found if "half" in name or "end-" in name} <= {
        "n/a"
    }


async def test_raw_with_a_request_needs_close_notify_to_be_whole(
    tmp_path: Path,
) -> None:
    async def finger(stream: TLSStream[Any]) -> None:
        assert await stream.receive_some() == b"who?\n"
        await stream.send_all(b"me")

    result = await result_of(web_server(finger), tmp_path, protocol=raw(b"who?\n"))
    assert verdicts(result, "1.3")["answer-is-whole"] == "pass"
    assert verdicts(result, "1.3")["bad-request-close-notify"] == "n/a"


async def test_no_answer_at_all_is_no_answer_after_a_half_close(tmp_path: Path) -> None:
    async def shy(stream: TLSStream[Any]) -> None:
        async for _ in stream:
            pass

    result = await result_of(
        web_server(shy), tmp_path, protocol=raw(b"who?\n"), limits=Limits(answer=0.3)
    )
    assert verdicts(result, "1.3")["answers-after-half-close"] == "warn"


async def test_resumption_is_not_asked_for_when_it_is_not_wanted(
    tmp_path: Path,
) -> None:
    found: list[HostResult] = []
    async with trio.open_nursery() as nursery:
        port = await nursery.start(web_server())
        await probe_hosts(
            [Target(HOST, port)] * 2,
            settings_of(tmp_path, resumption=1, versions=("1.3",)),
            concurrency=1,
            done=found.append,
        )
        nursery.cancel_scope.cancel()
    asked = [verdicts(each, "1.3")["resumes-after-end"] for each in found]
    assert asked == ["pass", "n/a"]
    told = found[1].versions[0].findings["resumes-after-cut"].seen
    assert told == "not asked (see --resumption)"


# Those that mean harm:

FLOOD = b"x" * 2**16


@asynccontextmanager
async def bounded(seconds: float) -> AsyncIterator[None]:
    began = trio.current_time()
    yield
    assert trio.current_time() - began < seconds


def forever(
    data: bytes, pause: float
) -> Callable[[trio.SocketStream], Awaitable[None]]:
    async def send(transport: trio.SocketStream) -> None:
        try:
            while True:
                await transport.send_all(data)
                await trio.sleep(pause)
        except trio.BrokenResourceError:
            pass

    return send


@pytest.mark.parametrize("protocol", ["smtp", "xmpp", "http"])
@pytest.mark.parametrize(("data", "pause"), [(FLOOD, 0.0), (b"2", 0.01), (b"", 10.0)])
async def test_a_flood_or_a_drip_before_tls_is_bounded(
    tmp_path: Path, protocol: str, data: bytes, pause: float
) -> None:
    limits = Limits(handshake=0.3, answer=0.3)
    async with bounded(10):
        result = await result_of(
            partial(serve_tcp, forever(data, pause)),
            tmp_path,
            protocol=protocol,
            limits=limits,
        )
    assert not result.reachable
    assert len(as_line(result)) < 5_000


async def test_an_answer_without_end_is_bounded_in_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_observe, "MAX_ANSWER", 2**20)

    async def endless(stream: TLSStream[Any]) -> None:
        await stream.receive_some()
        while True:
            await stream.send_all(FLOOD)

    result = await result_of(web_server(endless), tmp_path, versions=("1.3",))
    [version] = result.versions
    assert {each.ending.value for each in version.seen.values()} <= {
        *("flood", "close_notify", "reset", "open"),
    }
    assert "flood" in {each.ending.value for each in version.seen.values()}
    assert verdicts(result, "1.3")["ends-with-close-notify"] == "n/a"


async def test_what_is_kept_for_a_drawing_is_bounded(tmp_path: Path) -> None:
    async def crumbs(stream: TLSStream[Any]) -> None:
        for _ in range(500):
            await stream.send_all(b"x")
            await trio.lowlevel.checkpoint()

    result = await result_of(
        web_server(crumbs), tmp_path, versions=("1.3",), keep_events=True
    )
    for seen in result.versions[0].seen.values():
        assert len(seen.events) < _observe.MAX_EVENTS + 10
        assert any(not event.size for event in seen.events)  # how it ended


async def test_a_drawing_shows_data_that_came_in_one_packet_with_a_close_notify(
    tmp_path: Path,
) -> None:
    async def answer(transport: trio.SocketStream) -> None:
        peer = ScriptedPeer(transport, server_side=True, ca=CA)
        try:
            await peer.handshake()
            await peer.hear(1)
            await peer.send(peer.encrypt(ANSWER) + peer.close_notify())
            await peer.hear_to_end()
        except trio.BrokenResourceError:
            pass

    result = await result_of(
        partial(serve_tcp, answer), tmp_path, versions=("1.3",), keep_events=True
    )
    seen = result.versions[0].seen[Experiment.GOODBYE]
    kinds = (TraceKind.BYTES_RECEIVED, TraceKind.CLOSE_NOTIFY_RECEIVED)
    came = [
        (row.mark.kind, row.mark.size)
        for row in rows_of(seen.events, data_only=True)
        if row.mark.kind in kinds
    ]
    assert came == list(zip(kinds, (len(ANSWER), 0), strict=True))


async def test_bytes_behind_close_notify_are_bounded(tmp_path: Path) -> None:
    async def flood_behind(transport: trio.SocketStream) -> None:
        peer = ScriptedPeer(transport, server_side=True, ca=CA)
        try:
            await peer.handshake()
            await peer.send(peer.close_notify())
            while True:
                await peer.send(FLOOD)
        except (trio.BrokenResourceError, ssl.SSLError):
            pass

    async with bounded(20):
        result = await result_of(
            partial(serve_tcp, flood_behind), tmp_path, versions=("1.3",)
        )
    assert verdicts(result, "1.3")["nothing-behind"] == "warn"


async def test_what_a_server_says_cannot_steer_a_terminal(tmp_path: Path) -> None:
    evil = (
        b"Server: \x1b]0;owned\x07\x1b[2J\xe2\x80\xae<script>\xcc\x81" + b"A" * 10_000
    )

    async def handle(stream: TLSStream[Any]) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\n" + evil + b"\r\n\r\n")

    result = await result_of(web_server(handle), tmp_path, versions=("1.3",))
    assert result.banner is not None
    assert result.banner.isprintable()
    assert len(result.banner) < 1_000
    assert "\u202e" not in result.banner
    assert as_line(result).isascii()


# Pieces:


@pytest.mark.parametrize(
    ("said", "ended", "whole"),
    [
        (b"HTTP/1.1 200 OK\r\n", True, False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", False, True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", False, True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", True, False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok", True, False),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            *(False, True),
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nok", False, False),
        (b"HTTP/1.1 200 OK\r\n\r\nok", True, True),
    ],
)
def test_an_http_answer_is_whole_as_rfc_9112_has_it(
    said: bytes, ended: bool, whole: bool
) -> None:
    answer = Answer(ended=ended)
    for byte in said:
        answer.add(bytes([byte]))
    assert http().is_whole(answer) is whole


@pytest.mark.parametrize(
    ("said", "whole"), [(b"", False), (b"\x30\x81\x01", False), (b"\x30\x01\0", True)]
)
def test_an_ldap_answer_is_whole_when_its_length_has_come(
    said: bytes, whole: bool
) -> None:
    answer = Answer()
    answer.add(said)
    assert PROTOCOLS["ldap"].is_whole(answer) is whole


def test_a_message_names_the_server_as_its_protocol_wants() -> None:
    assert named(b"{host} {authority}", "::1", 443) == b"::1 [::1]"
    assert named(b"{host} {authority}", "b\u00fccher.example", 8443) == (
        b"xn--bcher-kva.example xn--bcher-kva.example:8443"
    )
