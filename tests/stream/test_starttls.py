"""Into TLS and out of it again, with no byte lost or injected."""

from __future__ import annotations

import runpy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.support import NAME, TRANSPORTS, Maker, client_context, server_context
from trio_tlsdown import ShutdownOutcome, TLSStream, TraceEvent, TraceKind
from trio_tlsdown.testing import memory_transports

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
EXAMPLE = runpy.run_path(str(EXAMPLES / "starttls.py"))
Lines, InjectionError = EXAMPLE["Lines"], EXAMPLE["InjectionError"]
FTPSession = runpy.run_path(str(EXAMPLES / "ftps.py"))["Session"]


@asynccontextmanager
async def served(tls: Maker) -> AsyncIterator[trio.abc.Stream]:
    ours, theirs = await TRANSPORTS["tcp"]()
    async with ours, theirs, trio.open_nursery() as nursery:
        nursery.start_soon(EXAMPLE["serve"], theirs, server_context(tls.version))
        yield ours
        await ours.aclose()


async def test_a_connection_goes_into_tls_and_out_of_it_any_number_of_times(
    tls: Maker,
) -> None:
    async with served(tls) as transport:
        for _ in range(3):
            await transport.send_all(b"in clear text\n")
            assert await Lines(transport).next() == b"you said: in clear text"
            stream: TLSStream[Any] = await EXAMPLE["start_tls"](
                transport, client_context(tls.version), NAME
            )
            await stream.send_all(b"a secret\nPLAIN\n")
            lines = Lines(stream)
            assert await lines.next() == b"you said: a secret"
            assert await lines.next() == b"clear text from now on"
            assert await stream.receive_some() == b""  # the server began to unwrap
            transport, trailing = await stream.unwrap()
            assert trailing == b""
            assert stream.report.outcome is ShutdownOutcome.COMPLETE
            assert stream.report.first == "peer"


async def test_what_comes_behind_close_notify_is_read_in_clear_text(
    tls: Maker,
) -> None:
    async with tls.client_and_bare_server() as (client, server):
        await server.send(server.close_notify() + b"220 in the same packet\n")
        transport, trailing = await client.unwrap()
        assert await Lines(transport, trailing).next() == b"220 in the same packet"


async def test_a_server_refuses_what_came_in_the_same_breath_as_starttls(
    tls: Maker,
) -> None:
    ours, theirs = memory_transports()
    await ours.send_all(b"STARTTLS\nMAIL FROM: <attacker>\n")
    with pytest.raises(InjectionError, match="22 bytes"):
        await EXAMPLE["serve"](theirs, server_context(tls.version))


async def test_a_client_refuses_an_answer_that_came_ahead_of_tls(tls: Maker) -> None:
    ours, theirs = memory_transports()
    await theirs.send_all(b"go ahead\nOK you are logged in\n")
    with pytest.raises(InjectionError):
        await EXAMPLE["start_tls"](ours, client_context(tls.version), NAME)


async def test_a_client_goes_no_further_if_the_server_does_not_want_tls() -> None:
    ours, theirs = memory_transports()
    await theirs.send_all(b"no\n")
    with pytest.raises(ConnectionError):
        await EXAMPLE["start_tls"](ours, client_context(), NAME)


async def test_a_server_refuses_starttls_under_tls_and_goes_on(tls: Maker) -> None:
    async with served(tls) as transport:
        stream = await EXAMPLE["start_tls"](
            transport, client_context(tls.version), NAME
        )
        await stream.send_all(b"STARTTLS\na secret\n")
        lines = Lines(stream)
        assert await lines.next() == b"this is TLS already"
        assert await lines.next() == b"you said: a secret"
        await stream.shutdown(wait=False)


async def test_an_ftp_server_refuses_auth_under_tls_and_goes_on(tls: Maker) -> None:
    ours, theirs = await TRANSPORTS["tcp"]()
    session = FTPSession(theirs, server_context(tls.version), {}, print)
    async with ours, theirs, trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        lines = Lines(ours)
        await ours.send_all(b"AUTH TLS\r\n")
        assert await lines.next() == b"220 ready"
        assert await lines.next() == b"234 go ahead"
        stream = TLSStream(ours, client_context(tls.version), server_hostname=NAME)
        lines = Lines(stream)
        await stream.send_all(b"AUTH TLS\r\nPWD\r\nQUIT\r\n")
        assert await lines.next() == b"503 this is TLS already"
        assert await lines.next() == b'257 "/"'
        assert await lines.next() == b"221 goodbye"


# Bytes that were read already:


@pytest.mark.parametrize("kind", ["memory", "tcp"])
@pytest.mark.parametrize("size", [1, 5, 100, 10_000])
async def test_what_a_detection_of_protocols_has_read_goes_first(
    tls: Maker, size: int, kind: str
) -> None:
    ours, theirs = await TRANSPORTS[kind]()
    client = TLSStream(ours, client_context(tls.version), server_hostname=NAME)
    events: list[TraceEvent] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, b"hello")
        first = await theirs.receive_some(size)
        server = TLSStream(
            theirs,
            server_context(tls.version),
            server_side=True,
            initial_bytes=memoryview(first),
            trace=events.append,
        )
        assert await server.receive_some() == b"hello"
    assert events[0].kind is TraceKind.BYTES_RECEIVED
    assert events[0].size == len(first)
    await client.aclose()
    assert await server.receive_some() == b""
    await server.aclose()


@pytest.mark.parametrize("kind", ["memory", "tcp"])
async def test_what_came_behind_close_notify_can_begin_tls_again(
    tls: Maker, kind: str
) -> None:
    """The peer does not wait: its ClientHello is in the packet of its close_notify."""
    ours, theirs = await TRANSPORTS[kind]()
    server = TLSStream(theirs, server_context(tls.version), server_side=True)
    first, second = (tls.peer(ours, server_side=False) for _ in range(2))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first.handshake)
        await server.do_handshake()
    assert not second.step_of_handshake()
    client_hello = second.flight()
    await first.send(first.close_notify() + client_hello)
    transport, trailing = await server.unwrap()
    assert trailing == client_hello
    await first.hear_close_notify()

    server = TLSStream(
        transport,
        server_context(tls.version),
        server_side=True,
        initial_bytes=trailing,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(second.handshake)
        await server.do_handshake()
    await second.send(second.encrypt(b"hello") + second.close_notify())
    assert await server.receive_some() == b"hello"
    assert await server.receive_some() == b""
    await server.send_all(b"goodbye")
    assert (await server.shutdown()).outcome is ShutdownOutcome.COMPLETE
    await second.hear_close_notify()
    assert second.received == b"goodbye"
    await ours.aclose()
    await server.aclose()


async def test_initial_bytes_that_are_no_tls_are_told_as_such(tls: Maker) -> None:
    ours, _ = memory_transports()
    server = TLSStream(
        ours,
        server_context(tls.version),
        server_side=True,
        initial_bytes=b"GET / HTTP/1.1\r\n",
    )
    with pytest.raises(trio.BrokenResourceError, match="does not seem to speak TLS"):
        await server.do_handshake()
    await server.aclose()


async def test_initial_bytes_have_to_be_bytes() -> None:
    ours, _ = memory_transports()
    with pytest.raises(TypeError, match="initial_bytes"):
        TLSStream(
            ours,
            client_context(),
            server_hostname=NAME,
            initial_bytes="text",  # type: ignore[arg-type]
        )
