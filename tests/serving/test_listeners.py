"""A server on listeners that it did not open: Unix sockets, shared ones, anything."""

from __future__ import annotations

import errno
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.servers import (
    HOST,
    MemoryListener,
    SyncClient,
    answer_each,
    answer_each_in_a_scope,
    ask,
    client_over,
    is_told_goodbye,
    nothing_left,
    until,
    what_it_sees,
)
from tests.support import (
    TLS13_FIRST,
    Maker,
    client_context,
    descriptors,
    needs_linux,
    needs_posix,
    server_context,
)
from trio_tlsdown import (
    ShutdownOutcome,
    ShutdownPolicy,
    TLSFailedError,
    TLSListener,
    TLSNursery,
    TLSServer,
    TLSStream,
    open_tls_nursery,
    peer_name,
)
from trio_tlsdown._serving.accept import (
    ACCEPT_TIME,
    BACKLOG_TIME,
    Shortage,
    accept_backlog,
)
from trio_tlsdown._serving.drain import DRAIN_PATIENCE, FIRST_REQUEST_TIME
from trio_tlsdown.testing import Cancellation, cancel_everywhere, echo
from trio_tlsdown.testing._transports import reset_when_closed

ABORTED = ShutdownOutcome.ABORTED
COMPLETE = ShutdownOutcome.COMPLETE
FAILED = ShutdownOutcome.FAILED

Clock = trio.testing.MockClock


def unix_listener(path: Path | str) -> trio.SocketListener:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    return trio.SocketListener(trio.socket.from_stdlib_socket(sock))


def tcp_listener(**options: Any) -> trio.SocketListener:
    sock = socket.create_server((HOST, 0), **options)
    return trio.SocketListener(trio.socket.from_stdlib_socket(sock))


@asynccontextmanager
async def serving_on(
    listener: trio.abc.Listener[Any], version: str, handler: Any, **options: Any
) -> AsyncIterator[tuple[TLSNursery, TLSServer]]:
    async with open_tls_nursery() as tls:
        server = await tls.start_server(
            handler,
            listeners=[listener],
            ssl_context=server_context(version),
            **options,
        )
        yield tls, server


# Unix sockets:


@needs_posix("Unix sockets")
async def test_a_unix_socket_is_served_and_drained(tls: Maker, tmp_path: Path) -> None:
    async with nothing_left():
        listener = unix_listener(tmp_path / "socket")
        async with serving_on(listener, tls.version, answer_each) as (nursery, server):
            assert server.addresses == (str(tmp_path / "socket"),)
            transport = await trio.open_unix_socket(tmp_path / "socket")
            client = client_over(transport, tls.version)
            await ask(client)
            nursery.start_soon(is_told_goodbye, client)
            assert (await server.drain()).tally == {COMPLETE: 1}


@needs_posix("Unix sockets")
async def test_a_request_in_the_kernel_of_a_unix_socket_is_answered(
    tls: Maker, tmp_path: Path, autojump_clock: Clock
) -> None:
    listener = unix_listener(tmp_path / "socket")
    async with serving_on(listener, tls.version, answer_each) as (nursery, server):
        transport = await trio.open_unix_socket(tmp_path / "socket")
        client = client_over(transport, tls.version)
        await ask(client)
        await trio.sleep(10)

        async def receive() -> None:
            assert await client.receive_some() == b"answer to request"
            await is_told_goodbye(client)

        await client.send_all(b"request")
        nursery.start_soon(receive)
        report = await server.drain()
        assert report.tally == {COMPLETE: 1}
        assert report.discarded == 0


@needs_posix("Unix sockets")
@pytest.mark.parametrize("kind", ["unix", "tcp"])
async def test_clients_in_the_backlog_of_a_given_socket_are_served(
    kind: str, tls: Maker, tmp_path: Path
) -> None:
    path = tmp_path / "socket"
    listener = unix_listener(path) if kind == "unix" else tcp_listener()
    address = listener.socket.getsockname()
    async with serving_on(listener, tls.version, answer_each) as (_, server):
        async with trio.open_nursery() as nursery:
            for _ in range(7):
                sock = socket.socket(listener.socket.family)
                sock.connect(address)  # the kernel accepts
                sock.settimeout(0)
                transport = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
                client = client_over(transport, tls.version)

                async def visit(client: TLSStream[Any] = client) -> None:
                    await ask(client)
                    await is_told_goodbye(client)

                nursery.start_soon(visit)
            report = await server.drain()
        assert report.tally == {COMPLETE: 7}


