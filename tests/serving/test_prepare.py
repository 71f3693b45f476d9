"""What comes before the handshake: *prepare*."""

from __future__ import annotations

import logging
from typing import Any, TypeAlias

import pytest
import trio
import trio.testing

from tests.servers import (
    HOST,
    MemoryListener,
    Stream,
    answer_each,
    ask,
    client_over,
    is_told_goodbye,
    port_of,
    serving,
    until,
)
from tests.support import TLS13_FIRST, Maker, server_context
from trio_tlsdown import (
    HandshakeTimeoutError,
    ShutdownOutcome,
    cancel_on_drain,
    draining,
    open_tls_nursery,
    peer_name,
)
from trio_tlsdown._serving.drain import DRAIN_PATIENCE
from trio_tlsdown._serving.server import HURRIED_HANDSHAKE_TIMEOUT
from trio_tlsdown.testing import Cancellation, cancel_everywhere, echo

COMPLETE = ShutdownOutcome.COMPLETE
FAILED = ShutdownOutcome.FAILED

Clock = trio.testing.MockClock
Transport: TypeAlias = trio.abc.Stream

OLD = 10.0  # seconds


class RefusedError(Exception):
    """No."""


async def read_a_line(transport: Transport) -> bytes | None:
    """A preamble that ends with its line, and what was read behind that."""
    data = b""
    with cancel_on_drain():
        data = bytes(await transport.receive_some())
    if not data:
        return None
    while b"\n" not in data:
        more = await transport.receive_some()
        if not more:
            raise RefusedError("half a line")
        data += more
    line, _, rest = data.partition(b"\n")
    if line == b"go away":
        raise RefusedError("go away yourself")
    peer_name.set(line.decode())
    return rest


async def connect(server: Any, preamble: bytes = b"") -> trio.SocketStream:
    transport = await trio.open_tcp_stream(HOST, port_of(server))
    if preamble:
        await transport.send_all(preamble)
    return transport


# What was read:


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 8, 9, 100])
async def test_what_was_read_too_far_belongs_to_tls(cut: int, tls: Maker) -> None:
    """However the bytes come, and over whatever they come."""
    names: list[str] = []

    async def handler(stream: Stream) -> None:
        names.append(peer_name.get())
        await answer_each(stream)

    listener = MemoryListener()
    transport = listener.connect()
    peer = tls.peer(transport, server_side=False)
    assert not peer.step_of_handshake()
    hello = b"abc\n" + peer.flight()
    async with open_tls_nursery() as nursery:
        server = await nursery.start_server(
            handler,
            listeners=[listener],
            ssl_context=server_context(tls.version),
            prepare=read_a_line,
        )
        await transport.send_all(hello[:cut])
        await trio.testing.wait_all_tasks_blocked()
        await transport.send_all(hello[cut:])
        await peer.handshake()
        await peer.send(peer.encrypt(b"request"))
        await peer.hear(len(b"answer to request"))
        await peer.send(peer.close_notify())
        await until(lambda: not server.connections)
    assert names == ["abc"]


@pytest.mark.parametrize("nothing", [None, b"", bytearray(), memoryview(b"")])
async def test_it_may_have_read_nothing_too_far(nothing: Any, tls: Maker) -> None:
    async def prepare(transport: Transport) -> Any:
        await transport.send_all(b"welcome")
        assert await transport.receive_some(5) == b"hello"
        return nothing

    async with serving(tls.version, answer_each, prepare=prepare) as (tasks, server):
        transport = await connect(server)
        assert await transport.receive_some() == b"welcome"
        await transport.send_all(b"hello")
        client = client_over(transport, tls.version)
        await ask(client)
        tasks.start_soon(is_told_goodbye, client)
        await server.drain()
    assert server.tally == {COMPLETE: 1}


