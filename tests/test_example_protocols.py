"""The examples that speak a protocol, each against the real library."""

from __future__ import annotations

import os
import runpy
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import dns.message
import dns.rrset
import h11
import pytest
import trio
import trustme
from aiosmtpd.controller import Controller

from tests.servers import client_of, until
from tests.serving.processes import (
    example as serving_example,
    terminate,
)
from tests.support import CA, Files, needs_posix
from trio_tlsdown import (
    PeerState,
    ShutdownOutcome,
    TLSFailedError,
    TLSStream,
    TruncatedError,
    open_tls_nursery,
)
from trio_tlsdown.testing import (
    NAME,
    LoopbackServer,
    client_context,
    connect_rogue,
    serve_rogue,
    server_context,
    start_server,
)

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"

Stream: TypeAlias = TLSStream[Any]
Handler: TypeAlias = Callable[[Stream], Awaitable[object]]


def example(name: str) -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(EXAMPLES / f"{name}.py")))


@pytest.fixture
async def nursery() -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as nursery:
        with trio.fail_after(30):
            yield nursery
        nursery.cancel_scope.cancel()


@pytest.fixture(params=["TLSv1.2", "TLSv1.3"])
def version(request: pytest.FixtureRequest) -> str:
    version: str = request.param
    return version


async def serve(
    nursery: trio.Nursery, handler: Handler, version: str | None = None
) -> LoopbackServer:
    return await start_server(nursery, handler, server=server_context(version=version))


