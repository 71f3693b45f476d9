"""Clients that are many, silent or gone lock nobody out, and are bounded."""

from __future__ import annotations

import logging
import math
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import trio
import trio.testing

from tests.servers import (
    HOST,
    Stream,
    SyncClient,
    answer_each,
    client_of,
    nothing_left,
    port_of,
    serving,
    until,
)
from tests.support import CA, NAME, TLS13_FIRST, Maker, server_context
from trio_tlsdown import (
    HandshakeTimeoutError,
    ShutdownOutcome,
    cancel_on_drain,
    open_tls_nursery,
    serve_tls_over_tcp,
)
from trio_tlsdown._serving import server as _server
from trio_tlsdown._serving.server import HURRIED_HANDSHAKE_TIMEOUT
from trio_tlsdown._serving.slots import HANDSHAKE_TIME, SILENT_TIME
from trio_tlsdown.testing import Cancellation, cancel_everywhere, echo
from trio_tlsdown.testing._transports import reset_when_closed

COMPLETE = ShutdownOutcome.COMPLETE
FAILED = ShutdownOutcome.FAILED

Clock = trio.testing.MockClock


async def is_served(port: int, version: str) -> None:
    """An honest client."""
    client = await client_of(port, version)
    await client.send_all(b"hello")
    assert await client.receive_some() == b"hello"
    await client.shutdown()
    await client.aclose()


@contextmanager
def silent_clients(count: int, port: int, version: str) -> Iterator[list[SyncClient]]:
    clients = [SyncClient(port, version) for _ in range(count)]
    try:
        yield clients
    finally:
        for client in clients:
            client.sock.close()


# Silent ones:


@pytest.mark.parametrize("options", [{"max_connections": 2}, {"max_handshakes": 2}])
@pytest.mark.parametrize("count", [2, 5, 16])
async def test_silent_clients_lock_nobody_out(
    options: dict[str, Any], count: int, tls: Maker, autojump_clock: Clock
) -> None:
    async with serving(tls.version, echo, **options) as (_, server):
        with silent_clients(count, port_of(server), tls.version):
            await trio.testing.wait_all_tasks_blocked()
            began = trio.current_time()
            await is_served(port_of(server), tls.version)
            waits = math.ceil(
                count / 2
            )  # places are kept for so many, one after the other
            assert trio.current_time() - began < (waits + 1) * SILENT_TIME
            await until(lambda: server.tally == {COMPLETE: 1})


async def test_the_client_that_has_been_silent_longest_makes_room(
    tls: Maker, autojump_clock: Clock
) -> None:
    async with serving(tls.version, echo, max_handshakes=3) as (_, server):
        with silent_clients(5, port_of(server), tls.version) as clients:
            await until(lambda: len(server.connections) == 3)
            for client in clients[:2]:
                assert client.sock.recv(1) == b""
            for client in clients[2:]:
                with pytest.raises(BlockingIOError):
                    client.sock.recv(1)
        await until(lambda: not server.connections)
        assert server.tally == {}


async def test_without_a_limit_no_silent_client_has_to_make_room(
    tls: Maker, autojump_clock: Clock
) -> None:
    async with serving(tls.version, echo, max_handshakes=None) as (_, server):
        with silent_clients(5, port_of(server), tls.version):
            await until(lambda: len(server.connections) == 5)
            await is_served(port_of(server), tls.version)


# Those whose bytes nobody has read yet:


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("at_once", [False, True])
async def test_clients_that_send_their_hello_at_once_are_not_taken_for_silent(
    count: int, tls: Maker, autojump_clock: Clock, *, at_once: bool
) -> None:
    """However many come together; or are in the backlog when a drain begins."""

    async def visit(client: SyncClient) -> None:
        await client.handshake()
        client.send(b"request")
        assert await client.receive() == b"answer to request"
        answered.append(client)
        await client.goodbye()

    answered: list[SyncClient] = []
    async with nothing_left(), open_tls_nursery() as nursery:
        server = await nursery.start_server(
            answer_each,
            listeners=[await listen() for _ in range(count)],
            ssl_context=server_context(tls.version),
            max_handshakes=count,
        )
        async with trio.open_nursery() as clients:
            for _, port in server.addresses * 10:
                client = SyncClient(port, tls.version)
                client.send_hello()
                clients.start_soon(visit, client)
            if not at_once:
                await until(lambda: len(answered) == 10 * count)
            report = await server.drain()
    assert len(answered) == 10 * count
    assert report.tally == server.tally == {COMPLETE: 10 * count}