async def test_the_handler_sees_what_it_has_set(
    tls: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    """So do log lines."""

    async def handler(stream: Stream) -> None:
        assert peer_name.get() == "a friend"
        raise RuntimeError("sorry")

    async with serving(tls.version, handler, prepare=read_a_line) as (_, server):
        client = client_over(await connect(server, b"a friend\n"), tls.version)
        await client.do_handshake()
        await until(lambda: not server.connections)
        await trio.aclose_forcefully(client)
    assert caplog.messages == ["the handler for a friend failed"]


async def test_without_it_the_name_is_the_address(tls: Maker) -> None:
    names: list[str] = []

    async def handler(stream: Stream) -> None:
        names.append(peer_name.get())

    async with serving(tls.version, handler) as (_, server):
        transport = await connect(server)
        host, port = transport.socket.getsockname()
        client = client_over(transport, tls.version)
        await client.do_handshake()
        await client.aclose()
    assert names == [f"{host}:{port}"]
    assert peer_name.get() == ""


# Refusals:


async def test_who_is_refused_is_told_of_and_counted(
    tls: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    errors: list[tuple[Exception, Stream]] = []
    async with serving(
        tls.version,
        answer_each,
        prepare=read_a_line,
        on_error=lambda error, stream: errors.append((error, stream)),
    ) as (tasks, server):
        transport = await connect(server, b"go away\n")
        host, port = transport.socket.getsockname()
        assert await transport.receive_some() == b""
        await until(lambda: server.tally == {FAILED: 1})
        await transport.aclose()
        [(error, stream)] = errors
        assert isinstance(error, RefusedError)
        assert stream.transport_stream.socket.fileno() == -1
        [record] = caplog.records
        assert record.levelno == logging.WARNING
        assert record.getMessage() == (
            f"refused {host}:{port} before the TLS handshake: "
            "RefusedError: go away yourself"
        )
        client = client_over(await connect(server, b"a friend\n"), tls.version)
        await ask(client)
        tasks.start_soon(is_told_goodbye, client)
        await server.drain()
    assert server.tally == {FAILED: 1, COMPLETE: 1}


async def test_what_it_returns_must_be_bytes(
    tls13: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    async def prepare(transport: Transport) -> Any:
        await trio.lowlevel.checkpoint()
        return "text"

    async with serving(tls13.version, echo, prepare=prepare) as (_, server):
        async with await connect(server) as transport:
            assert await transport.receive_some() == b""
        await until(lambda: server.tally == {FAILED: 1})
    assert "what prepare returns must be bytes, not str" in caplog.text


async def test_clear_text_that_was_read_too_far_is_no_tls(
    tls: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    """So nothing that an attacker puts in front of TLS is taken for a request."""
    async with serving(tls.version, echo, prepare=read_a_line) as (_, server):
        async with await connect(
            server, b"STARTTLS\nMAIL FROM: <attacker>\n"
        ) as client:
            await until(lambda: server.tally == {FAILED: 1})
            await client.aclose()
    assert "does not seem to speak TLS" in caplog.text


@pytest.mark.parametrize("wrong", ["text", lambda _: None, 5])
async def test_one_that_is_not_async_is_told_at_once(wrong: Any) -> None:
    async with open_tls_nursery() as tls:
        with pytest.raises(TypeError, match=r"^prepare must be an async function, not"):
            await tls.start_server(echo, 0, server_context(), prepare=wrong)


async def test_it_may_end_a_connection_itself(
    tls: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    """There is no TLS to come, and nothing is wrong."""
    caplog.set_level(logging.DEBUG, "trio_tlsdown")

    async def prepare(transport: Transport) -> None:
        await transport.send_all(b"closed today")
        await transport.aclose()

    async with serving(tls.version, echo, prepare=prepare) as (_, server):
        async with await connect(server) as transport:
            assert b"".join([chunk async for chunk in transport]) == b"closed today"
        await until(lambda: caplog.records)
        assert server.tally == {}
    [record] = caplog.records
    assert record.levelno == logging.DEBUG
    assert record.getMessage().endswith(" left before the TLS handshake")


# Those who say nothing:


@pytest.mark.parametrize("transport", ["tcp", "memory"])
async def test_a_health_check_is_a_visitor(
    transport: str, tls: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "trio_tlsdown")
    listener = MemoryListener()
    async with open_tls_nursery() as nursery:
        context = server_context(tls.version)
        start = nursery.start_server
        if transport == "tcp":
            server = await start(echo, 0, context, host=HOST, prepare=read_a_line)
            await (await connect(server)).aclose()
        else:
            server = await start(
                echo, listeners=[listener], ssl_context=context, prepare=read_a_line
            )
            await listener.connect().aclose()
        await until(lambda: caplog.records)
        assert server.tally == {}
    [record] = caplog.records
    assert record.levelno == logging.DEBUG
    assert record.getMessage().endswith(" left before the TLS handshake")


async def test_it_has_the_time_of_the_handshake(
    tls: Maker, autojump_clock: Clock
) -> None:
    errors: list[Exception] = []
    async with serving(
        tls.version,
        echo,
        prepare=read_a_line,
        handshake_timeout=7,
        on_error=lambda error, _: errors.append(error),
    ) as (_, server):
        transport = await connect(server)
        await trio.sleep(5)
        await transport.send_all(b"a friend\n")
        assert await transport.receive_some() == b""
        assert trio.current_time() == pytest.approx(7, abs=0.1)
        # It has said a line, and then nothing of TLS: that is a visitor.
        await until(lambda: not server.connections)
        assert server.tally == {}
        async with await connect(server, b"half a lin") as second:
            assert await second.receive_some() == b""
        assert trio.current_time() == pytest.approx(14, abs=0.1)
        await until(lambda: server.tally == {FAILED: 1})
        await transport.aclose()
    [error] = errors
    assert isinstance(error, HandshakeTimeoutError)
    assert error.timeout == 7


async def test_the_one_that_came_first_makes_room(
    tls: Maker, autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(
        tls.version, answer_each, prepare=read_a_line, max_handshakes=2
    ) as (tasks, server):
        stalling = [await connect(server, b"half a lin") for _ in range(2)]
        await trio.sleep(OLD)
        client = client_over(await connect(server, b"a friend\n"), tls.version)
        await ask(client)
        assert await stalling[0].receive_some() == b""
        await until(lambda: server.tally == {FAILED: 1})
        assert "longer than 10 s" in caplog.text
        tasks.start_soon(is_told_goodbye, client)
        await server.drain(grace=1)
        for transport in stalling:
            await transport.aclose()


async def test_one_that_was_just_let_through_is_not_the_first(
    tls: Maker, autojump_clock: Clock
) -> None:
    """Its ClientHello is on its way; the others have been silent for longer."""
    async with serving(
        tls.version, answer_each, prepare=start_tls, max_handshakes=2
    ) as (tasks, server):
        first, silent = await connect(server), await connect(server)
        await until(lambda: len(server.connections) == 2)
        await goes_ahead(first)
        async with await connect(server):
            assert await silent.receive_some() == b""
            await silent.aclose()
            client = client_over(first, tls.version)
            await ask(client)
            assert server.tally == {FAILED: 1}
        tasks.start_soon(is_told_goodbye, client)
        await server.drain()


async def test_one_that_has_made_room_stays_gone_if_it_is_let_through_all_the_same(
    tls: Maker, autojump_clock: Clock
) -> None:
    """As when *prepare* has something to finish."""

    async def prepare(_: Transport) -> None:
        with trio.CancelScope(shield=True):
            await go_on.wait()

    go_on = trio.Event()
    errors: list[Exception] = []
    async with serving(
        tls.version,
        answer_each,
        prepare=prepare,
        max_handshakes=1,
        on_error=lambda error, _: errors.append(error),
    ) as (tasks, server):
        first = await connect(server)
        await until(lambda: len(server.connections) == 1)
        second = await connect(server)
        await until(lambda: len(server.connections) == 2)
        go_on.set()
        assert await first.receive_some() == b""
        assert trio.current_time() < 1
        await first.aclose()
        client = client_over(second, tls.version)
        await ask(client)
        tasks.start_soon(is_told_goodbye, client)
        await server.drain()
    assert server.tally == {COMPLETE: 1}
    assert errors == []


async def test_one_that_is_in_its_handshake_already_is_not_the_first(
    tls: Maker, autojump_clock: Clock
) -> None:
    async with serving(
        tls.version, answer_each, prepare=read_a_line, max_handshakes=1
    ) as (_, server):
        async with await connect(server, b"a friend\n\x16\x03") as first:
            await trio.testing.wait_all_tasks_blocked()
            async with await connect(server, b"half a lin"):
                await trio.testing.wait_all_tasks_blocked()
                async with await connect(server, b"half a lin"):
                    await trio.sleep(HURRIED_HANDSHAKE_TIMEOUT - 1)
                    assert server.tally == {}
                    assert await first.receive_some() == b""
                    assert trio.current_time() == pytest.approx(
                        HURRIED_HANDSHAKE_TIMEOUT, abs=0.1
                    )


# A drain:


async def test_a_drain_lets_it_finish(tls: Maker, autojump_clock: Clock) -> None:
    """What it asks somebody else, say, and the request that is behind it."""

    async def prepare(transport: Transport) -> None:
        await server.draining.wait()
        assert draining()
        await trio.sleep(2)

    async with serving(tls.version, answer_each, prepare=prepare) as (tasks, server):
        client = client_over(await connect(server), tls.version)

        async def visit() -> None:
            await ask(client)
            await is_told_goodbye(client)

        await until(lambda: server.connections)
        tasks.start_soon(visit)
        report = await server.drain()
        assert report.tally == {COMPLETE: 1}
        assert report.elapsed == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("said", [b"", b"half a lin"])
async def test_a_drain_waits_for_who_has_begun_to_speak(
    said: bytes, tls: Maker, autojump_clock: Clock
) -> None:
    async with serving(tls.version, answer_each, prepare=read_a_line) as (_, server):
        transport = await connect(server, said)
        await trio.sleep(OLD)
        report = await server.drain(grace=4)
        assert report.tally == ({FAILED: 1} if said else {})
        assert report.elapsed == pytest.approx(4 if said else 0, abs=0.1)
        assert await transport.receive_some() == b""
        await transport.aclose()


async def test_a_drain_gives_a_new_client_a_moment(
    tls: Maker, autojump_clock: Clock
) -> None:
    async with serving(tls.version, answer_each, prepare=read_a_line) as (_, server):
        silent = await connect(server)
        slow = await connect(server)
        async with trio.open_nursery() as nursery:

            async def visit() -> None:
                await trio.sleep(DRAIN_PATIENCE / 2)
                await slow.send_all(b"a friend\n")
                client = client_over(slow, tls.version)
                await ask(client)
                await is_told_goodbye(client)

            nursery.start_soon(visit)
            report = await server.drain()
        assert report.tally == {COMPLETE: 1}
        assert report.elapsed == pytest.approx(DRAIN_PATIENCE, abs=0.1)
        assert await silent.receive_some() == b""
        await silent.aclose()


async def start_tls(transport: Transport) -> None:
    """As in mail: the client asks for it, and is told to go ahead."""
    if await transport.receive_some() != b"STARTTLS":
        raise RefusedError("no STARTTLS")
    await transport.send_all(b"go ahead")


async def goes_ahead(transport: Transport) -> None:
    await transport.send_all(b"STARTTLS")
    assert await transport.receive_some() == b"go ahead"


async def is_served_in_a_drain(transport: trio.SocketStream, version: str) -> None:
    await trio.sleep(1)  # of five
    await goes_ahead(transport)
    await trio.sleep(DRAIN_PATIENCE * 0.9)
    client = client_over(transport, version)
    await ask(client)
    await is_told_goodbye(client)


async def test_a_drain_gives_a_moment_to_who_has_just_been_let_through(
    tls: Maker, autojump_clock: Clock
) -> None:
    """Its ClientHello is on its way, however long ago it has connected."""
    async with serving(tls.version, answer_each, prepare=start_tls) as (_, server):
        slow, silent = await connect(server), await connect(server)
        await trio.sleep(OLD)
        async with trio.open_nursery() as nursery:

            async def say_nothing_more() -> None:
                await trio.sleep(2)
                await goes_ahead(silent)
                assert await silent.receive_some() == b""

            nursery.start_soon(is_served_in_a_drain, slow, tls.version)
            nursery.start_soon(say_nothing_more)
            report = await server.drain()
        assert report.tally == {COMPLETE: 1}
        assert report.elapsed == pytest.approx(2 + DRAIN_PATIENCE, abs=0.1)
        await silent.aclose()


async def test_a_time_limit_of_prepare_takes_nobody_that_moment_in_a_drain(
    tls: Maker, autojump_clock: Clock
) -> None:

    async def speak_second(transport: Transport) -> None:
        with cancel_on_drain(timeout=1) as scope:
            await transport.receive_some()
        assert scope.cancelled_caught
        await start_tls(transport)

    async with serving(tls.version, answer_each, prepare=speak_second) as (_, server):
        slow = await connect(server)
        await trio.sleep(OLD)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(is_served_in_a_drain, slow, tls.version)
            assert (await server.drain()).tally == {COMPLETE: 1}


async def test_when_the_grace_is_over_it_is_cancelled(
    tls: Maker, autojump_clock: Clock
) -> None:
    async def prepare(transport: Transport) -> None:
        await trio.sleep_forever()

    async with serving(tls.version, answer_each, prepare=prepare) as (_, server):
        async with await connect(server) as transport:
            await until(lambda: server.connections)
            report = await server.drain(grace=1)
            assert report.elapsed == pytest.approx(1, abs=0.001)
            assert report.handlers_cancelled == 0
            assert report.tally == {FAILED: 1}
            assert await transport.receive_some() == b""


# Cancellation:


@pytest.mark.parametrize("version", TLS13_FIRST)
async def test_wherever_it_is_cancelled_nothing_is_left(tls: Maker) -> None:
    async def scenario(cancellation: Cancellation) -> None:
        with cancellation:
            async with serving(tls.version, answer_each, prepare=read_a_line) as (
                tasks,
                server,
            ):
                transport = await connect(server)
                try:
                    await transport.send_all(b"a friend\n")
                    client = client_over(transport, tls.version)
                    await ask(client)
                    tasks.start_soon(is_told_goodbye, client)
                    await server.drain()
                finally:
                    await trio.aclose_forcefully(transport)

    await cancel_everywhere(scenario)


async def test_a_connection_that_is_closed_meanwhile_ends(tls: Maker) -> None:
    """By somebody who has it from `connections`."""
    async with serving(tls.version, echo, prepare=read_a_line) as (_, server):
        async with await connect(server):
            await until(lambda: server.connections)
            [stream] = server.connections
            await trio.aclose_forcefully(stream)
            await until(lambda: not server.connections)