@needs_linux("the abstract namespace")
async def test_a_name_in_the_abstract_namespace_is_legible(
    tls13: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"tlsdown-{os.getpid()}"
    async with serving_on(unix_listener(f"\0{name}"), tls13.version, echo) as (
        _,
        server,
    ):
        transport = await trio.open_unix_socket(f"\0{name}")
        async with transport:
            await transport.send_all(b"GET / HTTP/1.1\r\n\r\n")
            await until(lambda: server.tally == {FAILED: 1})
    assert f"TLS handshake with unix:@{name} failed: " in caplog.text


@needs_posix("Unix sockets")
async def test_the_peer_of_a_unix_socket_has_a_name_in_logs(
    tls: Maker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "trio_tlsdown")
    path = tmp_path / "socket"
    async with serving_on(unix_listener(path), tls.version, echo) as (_, server):
        async with await trio.open_unix_socket(path) as silent:
            await until(lambda: server.connections)
            await silent.aclose()
            await until(lambda: not server.connections)
        async with await trio.open_unix_socket(path) as insane:
            await insane.send_all(b"GET / HTTP/1.1\r\n\r\n")
            await until(lambda: server.tally == {FAILED: 1})
    visit, failure = [record.getMessage() for record in caplog.records]
    assert visit == f"unix:{path} connected and sent nothing"
    assert failure.startswith(f"TLS handshake with unix:{path} failed: ")


# Any listener:


async def test_a_listener_of_memory_streams_is_served_and_drained(tls: Maker) -> None:
    listener = MemoryListener()
    names: list[str] = []

    async def handler(stream: TLSStream[Any]) -> None:
        names.append(peer_name.get())
        await answer_each(stream)

    async with serving_on(listener, tls.version, handler) as (nursery, server):
        assert server.addresses == (None,)
        client = client_over(listener.connect(), tls.version)
        await ask(client)
        nursery.start_soon(is_told_goodbye, client)
        assert (await server.drain()).tally == {COMPLETE: 1}
        assert listener.closed
    assert names == ["a client over StapledStream"]


async def test_a_drain_takes_those_whom_any_listener_has_for_us(
    tls: Maker, autojump_clock: Clock
) -> None:
    listener = MemoryListener()
    async with serving_on(listener, tls.version, answer_each) as (_, server):
        async with trio.open_nursery() as nursery:
            for _ in range(7):
                client = client_over(listener.connect(), tls.version)

                async def visit(client: TLSStream[Any] = client) -> None:
                    await ask(client)
                    await is_told_goodbye(client)

                nursery.start_soon(visit)
            assert (await server.drain()).tally == {COMPLETE: 7}


@pytest.mark.parametrize("handler", [answer_each, answer_each_in_a_scope])
async def test_a_new_client_has_a_moment_whatever_its_transport(
    handler: Callable[[TLSStream[Any]], Awaitable[object]],
    tls: Maker,
    autojump_clock: Clock,
) -> None:
    """Also if that cannot tell whether there is input."""
    listener = MemoryListener()
    async with serving_on(listener, tls.version, handler) as (nursery, server):
        client = client_over(listener.connect(), tls.version)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(server.drain)
        await client.do_handshake()
        await trio.sleep(FIRST_REQUEST_TIME / 2)
        await ask(client)
        await is_told_goodbye(client)
    assert server.tally == {COMPLETE: 1}


async def test_a_drain_takes_them_although_descriptors_have_run_out(
    tls: Maker, autojump_clock: Clock
) -> None:
    class Short(MemoryListener):
        refusals = 0

        async def accept(self) -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            if server.draining.is_set() and self.refusals < 3:
                self.refusals += 1
                raise OSError(errno.EMFILE, "too many")
            return await super().accept()

    listener = Short()
    async with serving_on(listener, tls.version, answer_each) as (nursery, server):
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(server.drain)
        await until(lambda: listener.refusals)
        client = client_over(listener.connect(), tls.version)
        with trio.fail_after(1):
            await ask(client)
            await is_told_goodbye(client)
    assert listener.refusals == 3
    assert server.tally == {COMPLETE: 1}


async def hears_both_halves(client: TLSStream[Any]) -> None:
    assert await client.receive_some() == b"half "
    assert await client.receive_some() == b"and half"
    await is_told_goodbye(client)


@pytest.mark.parametrize("notice", [0, 1])
async def test_one_that_fails_in_a_drain_disturbs_nobody(
    notice: float, tls: Maker, autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    class Fails(MemoryListener):
        async def accept(self) -> trio.abc.Stream:
            if server.draining.is_set():
                raise OSError("its file has gone")
            return await super().accept()

    async def handler(stream: TLSStream[Any]) -> None:
        await stream.send_all(b"half ")
        await server.draining.wait()
        another = client_over(listener.connect(), tls.version)
        await trio.sleep(2)
        await stream.send_all(b"and half")
        await trio.aclose_forcefully(another)

    listener = Fails()
    async with serving_on(listener, tls.version, handler) as (nursery, server):
        client = client_over(listener.connect(), tls.version)
        nursery.start_soon(hears_both_halves, client)
        await until(lambda: server.statistics().open)
        report = await server.drain(grace=3, notice=notice)
        assert report.tally[COMPLETE] == 1
        assert report.handlers_cancelled == 0
    [record] = caplog.records
    assert record.getMessage() == f"accepting from {listener!r} failed"
    assert "its file has gone" in caplog.text
    assert listener.closed


async def test_one_that_always_has_somebody_does_not_hold_up_the_drain(
    tls: Maker, autojump_clock: Clock
) -> None:
    class Crowd(MemoryListener):
        async def accept(self) -> trio.abc.Stream:
            await trio.sleep(ACCEPT_TIME / 2)
            return trio.testing.memory_stream_pair()[0]

    async with serving_on(Crowd(), tls.version, answer_each) as (_, server):
        report = await server.drain(grace=100)
        assert report.elapsed < BACKLOG_TIME + DRAIN_PATIENCE + 0.1


async def test_one_that_takes_long_to_close_does_not_outlast_the_grace(
    tls: Maker, autojump_clock: Clock
) -> None:
    class Slow(MemoryListener):
        async def aclose(self) -> None:
            await trio.sleep(1000)

    async with serving_on(Slow(), tls.version, answer_each) as (_, server):
        report = await server.drain(grace=3)
        assert report.elapsed == pytest.approx(3, abs=0.1)


class ClosesBadly(MemoryListener):
    async def aclose(self) -> None:
        await super().aclose()
        raise OSError("its file has gone")


async def test_one_that_cannot_be_closed_does_not_disturb_a_drain(
    tls: Maker, autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(stream: TLSStream[Any]) -> None:
        await stream.send_all(b"half ")
        await trio.sleep(2)
        await stream.send_all(b"and half")

    listener = ClosesBadly()
    async with serving_on(listener, tls.version, handler) as (nursery, server):
        client = client_over(listener.connect(), tls.version)
        nursery.start_soon(hears_both_halves, client)
        await until(lambda: server.statistics().open)
        report = await server.drain(grace=3)
        assert report.tally == {COMPLETE: 1}
        assert report.handlers_cancelled == 0
        assert report.elapsed == pytest.approx(2, abs=0.1)
    [record] = caplog.records
    assert record.getMessage() == f"closing {listener!r} failed"
    assert "its file has gone" in caplog.text
    assert listener.closed


async def test_what_it_raises_when_it_is_closed_without_a_drain_is_raised(
    tls13: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    class Bad(MemoryListener):
        async def aclose(self) -> None:
            raise OSError("its file has gone")

    with pytest.RaisesGroup(
        pytest.RaisesExc(OSError, match="its file has gone"), flatten_subgroups=True
    ):
        async with serving_on(Bad(), tls13.version, echo) as (nursery, _):
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            await trio.sleep_forever()  # else it might drain first
    assert caplog.records == []


@pytest.mark.parametrize("come", [True, False])
async def test_a_request_that_has_come_over_memory_streams_is_answered(
    tls: Maker, *, come: bool
) -> None:
    """The task that waits has it before the drain can cut it short."""
    listener = MemoryListener()
    async with serving_on(listener, tls.version, answer_each) as (nursery, server):
        client = client_over(listener.connect(), tls.version)
        await ask(client)
        await trio.testing.wait_all_tasks_blocked()

        async def listen() -> None:
            if come:
                assert await client.receive_some() == b"answer to request"
            await is_told_goodbye(client)

        if come:
            await client.send_all(b"request")
        nursery.start_soon(listen)
        assert (await server.drain()).tally == {COMPLETE: 1}


async def test_a_silent_client_over_memory_streams_is_a_visitor(
    tls: Maker, autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "trio_tlsdown")
    listener = MemoryListener()
    async with serving_on(listener, tls.version, echo) as (_, server):
        await listener.connect().aclose()
        await until(lambda: caplog.records)
        silent = listener.connect()
        await trio.sleep(10)
        report = await server.drain()
        assert report.tally == {}
        assert report.elapsed < DRAIN_PATIENCE
        assert await silent.receive_some() == b""
    assert {record.getMessage() for record in caplog.records} == {
        "a client over StapledStream connected and sent nothing"
    }


async def test_limits_hold_for_any_listener(tls: Maker, autojump_clock: Clock) -> None:
    listener = MemoryListener()
    async with serving_on(
        listener, tls.version, answer_each, max_connections=1, max_handshakes=1
    ) as (nursery, server):
        first = client_over(listener.connect(), tls.version)
        await ask(first)
        second = client_over(listener.connect(), tls.version)
        async with trio.open_nursery() as asking:
            asking.start_soon(ask, second)
            await trio.sleep(10)
            assert len(server.connections) == 1
            await first.aclose()
        nursery.start_soon(is_told_goodbye, second)
        await server.drain()


async def test_tls_in_tls_is_served(tls: Maker, autojump_clock: Clock) -> None:
    """The outer streams have shaken hands; a server may listen to a TLSListener."""
    inside = MemoryListener()

    async def outer(stream: TLSStream[Any]) -> None:
        inside._send.send_nowait(stream)
        await trio.sleep_forever()

    outside = MemoryListener()
    async with open_tls_nursery() as nursery:
        context = server_context(tls.version)
        await nursery.start_server(outer, listeners=[outside], ssl_context=context)
        server = await nursery.start_server(
            answer_each, listeners=[inside], ssl_context=context
        )
        tunnel = client_over(outside.connect(), tls.version)
        await tunnel.do_handshake()
        client = client_over(tunnel, tls.version)
        await ask(client)
        nursery.start_soon(is_told_goodbye, client)
        assert (await server.drain()).tally == {COMPLETE: 1}
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n\r\n"])
async def test_who_fails_in_the_outer_handshake_is_no_visitor(
    said: bytes, tls: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    """Who says nothing is."""
    caplog.set_level(logging.DEBUG, "trio_tlsdown")
    errors: list[Exception] = []
    below = MemoryListener()
    listener = TLSListener(below, server_context(tls.version))
    async with serving_on(
        listener,
        tls.version,
        echo,
        on_error=lambda error, _: errors.append(error),
    ) as (_, server):
        async with below.connect() as client:
            if said:
                await client.send_all(said)
                await until(lambda: caplog.records)
        await until(lambda: caplog.records)
        assert server.tally == ({FAILED: 1} if said else {})
    [record] = caplog.records
    if said:
        assert record.levelno == logging.WARNING
        assert record.getMessage().startswith(
            "TLS handshake with a client over TLSStream failed: "
        )
        [error] = errors
        assert isinstance(error, TLSFailedError)
    else:
        assert record.levelno == logging.DEBUG
        assert record.getMessage().endswith(" connected and sent nothing")
        assert errors == []


async def test_a_listener_that_gives_no_streams_takes_the_server_down(
    tls13: Maker,
) -> None:
    class Wrong(MemoryListener):
        async def accept(self) -> Any:
            return MemoryListener()  # it can be closed, and that is all

    with pytest.RaisesGroup(
        pytest.RaisesExc(TypeError, match="what a listener accepts"),
        flatten_subgroups=True,
    ):
        async with serving_on(Wrong(), tls13.version, echo):
            await trio.sleep_forever()


async def test_a_transport_that_cannot_be_closed_concerns_nobody_else(
    tls: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    listener = MemoryListener()

    class Stuck(trio.abc.Stream):
        async def send_all(self, data: bytes | bytearray | memoryview) -> None: ...
        async def wait_send_all_might_not_block(self) -> None: ...
        async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
            return await theirs.receive_some(max_bytes)

        async def aclose(self) -> None:
            raise RuntimeError("it is stuck")

    ours, theirs = trio.testing.memory_stream_pair()
    async with serving_on(listener, tls.version, answer_each) as (nursery, server):
        listener._send.send_nowait(Stuck())
        await ours.send_all(b"GET / HTTP/1.1\r\n\r\n")
        await until(lambda: server.tally == {FAILED: 1})
        client = client_over(listener.connect(), tls.version)
        await ask(client)
        nursery.start_soon(is_told_goodbye, client)
        await server.drain()
    assert "closing the connection from a client over Stuck failed" in caplog.text


@pytest.mark.parametrize("fails", [False, True])
async def test_a_transport_that_takes_long_to_close_does_not_outlast_a_drain(
    tls: Maker, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    async def close_slowly() -> None:
        try:
            await trio.sleep_forever()
        finally:
            theirs.send_stream.close()
            theirs.receive_stream.close()

    async def handler(stream: TLSStream[Any]) -> None:
        await stream.receive_some()

    async def talk() -> None:
        await client.do_handshake()
        if fails:
            await client.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
        else:
            await client.send_all(b"hello")
            await what_it_sees(client)

    listener = MemoryListener()
    ours, theirs = trio.testing.memory_stream_pair()
    client = client_over(ours, tls.version)
    monkeypatch.setattr(theirs, "aclose", close_slowly)
    listener._send.send_nowait(theirs)
    policy = ShutdownPolicy(timeout=3, linger_timeout=2)
    async with open_tls_nursery(policy) as nursery:
        server = await nursery.start_server(
            handler, listeners=[listener], ssl_context=server_context(tls.version)
        )
        nursery.start_soon(talk)
        await trio.testing.wait_all_tasks_blocked()
        report = await server.drain(grace=0)
        assert report.elapsed <= 3 + 2
        assert report.tally.total() == 1
        await trio.aclose_forcefully(client)


@pytest.mark.parametrize("gone", [False, True])
async def test_a_client_has_its_address_whoever_has_accepted_it(
    tls: Maker, caplog: pytest.LogCaptureFixture, *, gone: bool
) -> None:
    """If it is still there to be asked."""

    class Wrapped(MemoryListener):
        async def accept(self) -> trio.abc.Stream:
            stream = await below.accept()
            if gone:
                reset_when_closed(client)
                client.socket.close()
            return stream

    caplog.set_level(logging.DEBUG, "trio_tlsdown")
    below = tcp_listener()
    client = await trio.testing.open_stream_to_socket_listener(below)
    host, port = client.socket.getsockname()
    async with below, serving_on(Wrapped(), tls.version, echo) as (_, server):
        if not gone:
            await until(lambda: server.connections)
            client.socket.close()
        await until(lambda: caplog.records)
        await server.drain()
    name = "a client over SocketStream" if gone else f"{host}:{port}"
    assert caplog.messages == [f"{name} connected and sent nothing"]


# New clients in a drain:


@needs_linux("a kernel that drops SYNs when the backlog is full")
async def test_clients_that_come_while_the_backlog_is_emptied_do_not_prolong_it() -> (
    None
):
    """Their kernels try again in a second, and are refused then."""
    listener = tcp_listener()
    address = listener.socket.getsockname()
    with ExitStack() as clients:
        for _ in range(10):
            clients.enter_context(socket.create_connection(address))
        accepted = 0

        def start(transport: trio.SocketStream, _: str) -> None:
            nonlocal accepted
            accepted += 1
            transport.socket.close()
            if accepted < 8:  # the last one in the backlog is not to be met
                late = clients.enter_context(socket.socket())
                late.settimeout(0)
                assert late.connect_ex(address) == errno.EINPROGRESS

        async with listener:
            await accept_backlog(listener, start, shortage=Shortage(), exclusive=True)
        assert accepted == 10


# Shared sockets:


async def test_the_backlog_of_a_shared_socket_stays_as_long_as_it_was(
    tls: Maker,
) -> None:
    """Whoever goes on to listen needs it."""
    with socket.create_server((HOST, 0), backlog=100) as sock:
        shared = trio.socket.from_stdlib_socket(sock.dup())
        async with serving_on(trio.SocketListener(shared), tls.version, echo) as (
            _,
            server,
        ):
            await server.drain()
        clients = [socket.create_connection(sock.getsockname()) for _ in range(50)]
        for client in clients:
            sock.accept()[0].close()
            client.close()


async def test_a_client_that_another_process_takes_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: Clock
) -> None:
    listener = tcp_listener()
    is_readable = type(listener.socket).is_readable
    clients = [socket.create_connection(listener.socket.getsockname())]

    def is_readable_for_others(sock: Any) -> bool:
        readable: bool = is_readable(sock)
        if readable:
            sock._sock.accept()[0].close()
        return readable

    monkeypatch.setattr(type(listener.socket), "is_readable", is_readable_for_others)
    async with listener:
        began = trio.current_time()
        await accept_backlog(
            listener, lambda *_: None, shortage=Shortage(), exclusive=False
        )
        assert trio.current_time() - began == pytest.approx(ACCEPT_TIME)
    clients[0].close()


# Shortages:


async def test_when_descriptors_run_out_the_client_that_is_silent_longest_makes_room(
    tls: Maker, monkeypatch: pytest.MonkeyPatch, autojump_clock: Clock
) -> None:
    listener = tcp_listener()
    async with serving_on(listener, tls.version, answer_each) as (nursery, server):
        port = listener.socket.getsockname()[1]
        silent = [SyncClient(port, tls.version) for _ in range(2)]
        await until(lambda: len(server.connections) == 2)
        accept = listener.socket.accept

        async def accept_if_there_is_one() -> Any:
            if len(server.connections) >= 2:
                await trio.lowlevel.wait_readable(listener.socket)
                raise OSError(errno.EMFILE, "too many")
            return await accept()

        monkeypatch.setattr(listener.socket, "accept", accept_if_there_is_one)
        first = SyncClient(port, tls.version)  # has the accept that was waiting
        await until(lambda: len(server.connections) == 3)
        began = trio.current_time()
        transport = await trio.open_tcp_stream(HOST, port)
        client = client_over(transport, tls.version)
        await ask(client)
        assert trio.current_time() - began < 1
        assert silent[0].sock.recv(1) == b""
        assert silent[1].sock.recv(1) == b""
        for each in (*silent, first):
            each.sock.close()
        nursery.start_soon(is_told_goodbye, client)
        await server.drain()


async def test_when_descriptors_run_out_a_client_that_has_spoken_stays(
    tls13: Maker, monkeypatch: pytest.MonkeyPatch, autojump_clock: Clock
) -> None:
    """It may just have been accepted, in front of the one for whom there is no room."""
    listener = tcp_listener()
    accept = listener.socket.accept

    async def accept_two() -> Any:
        if len(server.connections) == 2:
            raise OSError(errno.EMFILE, "too many")
        return await accept()

    async def prepare(_: trio.abc.Stream) -> None:
        await trio.sleep(10)

    monkeypatch.setattr(listener.socket, "accept", accept_two)
    async with serving_on(listener, tls13.version, answer_each, prepare=prepare) as (
        nursery,
        server,
    ):
        port = listener.socket.getsockname()[1]
        client = SyncClient(port, tls13.version)
        client.send_hello()
        await until(lambda: len(server.connections) == 1)
        silent = SyncClient(port, tls13.version)
        await until(lambda: len(server.connections) == 2)
        another = SyncClient(port, tls13.version)
        await trio.lowlevel.wait_readable(silent.sock)
        assert silent.sock.recv(1) == b""
        await client.handshake()
        client.send(b"request")
        assert await client.receive() == b"answer to request"
        nursery.start_soon(client.goodbye)
        for each in (silent, another):
            each.sock.close()
        await server.drain()


async def test_a_shortage_in_a_drain_is_told_once_and_silent_clients_make_room(
    tls13: Maker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: Clock,
) -> None:
    listener = tcp_listener()
    made_room: list[float] = []

    async def accept() -> Any:
        await trio.lowlevel.checkpoint()
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr(listener.socket, "accept", accept)
    with socket.create_connection(listener.socket.getsockname()):
        async with listener:
            with trio.move_on_after(1):
                await accept_backlog(
                    listener,
                    lambda *_: None,
                    shortage=Shortage(lambda: made_room.append(trio.current_time())),
                    exclusive=True,
                )
    assert len(made_room) >= 10
    [line] = caplog.records
    assert "cannot accept connections" in line.getMessage()


# Arguments:


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, TypeError, "needs a port or listeners"),
        ({"listeners": []}, ValueError, "listeners must not be empty"),
        ({"listeners": 5}, TypeError, "listeners must be a"),
        ({"listeners": [5]}, TypeError, "listeners must be a Listener, not 5"),
        ({"listeners": "text"}, TypeError, "listeners must be a Listener, not 't'"),
    ],
)
async def test_listeners_that_cannot_be_are_told_at_once(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    async with open_tls_nursery() as tls:
        with pytest.raises(error, match=message):
            await tls.start_server(echo, ssl_context=server_context(), **arguments)


@pytest.mark.parametrize(
    ("name", "value"), [("port", 0), ("host", HOST), ("backlog", 5)]
)
async def test_what_is_for_a_port_excludes_listeners(name: str, value: Any) -> None:
    listener = MemoryListener()
    async with open_tls_nursery() as tls:
        with pytest.raises(TypeError, match=f"{name} and listeners exclude each other"):
            await tls.start_server(
                echo,
                listeners=[listener],
                ssl_context=server_context(),
                **{name: value},
            )
        assert not listener.closed


async def test_the_same_listener_twice_is_told_at_once() -> None:
    listener = MemoryListener()
    async with open_tls_nursery() as tls:
        with pytest.raises(ValueError, match="the same one twice"):
            await tls.start_server(
                echo, listeners=[listener] * 2, ssl_context=server_context()
            )


async def test_listeners_that_are_equal_are_not_the_same(tls: Maker) -> None:
    """They need not be hashable, either."""

    class Equal(MemoryListener):
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Equal)

        __hash__ = None  # type: ignore[assignment]

    listeners = [Equal(), Equal()]
    assert listeners[0] == listeners[1]
    async with open_tls_nursery() as nursery:
        server = await nursery.start_server(
            answer_each, listeners=listeners, ssl_context=server_context(tls.version)
        )
        for listener in listeners:
            client = client_over(listener.connect(), tls.version)
            await ask(client)
            nursery.start_soon(is_told_goodbye, client)
        assert (await server.drain()).tally == {COMPLETE: 2}


@pytest.mark.parametrize("context", [None, "context", client_context()])
async def test_a_server_needs_a_context(context: Any) -> None:
    listener = MemoryListener()
    async with open_tls_nursery() as tls:
        with pytest.raises((TypeError, ssl.SSLError), match="ssl_context"):
            await tls.start_server(echo, listeners=[listener], ssl_context=context)
        with pytest.raises((TypeError, ssl.SSLError), match="ssl_context"):
            await tls.start_server(echo, 0, context)
    assert not listener.closed


# Closed by others:


def listener_of(kind: str, folder: Path) -> Any:
    match kind:
        case "tcp":
            return tcp_listener()
        case "unix":
            return unix_listener(folder / "socket")
        case _:
            return MemoryListener()


each_kind = pytest.mark.parametrize(
    "kind", ["tcp", pytest.param("unix", marks=needs_posix("Unix sockets")), "memory"]
)


@needs_posix("Unix sockets")
@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_a_listener_that_was_closed_is_told_at_once(
    kind: str, tmp_path: Path
) -> None:
    listener = listener_of(kind, tmp_path)
    await listener.aclose()
    async with open_tls_nursery() as tls:
        with pytest.raises(trio.ClosedResourceError, match="was closed"):
            await tls.start_server(
                echo, listeners=[listener], ssl_context=server_context()
            )


@each_kind
async def test_a_listener_that_somebody_closes_takes_the_server_down(
    kind: str, tls: Maker, tmp_path: Path
) -> None:
    """Nobody should; but it would not be told otherwise."""
    listener = listener_of(kind, tmp_path)
    with pytest.RaisesGroup(trio.ClosedResourceError):
        async with serving_on(listener, tls.version, echo):
            await trio.testing.wait_all_tasks_blocked()
            await listener.aclose()
            await trio.sleep_forever()


@each_kind
@pytest.mark.parametrize("moment", ["before", "notice", "drain", "full"])
async def test_a_listener_that_somebody_closes_for_a_drain_is_no_error(
    kind: str, moment: str, tls: Maker, tmp_path: Path, autojump_clock: Clock
) -> None:
    """Also while a client waits in the backlog, for there are as many as may be."""
    listener = listener_of(kind, tmp_path)
    most = 1 if moment == "full" else None
    async with serving_on(listener, tls.version, answer_each, max_connections=most) as (
        nursery,
        server,
    ):
        client = client_over(await connect(listener), tls.version)
        await ask(client)
        nursery.start_soon(is_told_goodbye, client)
        another = await connect(listener) if moment == "full" else None
        await trio.testing.wait_all_tasks_blocked()
        if moment in {"notice", "drain"}:
            notice = 1 if moment == "notice" else 0
            nursery.start_soon(lambda: server.drain(notice=notice))
            await server.draining.wait()
        close(listener)
        report = await server.drain()
        if another is not None:
            await another.aclose()
    assert report.tally == {COMPLETE: 1}


async def connect(listener: Any) -> trio.abc.Stream:
    if isinstance(listener, MemoryListener):
        return listener.connect()
    sock = trio.socket.socket(listener.socket.family)
    await sock.connect(listener.socket.getsockname())
    return trio.SocketStream(sock)


def close(listener: Any) -> None:
    """Without a checkpoint."""
    if isinstance(listener, MemoryListener):
        listener._receive.close()
    else:
        listener.socket.close()


# Cancellation:


@needs_posix("Unix sockets")
@pytest.mark.parametrize("version", TLS13_FIRST)
async def test_wherever_it_is_cancelled_a_given_listener_is_closed_or_not_taken(
    tls: Maker, tmp_path: Path
) -> None:
    paths = iter(tmp_path / str(number) for number in range(10_000))

    async def scenario(cancellation: Cancellation) -> None:
        before = descriptors()
        listener = unix_listener(next(paths))
        try:
            with cancellation:
                async with serving_on(listener, tls.version, answer_each):
                    path = listener.socket.getsockname()
                    client = client_over(await trio.open_unix_socket(path), tls.version)
                    async with client:
                        await ask(client)
            if not cancellation.cancelled:
                assert listener.socket.fileno() == -1
        finally:
            listener.socket.close()
        assert descriptors() <= before

    await cancel_everywhere(scenario)


async def test_leaving_by_an_exception_cuts_connections_over_any_listener(
    tls: Maker,
) -> None:
    listener = MemoryListener()
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="sorry")):
        async with serving_on(listener, tls.version, answer_each):
            client = client_over(listener.connect(), tls.version)
            await ask(client)
            raise RuntimeError("sorry")
    assert await what_it_sees(client) == "truncated"
    assert listener.closed