def run(name: str) -> str:
    """What an example prints, in a process of its own."""
    command = [sys.executable, str(EXAMPLES / f"{name}.py")]
    return subprocess.run(  # noqa: S603
        command, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


async def run_client(files: Files, name: str, *arguments: object) -> tuple[str, str]:
    """What an example prints and complains of; the system trusts our CA."""
    result = await trio.run_process(
        [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)],
        env=os.environ | {"SSL_CERT_FILE": files.ca},
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    return result.stdout.decode(), result.stderr.decode()


# The tutorial:


def test_the_tutorial_prints_what_its_page_shows() -> None:
    printed = run("tutorial")
    page = (EXAMPLES.parent / "tutorial.md").read_text("utf-8")
    assert "$ python tutorial.py\n" + printed in page


async def test_the_test_of_the_tutorial_passes(nursery: trio.Nursery) -> None:
    test = example("tutorial").test_half_an_answer_is_an_error
    await test(partial(connect_rogue, nursery))


# HTTP:

ENDLESS = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf an answer"
SHORT = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf an answer"


@pytest.mark.parametrize("says", [ENDLESS, SHORT])
async def test_an_http_client_notices_that_its_answer_was_cut(
    nursery: trio.Nursery, version: str, says: bytes
) -> None:
    rogue = await connect_rogue(
        nursery, "cut_before_close_notify", says=says, hears=1, version=version
    )
    async with rogue as stream:
        with pytest.raises(TruncatedError):
            await example("h11_client").get(stream, "localhost", "/")


def answer_with(answer: bytes) -> Handler:
    async def handler(stream: Stream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)

    return handler


async def test_an_http_client_notices_an_answer_that_is_shorter_than_it_said(
    nursery: trio.Nursery, version: str
) -> None:
    running = await serve(nursery, answer_with(SHORT), version)
    async with await running.connect() as stream:
        with pytest.raises(h11.RemoteProtocolError):
            await example("h11_client").get(stream, "localhost", "/")


async def test_an_http_client_gets_an_answer_that_ends_with_close_notify(
    nursery: trio.Nursery, version: str
) -> None:
    running = await serve(nursery, answer_with(ENDLESS), version)
    async with await running.connect() as stream:
        answer = await example("h11_client").get(stream, "localhost", "/")
    assert answer == (200, b"half an answer")


async def test_an_http_server_keeps_alive_and_drains(
    nursery: trio.Nursery, version: str
) -> None:
    server = example("h11_server")
    running = await serve(nursery, server.handler, version)
    request = b"POST /%d HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
    async with await running.connect() as stream:
        for number in range(3):
            await stream.send_all(request % number)
            answer = await receive_until(stream, b"\nhello")
            assert b"200" in answer
            assert b"/%d\nhello" % number in answer
        other = await running.connect()
        get = example("h11_client").get
        assert await get(other, "localhost", "/last") == (200, b"/last\n")
        nursery.start_soon(running.server.drain)
        assert await stream.receive_some() == b""
        assert (await stream.shutdown()).outcome is ShutdownOutcome.COMPLETE
    await other.aclose()


@needs_posix("SIGTERM")
async def test_the_http_client_as_a_program_asks_the_http_server_as_a_program(
    files: Files,
) -> None:
    async with serving_example("h11_server", files, 0) as (_, port):
        said = await run_client(files, "h11_client", "localhost", port, "/hello")
    assert said == ("200 7 bytes\n", "")


async def test_the_http_client_as_a_program_says_that_an_answer_is_incomplete(
    nursery: trio.Nursery, files: Files
) -> None:
    rogue = partial(
        serve_rogue, "cut_before_close_notify", says=ENDLESS, hears=1, ca=CA
    )
    _, port = await nursery.start(rogue)
    printed, error = await run_client(files, "h11_client", "localhost", port, "/")
    assert printed == ""
    assert error.startswith("the answer is incomplete: "), error


@needs_posix("SIGTERM")
async def test_the_http2_server_as_a_program_answers_httpx_and_drains(
    files: Files,
) -> None:
    async with serving_example("h2_server", files, 0) as (_, port):
        said = await run_client(files, "httpx_client", f"https://localhost:{port}/five")
    assert said == ("HTTP/2 200 5\n", "")


@needs_posix("SIGTERM")
async def test_the_http2_server_as_a_program_says_goaway_before_its_close_notify(
    files: Files,
) -> None:
    context = client_context(ca=CA, alpn=["h2"])
    async with serving_example("h2_server", files, 0) as (program, port):
        async with open_tls_nursery() as tls:
            stream = await tls.connect("localhost", port, ssl_context=context)
            await stream.receive_some()  # its settings
            terminate(program)
            goaway = b"".join([chunk async for chunk in stream])
    assert goaway[3] == 7, goaway  # the type of the frame, RFC 9113 section 6.8
    assert stream.report.outcome is ShutdownOutcome.COMPLETE


async def receive_until(stream: Stream, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        chunk = await stream.receive_some()
        assert chunk, data
        data += chunk
    return data


# WebSockets:


async def test_a_websocket_talks_over_a_tlsstream(
    nursery: trio.Nursery, version: str
) -> None:
    websocket = example("websocket")
    running = await serve(nursery, websocket.handler, version)
    async with await running.connect() as stream:
        async with trio.open_nursery() as own:
            connection = await websocket.open_websocket(own, stream, NAME)
            await connection.send_message("hello")
            assert await connection.get_message() == "hello"
            await connection.aclose()


# DNS:


async def answer_dns(stream: Stream) -> None:
    size = int.from_bytes(await stream.receive_some(2), "big")
    query = dns.message.from_wire(await stream.receive_some(size))
    answer = dns.message.make_response(query)
    name = query.question[0].name
    answer.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "192.0.2.1"))
    wire = answer.to_wire()
    for octet in len(wire).to_bytes(2, "big") + wire:  # it has to be put together
        await stream.send_all(bytes([octet]))


async def test_a_query_goes_over_tls_and_so_does_its_answer(
    nursery: trio.Nursery, version: str
) -> None:
    running = await serve(nursery, answer_dns, version)
    query = dns.message.make_query("example.org", "A")
    async with await running.connect() as stream:
        answer = await example("dns_over_tls").ask(stream, query)
    assert "192.0.2.1" in answer.to_text()