async def listen() -> trio.SocketListener:
    [listener] = await trio.open_tcp_listeners(0, host=HOST)
    return listener


@pytest.mark.parametrize(("asked", "gone"), [(2, 0), (3, 2)])
async def test_those_whom_prepare_keeps_waiting_are_bounded(
    asked: int,
    gone: int,
    tls: Maker,
    autojump_clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The one that came first makes room if no silent one is found soon."""

    async def prepare(transport: trio.abc.Stream) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(_server, "MAX_CONNECTIONS_ASKED", asked)
    async with serving(tls.version, echo, prepare=prepare, max_handshakes=3) as (
        nursery,
        server,
    ):
        with silent_clients(4, port_of(server), tls.version) as clients:
            for client in (*clients[:2], clients[3]):
                client.send_hello()
            await until(lambda: server.tally == {FAILED: 1})
            assert len(server.connections) == 3
            for number, client in enumerate(clients):
                if number == gone:
                    with suppress(ConnectionResetError):
                        assert client.sock.recv(1) == b""
                else:
                    with pytest.raises(BlockingIOError):
                        client.sock.recv(1)
        nursery.cancel_scope.cancel()


# Those that begin a handshake:


async def test_no_more_than_max_handshakes_run_at_a_time(
    tls: Maker, autojump_clock: Clock
) -> None:
    """Others wait, the last of them in the kernel's backlog."""
    async with serving(tls.version, echo, max_handshakes=2) as (_, server):
        with silent_clients(3, port_of(server), tls.version) as clients:
            for client in clients:
                client.send_hello()
                await trio.testing.wait_all_tasks_blocked()
            assert len(server.connections) == 3  # one has its place next
            await trio.sleep(1)
            began = trio.current_time()
            await is_served(port_of(server), tls.version)
            assert trio.current_time() - began == pytest.approx(
                HURRIED_HANDSHAKE_TIMEOUT - 1, abs=0.1
            )
        await until(lambda: server.tally == {FAILED: 3, COMPLETE: 1})


async def test_a_handshake_has_its_time_unless_another_one_waits(
    tls: Maker, autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tls.version, echo, max_handshakes=2, handshake_timeout=9) as (
        _,
        server,
    ):
        with silent_clients(1, port_of(server), tls.version) as clients:
            clients[0].send_hello()
            await until(lambda: len(server.connections) == 1)  # its time has begun
            await trio.sleep(8)
            await is_served(port_of(server), tls.version)
            await until(lambda: server.tally == {COMPLETE: 1})
            await trio.sleep(1)
            assert server.tally == {COMPLETE: 1, FAILED: 1}
    assert "took longer than 9 s" in caplog.text


async def test_who_waits_for_its_place_hurries_one_handshake_only(
    tls: Maker, autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tls.version, echo, max_handshakes=2, handshake_timeout=9) as (
        _,
        server,
    ):
        with silent_clients(2, port_of(server), tls.version) as clients:
            await until(lambda: len(server.connections) == 2)  # their time has begun
            for client in clients:
                client.send_hello()
                await trio.sleep(HURRIED_HANDSHAKE_TIMEOUT + 1)
            await is_served(port_of(server), tls.version)
            await until(lambda: server.tally == {FAILED: 1, COMPLETE: 1})
            assert "took longer than 3 s" in caplog.text
            assert trio.current_time() == pytest.approx(
                2 * (HURRIED_HANDSHAKE_TIMEOUT + 1), abs=0.1
            )


async def test_a_failed_handshake_names_the_limit_that_struck(
    tls: Maker, autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Not the time that it has while others wait, if that is longer."""
    errors: list[Exception] = []
    async with serving(
        tls.version,
        echo,
        max_handshakes=1,
        handshake_timeout=0.5,
        on_error=lambda error, _: errors.append(error),
    ) as (_, server):
        with silent_clients(1, port_of(server), tls.version) as clients:
            clients[0].send_hello()
            await trio.testing.wait_all_tasks_blocked()
            await is_served(port_of(server), tls.version)
            assert trio.current_time() == pytest.approx(0.5, abs=0.1)
        await until(lambda: server.tally == {FAILED: 1, COMPLETE: 1})
    [error] = errors
    assert isinstance(error, HandshakeTimeoutError)
    assert error.timeout == 0.5
    assert "took longer than 0.5 s" in caplog.text


async def test_a_client_has_a_place_when_it_has_shaken_hands(
    tls: Maker, autojump_clock: Clock
) -> None:
    """One is kept for it for a moment; then it may have to wait."""
    handled: list[Stream] = []

    async def handler(stream: Stream) -> None:
        handled.append(stream)
        await echo(stream)

    async with serving(tls.version, handler, max_connections=1) as (_, server):
        slow = SyncClient(port_of(server), tls.version)
        slow.send_hello()
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:

            async def come_later() -> None:
                client = await client_of(port_of(server), tls.version)
                assert trio.current_time() - began == pytest.approx(
                    HANDSHAKE_TIME, abs=0.1
                )
                await trio.sleep(1)
                assert len(handled) == 1
                await client.shutdown()
                await client.aclose()

            began = trio.current_time()
            nursery.start_soon(come_later)
            await trio.sleep(2 * HANDSHAKE_TIME)
            await slow.handshake()
            slow.send(b"hello")
            assert await slow.receive() == b"hello"
            assert len(handled) == 2
        slow.sock.close()
        await until(lambda: not server.connections)


@pytest.mark.parametrize(("speaks", "seconds"), [(False, 0.05), (True, 0.5)])
async def test_a_place_is_kept_for_a_moment_and_for_the_time_of_a_round_trip(
    tls: Maker, autojump_clock: Clock, *, speaks: bool, seconds: float
) -> None:
    """So the next one waits in the kernel: when one was accepted, when it has spoken."""
    async with serving(tls.version, echo, max_connections=1) as (_, server):
        with silent_clients(2, port_of(server), tls.version) as clients:
            if speaks:
                clients[0].send_hello()
            await trio.testing.wait_all_tasks_blocked()
            assert len(server.connections) == 1
            await trio.sleep(seconds * 0.9)
            assert len(server.connections) == 1
            await trio.sleep(seconds * 0.2)
            assert len(server.connections) == 2


async def test_a_place_that_was_kept_in_vain_is_free_at_once(
    tls: Maker, autojump_clock: Clock
) -> None:
    async with serving(tls.version, echo, max_connections=1) as (_, server):
        with silent_clients(1, port_of(server), tls.version):
            await trio.testing.wait_all_tasks_blocked()
            began = trio.current_time()
        await is_served(port_of(server), tls.version)
        assert trio.current_time() - began < SILENT_TIME / 2


async def test_hellos_that_come_together_are_answered_one_by_one(tls: Maker) -> None:
    """Each costs a signature; what else has to be done is done between them."""
    passes = 0
    hellos: list[int] = []

    async def count_passes() -> None:
        nonlocal passes
        while True:
            passes += 1
            await trio.lowlevel.cancel_shielded_checkpoint()
            await trio.lowlevel.checkpoint_if_cancelled()

    def note(*_: object) -> None:
        hellos.append(passes)

    async with serving(tls.version, echo) as (_, server):
        server.ssl_context.sni_callback = note
        with silent_clients(20, port_of(server), tls.version) as clients:
            await until(lambda: len(server.connections) == 20)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(count_passes)
                for client in clients:
                    client.send_hello()
                await until(lambda: len(hellos) == 20)
                nursery.cancel_scope.cancel()
    # A task takes its step before or behind that of another in the same pass.
    assert max(hellos.count(number) for number in set(hellos)) <= 2
    assert len(set(hellos)) > 10


# Cancellation:


@pytest.mark.parametrize("version", TLS13_FIRST)
async def test_wherever_it_is_cancelled_nothing_is_left_of_a_server_with_limits(
    tls: Maker, autojump_clock: Clock
) -> None:
    """Some clients wait for each of its limits, and one for its timeout."""

    async def handler(stream: Stream) -> None:
        with cancel_on_drain(timeout=0.01) as scope:
            await stream.receive_some()
        assert scope.cancelled_caught

    async def visit(port: int) -> None:
        with suppress(OSError, trio.BrokenResourceError):
            async with await client_of(port, tls.version, handshake=False) as client:
                assert await client.receive_some() == b""

    async def serve(clients: trio.Nursery) -> None:
        limits: dict[str, Any] = {
            "max_connections": 1,
            "max_handshakes": 1,
            "max_age": 10,
        }
        context = server_context(tls.version)
        async with open_tls_nursery() as nursery:
            server = await nursery.start_server(
                handler, 0, context, host=HOST, **limits
            )
            for _ in range(2):
                clients.start_soon(visit, port_of(server))
            await until(lambda: not clients.child_tasks)

    async def scenario(cancellation: Cancellation) -> None:
        async with trio.open_nursery() as clients:
            with cancellation:
                await serve(clients)

    await cancel_everywhere(scenario)


# Visitors:


@pytest.mark.parametrize("way", ["fin", "reset", "timeout"])
@pytest.mark.parametrize("helper", [False, True])
async def test_a_client_that_never_sends_a_byte_is_a_visitor(
    way: str,
    tls: Maker,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: Clock,
    *,
    helper: bool,
) -> None:
    """A health check is no failed handshake, and no data are missing."""
    caplog.set_level(logging.DEBUG, "trio_tlsdown")
    errors: list[Exception] = []

    async def visit(port: int) -> str:
        client = await trio.open_tcp_stream(HOST, port)
        host, number = client.socket.getsockname()
        if way == "reset":
            reset_when_closed(client)
        if way == "timeout":
            assert await client.receive_some() == b""
            assert trio.current_time() == pytest.approx(7)
        await trio.aclose_forcefully(client)
        await until(lambda: caplog.records)
        return f"{host}:{number}"

    if helper:
        async with nothing_left(), trio.open_nursery() as nursery:
            listeners = await nursery.start(
                lambda **options: serve_tls_over_tcp(
                    echo,
                    0,
                    server_context(tls.version),
                    host=HOST,
                    handshake_timeout=7,
                    **options,
                )
            )
            name = await visit(port_of(listeners))
            nursery.cancel_scope.cancel()
    else:
        async with serving(
            tls.version,
            echo,
            handshake_timeout=7,
            on_error=lambda error, _: errors.append(error),
        ) as (_, server):
            name = await visit(port_of(server))
            assert server.tally == {}
    [record] = caplog.records
    assert record.levelno == logging.DEBUG
    assert record.getMessage() == f"{name} connected and sent nothing"
    assert errors == []


async def test_a_stream_that_is_closed_before_its_client_speaks_was_visited(
    tls: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "trio_tlsdown")
    async with serving(tls.version, echo) as (_, server):
        with silent_clients(1, port_of(server), tls.version):
            await until(lambda: server.connections)
            [stream] = server.connections
            await trio.aclose_forcefully(stream)
            await until(lambda: not server.connections)
        assert server.tally == {}
    assert [record.levelno for record in caplog.records] == [logging.DEBUG]


# A renewed certificate:


def peer_certificate(stream: Stream) -> bytes:
    certificate = stream.getpeercert(binary_form=True)
    assert certificate is not None
    return certificate


def renewed(version: str) -> ssl.SSLContext:
    context = server_context(version)
    CA.issue_cert(NAME).configure_cert(context)
    return context


async def test_a_new_context_is_for_new_handshakes(tls: Maker) -> None:
    async with serving(tls.version, echo) as (_, server):
        port = port_of(server)
        old = await client_of(port, tls.version)
        accepted = await client_of(port, tls.version, handshake=False)
        await until(lambda: len(server.connections) == 2)
        server.ssl_context = context = renewed(tls.version)
        assert server.ssl_context is context
        new = await client_of(port, tls.version)
        await accepted.do_handshake()
        assert peer_certificate(new) == peer_certificate(accepted)
        assert peer_certificate(new) != peer_certificate(old)
        for client in (old, accepted, new):
            await client.send_all(b"hello")
            assert await client.receive_some() == b"hello"
            assert await what_it_sees_after_goodbye(client) == b""
    assert server.tally == {COMPLETE: 3}


async def what_it_sees_after_goodbye(client: Stream) -> bytes:
    await client.shutdown()
    async with client:
        return await client.receive_some()


@pytest.mark.parametrize(
    ("context", "error"),
    [(ssl.create_default_context(), ssl.SSLError), ("context", TypeError)],
)
async def test_a_context_that_cannot_serve_changes_nothing(
    context: Any, error: type[Exception], tls: Maker
) -> None:
    async with serving(tls.version, echo) as (_, server):
        before = server.ssl_context
        with pytest.raises(error, match="ssl_context"):
            server.ssl_context = context
        assert server.ssl_context is before
        await is_served(port_of(server), tls.version)