async def test_half_a_dns_answer_is_none(nursery: trio.Nursery, version: str) -> None:
    rogue = await connect_rogue(
        nursery, "cut_before_close_notify", says=b"\0\x40half", hears=1, version=version
    )
    async with rogue as stream:
        with pytest.raises(TruncatedError):
            await example("dns_over_tls").ask(
                stream, dns.message.make_query("example.org", "A")
            )


async def test_the_dns_client_as_a_program_prints_the_answer(
    nursery: trio.Nursery, files: Files
) -> None:
    running = await start_server(nursery, answer_dns, server=server_context(ca=CA))
    client = "dns_over_tls", "127.0.0.1", running.port, "localhost", "example.org"
    printed, error = await run_client(files, *client)
    assert "192.0.2.1" in printed, error


async def test_the_dns_client_as_a_program_says_that_there_is_no_answer(
    nursery: trio.Nursery, files: Files
) -> None:
    rogue = partial(serve_rogue, "cut_before_close_notify", says=b"\0", hears=1, ca=CA)
    address, port = await nursery.start(rogue)
    client = "dns_over_tls", address, port, "localhost", "example.org"
    printed, error = await run_client(files, *client)
    assert printed == ""
    assert error.startswith("no answer: "), error


# SMTP:


class Mailbox:
    def __init__(self) -> None:
        self.mails: list[tuple[str, list[str], bytes]] = []

    async def handle_DATA(  # noqa: N802 - aiosmtpd calls it so
        self, _server: object, _session: object, envelope: Any
    ) -> str:
        self.mails.append((envelope.mail_from, envelope.rcpt_tos, envelope.content))
        return "250 OK"


async def test_a_mail_is_sent_by_starttls(version: str) -> None:
    mailbox = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(
        mailbox,
        hostname="127.0.0.1",
        port=port,
        require_starttls=True,
        tls_context=server_context(version=version),
    )
    await trio.to_thread.run_sync(controller.start)
    try:
        transport = await trio.open_tcp_stream("127.0.0.1", port)
        await example("smtp_starttls").send_mail(
            transport,
            client_context(version=version),
            NAME,
            "me@example.org",
            ["you@example.org"],
            b"Subject: dots\n\n.\n..\nbye\n",
        )
    finally:
        await trio.to_thread.run_sync(controller.stop)
    [(sender, recipients, mail)] = mailbox.mails
    assert (sender, recipients) == ("me@example.org", ["you@example.org"])
    assert mail == b"Subject: dots\r\n\r\n.\r\n..\r\nbye\r\n"


async def test_clear_text_behind_starttls_is_refused() -> None:
    smtp = example("smtp_starttls")
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(b"220 hi\r\n250 x\r\n220 go\r\n250 injected\r\n")
    with pytest.raises(smtp.SMTPError, match="clear text"):
        await smtp.send_mail(ours, client_context(), NAME, "a@b", ["c@d"], b"")


# Gemini:


async def test_a_gemini_page_ends_with_close_notify(
    nursery: trio.Nursery, version: str
) -> None:
    gemini = example("gemini")
    running = await serve(nursery, gemini.handler, version)
    stream = await running.connect()
    page = await gemini.fetch(stream, "gemini://localhost/")
    assert page == gemini.PAGES["/"]
    await stream.aclose()
    with pytest.raises(gemini.GeminiError, match="51"):
        await gemini.fetch(await running.connect(), "gemini://localhost/nothing")


async def test_half_a_gemini_page_is_not_shown(
    nursery: trio.Nursery, version: str
) -> None:
    rogue = await connect_rogue(
        nursery,
        "cut_before_close_notify",
        says=b"20 text/gemini\r\n# He",
        hears=1,
        version=version,
    )
    async with rogue as stream:
        with pytest.raises(TruncatedError):
            await example("gemini").fetch(stream, "gemini://localhost/")


# Half-close:


async def test_half_close_ends_a_request_and_a_cut_does_not(
    nursery: trio.Nursery,
) -> None:
    lines = example("sort_lines")
    running = await serve(nursery, lines.handler)
    async with await running.connect() as stream:
        assert await lines.sort(stream, b"b\nc\na\n") == b"a\nb\nc\n"
    async with await running.connect() as stream:
        assert await lines.sort(stream, b"") == b""
    stream = await running.connect()
    await stream.send_all(b"b\na\n")
    await stream.transport_stream.aclose()
    await running.wait_reports(3)
    assert [type(error) for error in running.errors] == [TruncatedError]


# Chat:


async def test_a_chat_reaches_the_others_and_idle_clients_leave(
    nursery: trio.Nursery, version: str
) -> None:
    chat = example("chat")
    room = chat.Room()
    running = await serve(nursery, partial(chat.handler, room, 0.5), version)
    one, other = await running.connect(), await running.connect()
    await until(lambda: len(room.outboxes) == 2)
    await one.send_all(b"in ")
    await one.send_all(b"parts\n")
    assert await other.receive_some() == b"in parts\n"
    for stream in (one, other):  # both are idle now
        assert await stream.receive_some() == b""
        assert (await stream.shutdown()).outcome is ShutdownOutcome.COMPLETE
        await stream.aclose()
    await running.wait_reports(2)
    assert room.outboxes == set()


@needs_posix("SIGTERM")
async def test_the_chat_as_a_program_delivers_what_was_said_and_drains(
    files: Files, version: str
) -> None:
    async with serving_example("chat", files, 0) as (program, port):
        one, other = await client_of(port, version), await client_of(port, version)
        while not await hears(other, one):
            pass  # pragma: no cover - the other one's handler has not begun yet
        terminate(program)
        for stream in (one, other):
            assert {chunk async for chunk in stream} <= {b"hello\n"}
            assert (await stream.shutdown()).outcome is ShutdownOutcome.COMPLETE
            await stream.aclose()


async def hears(listener: Stream, speaker: Stream) -> bool:
    await speaker.send_all(b"hello\n")
    with trio.move_on_after(0.2):
        return bool(await listener.receive_some())
    return False  # pragma: no cover - as above


# A relay:


@pytest.fixture
async def backend(nursery: trio.Nursery) -> AsyncIterator[SimpleNamespace]:
    """A TCP server that answers, in capitals, when its client has half-closed."""
    found = SimpleNamespace(heard=[], errors=[])

    async def handler(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                heard = b"".join([chunk async for chunk in stream])
            except trio.BrokenResourceError as exc:
                found.errors.append(exc)
            else:
                found.heard.append(heard)
                await stream.send_all(heard.upper())

    listeners = await nursery.start(trio.serve_tcp, partial(handler), 0)
    found.port = listeners[0].socket.getsockname()[1]
    return found


async def test_a_relay_forwards_a_half_close_and_the_answer_to_it(
    nursery: trio.Nursery, backend: SimpleNamespace
) -> None:
    relay = partial(example("relay").relay, "localhost", backend.port)
    running = await serve(nursery, relay)
    async with await running.connect() as stream:
        await stream.send_all(b"hello")
        await stream.send_eof()
        assert b"".join([chunk async for chunk in stream]) == b"HELLO"
    assert backend.heard == [b"hello"]


async def test_a_relay_forwards_a_cut_as_a_cut(
    nursery: trio.Nursery, backend: SimpleNamespace, version: str
) -> None:
    relay = partial(example("relay").relay, "localhost", backend.port)
    running = await serve(nursery, relay, version)
    stream = await running.connect()
    await stream.send_all(b"half a request")
    await stream.transport_stream.aclose()
    await running.wait_reports(1)
    await until(lambda: backend.errors)
    assert backend.heard == []


# Mutual TLS:


async def test_a_client_may_do_what_its_certificate_is_entitled_to(
    nursery: trio.Nursery, version: str
) -> None:
    mutual = example("mutual_tls")
    rights = {"client.example": {b"read"}, "other.example": {b"write"}}
    running = await start_server(
        nursery,
        partial(mutual.handler, rights),
        server=server_context(version=version, client_certificate=True),
        client=client_context(version=version, client_certificate=True),
    )
    async with await running.connect() as stream:
        for request, answer in ((b"read", b"done\n"), (b"write", b"forbidden\n")):
            await stream.send_all(request)
            assert await stream.receive_some() == answer


async def test_a_client_of_another_ca_is_refused(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    mutual = example("mutual_tls")
    ca, other = trustme.CA(), trustme.CA()
    certificate = ca.issue_cert(NAME)
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    pem, root = str(tmp_path / "server.pem"), str(tmp_path / "ca.pem")
    client = client_context(ca=ca)
    other.issue_cert("client.example").configure_cert(client)
    running = await start_server(
        nursery,
        partial(mutual.handler, {}),
        server=mutual.make_context(pem, pem, root),
        client=client,
    )
    stream = await running.connect()  # TLS 1.3 tells it later
    with pytest.raises(TLSFailedError):
        await stream.receive_some()
    await trio.aclose_forcefully(stream)


# A certificate that is renewed:


async def test_a_certificate_is_loaded_again_on_sighup(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    ca = trustme.CA()
    pem = tmp_path / "server.pem"
    trust = ssl.create_default_context()
    ca.configure_trust(trust)
    ca.issue_cert(NAME).private_key_and_cert_chain_pem.write_to_path(pem)
    command = [sys.executable, EXAMPLES / "reload_certificate.py", pem, pem, "0"]
    process = await nursery.start(
        partial(trio.run_process, command, stdout=subprocess.PIPE, check=False)
    )
    output = Lines(process.stdout)
    port = int((await output.line()).split()[-1])
    async with open_tls_nursery() as tls:

        async def serial() -> str:
            async with await tls.connect(NAME, port, ssl_context=trust) as stream:
                return str((stream.getpeercert() or {})["serialNumber"])

        old = await serial()
        ca.issue_cert(NAME).private_key_and_cert_chain_pem.write_to_path(pem)
        process.send_signal(signal.SIGHUP)
        assert await output.line() == "loaded"
        new = await serial()
        pem.write_text("no certificate")
        process.send_signal(signal.SIGHUP)
        assert "the old certificate stays" in await output.line()
        assert await serial() == new != old
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0


class Lines:
    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._unread = b""

    async def line(self) -> str:
        while b"\n" not in self._unread:
            chunk = await self._stream.receive_some()
            assert chunk, "it has ended"
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return os.fsdecode(line)


# A pool:


async def test_a_pool_uses_a_connection_again_unless_its_peer_has_ended(
    nursery: trio.Nursery, version: str
) -> None:
    running = await serve(nursery, one_at_a_time, version)
    context = client_context(version=version)
    async with open_tls_nursery() as tls:
        pool = example("pool").Pool(tls, NAME, running.port, context)
        used = []
        for request in (b"stay", b"stay", b"go", b"stay"):
            async with pool.connection() as stream:
                used.append(stream)
                await stream.send_all(request)
                assert await stream.receive_some() == request
            if request == b"go":
                await until(partial(has_ended, stream))
        with pytest.raises(ZeroDivisionError):
            async with pool.connection() as stream:
                raise ZeroDivisionError
        assert stream.report.outcome is ShutdownOutcome.ABORTED
    assert used[0] is used[1] is used[2] is not used[3]


def has_ended(stream: Stream) -> bool:
    return stream.peer_state_nowait() is PeerState.CLOSED


async def one_at_a_time(stream: Stream) -> None:
    async for request in stream:
        await stream.send_all(request)
        if request == b"go":
            return


# Others:


def test_half_an_answer_as_a_program_ends_with_the_truncated_error() -> None:
    assert run("half_an_answer").splitlines()[-1].startswith("TruncatedError: ")


@pytest.mark.long
def test_tlsstream_notices_what_others_may_not() -> None:
    lines = run("how_others_end").splitlines()
    ours = [
        line.removeprefix("  TLSStream").strip() for line in lines if "TLSS" in line
    ]
    assert ours[:2] == ["reading: TruncatedError; closing: the end"] * 2
    assert ours[2:] == ["closing: the end"] * 2
