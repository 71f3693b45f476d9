"""`open_tls_nursery`: no connection, task or descriptor outlives it."""

import datetime as dt
import errno
import functools
import gc
import logging
import math
import operator
import signal
import socket
import ssl
import weakref
from functools import partial
from typing import Any
from unittest.mock import AsyncMock

import pytest
import trio
import trio.lowlevel
import trio.testing

from tests.servers import (
    HOST,
    Stream,
    client_of,
    nothing_left,
    port_of,
    rogue_of,
    serving,
    until,
)
from tests.support import (
    CA,
    NAME,
    VERSIONS,
    Maker,
    client_context,
    descriptors,
    needs_linux,
    server_context,
)
from trio_tlsdown import (
    ConnectFailedError,
    HandshakeTimeoutError,
    ListenFailedError,
    ShutdownOutcome,
    ShutdownPolicy,
    TLSDownError,
    TLSFailedError,
    TLSNursery,
    TruncatedError,
    open_tls_nursery,
)
from trio_tlsdown._serving import nursery as nursery_module
from trio_tlsdown._serving.nursery import SWEEP_AT_LEAST
from trio_tlsdown.testing import (
    cancel_everywhere,
    echo,
    memory_tls_pair,
    serve_rogue,
)

ABORTED = ShutdownOutcome.ABORTED
COMPLETE = ShutdownOutcome.COMPLETE
FAILED = ShutdownOutcome.FAILED
OPEN = ShutdownOutcome.OPEN
SENT = ShutdownOutcome.SENT


async def connect(tls: TLSNursery, port: int, version: str, **options: Any) -> Stream:
    return await tls.connect(HOST, port, ssl_context=client_context(version), **options)


# Leaving normally:


async def test_clients_and_servers_end_well_together(tls: Maker) -> None:
    async with nothing_left():
        async with open_tls_nursery() as nursery:
            server = await nursery.start_server(
                echo, 0, server_context(tls.version), host=HOST
            )
            clients = [
                await connect(nursery, port_of(server), tls.version) for _ in range(3)
            ]
            await clients[0].send_all(b"hello")
            assert await clients[0].receive_some() == b"hello"
            assert nursery.tally == {}
    assert nursery.tally == {COMPLETE: 6}
    assert server.tally == {COMPLETE: 3}
    assert {client.report.outcome for client in clients} == {COMPLETE}


async def test_leaving_waits_for_tasks_first(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    """Their connections are theirs until they have ended."""
    answers: list[bytes] = []

    async def work(client: Stream) -> None:
        await trio.sleep(100)
        await client.send_all(b"hello")
        answers.append(await client.receive_some())
        nursery.start_soon(more, client, name="more")

    async def more(client: Stream) -> None:
        await trio.sleep(100)
        await client.send_all(b"again")
        answers.append(await client.receive_some())

    async with serving(tls.version, echo) as (nursery, server):
        client = await connect(nursery, port_of(server), tls.version)
        nursery.start_soon(work, client)
    assert answers == [b"hello", b"again"]
    assert nursery.tally == {COMPLETE: 2}


async def test_a_task_that_was_called_already_is_refused_at_once(
    recwarn: pytest.WarningsRecorder,
) -> None:
    async def work() -> None:
        """Do nothing; nobody gets so far."""

    called = work()
    async with open_tls_nursery() as tls:
        with pytest.raises(TypeError, match="wants an async function, not <coroutine"):
            tls.start_soon(called)  # type: ignore[arg-type]
    called.close()
    assert not recwarn


@pytest.mark.parametrize(
    ("wrong", "arguments", "message"),
    [
        (print, (), "wants an async function, not <built-in"),
        (lambda: 5, (), "wants an async function, not <function"),
        (trio.sleep, (), "missing 1 required positional argument"),
        (trio.sleep, (1, 2), "takes 1 positional argument but 2 were given"),
    ],
)
async def test_a_task_that_cannot_be_one_is_told_at_once(
    wrong: Any, arguments: tuple[int, ...], message: str
) -> None:
    async with open_tls_nursery() as tls:
        with pytest.raises(TypeError, match=message):
            tls.start_soon(wrong, *arguments)


async def test_a_task_may_be_any_call_that_returns_a_coroutine() -> None:
    """As for `trio.Nursery.start_soon`."""
    ended = trio.Event()

    async def work(wait: float) -> None:
        await trio.sleep(wait)
        ended.set()

    async with open_tls_nursery() as tls:
        tls.start_soon(lambda: work(0))
        tls.start_soon(partial(work, 0))
    assert ended.is_set()


async def test_a_task_that_comes_too_late_leaves_no_coroutine(
    recwarn: pytest.WarningsRecorder,
) -> None:
    async with open_tls_nursery() as tls:
        pass
    with pytest.raises(RuntimeError):
        tls.start_soon(trio.sleep, 1)
    assert not recwarn


async def test_streams_that_were_ended_already_are_only_counted(tls: Maker) -> None:
    async with serving(tls.version, echo) as (nursery, server):
        port = port_of(server)
        closed = await connect(nursery, port, tls.version)
        await closed.aclose()
        aborted = await connect(nursery, port, tls.version)
        await trio.aclose_forcefully(aborted)
        unwrapped = await connect(nursery, port, tls.version)
        transport, _ = await unwrapped.unwrap()
        await until(lambda: sum(server.tally.values()) == 3)
        assert nursery.tally - server.tally == {SENT: 1, ABORTED: 1, COMPLETE: 1}
        await trio.aclose_forcefully(transport)  # it is the user's now
    assert sum(nursery.tally.values()) == 6


async def test_a_nursery_ends_within_the_policy_even_if_peers_do_not_answer(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    policy = ShutdownPolicy(timeout=3, linger_timeout=1)
    async with nothing_left():
        async with trio.open_nursery() as rogues:
            _, port = await rogues.start(
                lambda **options: serve_rogue(
                    "never_answer", version=tls.version, ca=CA, **options
                )
            )
            async with open_tls_nursery(policy) as nursery:
                for _ in range(3):
                    await connect(nursery, port, tls.version)
                began = trio.current_time()
            assert trio.current_time() - began == pytest.approx(3, abs=0.1)
            rogues.cancel_scope.cancel()
    assert nursery.tally == {ABORTED: 3}


async def test_a_handler_that_does_not_end_has_the_timeout_of_the_policy(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(stream: Stream) -> None:
        await trio.sleep_forever()

    policy = ShutdownPolicy(timeout=3, linger_timeout=1)
    async with serving(tls.version, handler, policy) as (nursery, server):
        await connect(nursery, port_of(server), tls.version)
        began = trio.current_time()
    assert trio.current_time() - began == pytest.approx(3, abs=0.1)
    assert server.tally == {ABORTED: 1}


async def test_leaving_takes_no_longer_than_timeout_and_linger_timeout(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    """Even if a handler ends late, and its peer does not answer."""

    async def handler(stream: Stream) -> None:
        await trio.sleep(2.9)

    policy = ShutdownPolicy(timeout=3, linger_timeout=1)
    async with nothing_left(), trio.open_nursery() as rogues:
        async with open_tls_nursery(policy) as nursery:
            server = await nursery.start_server(
                handler, 0, server_context(tls.version), host=HOST
            )
            await rogue_of(port_of(server), rogues, "never_answer", tls.version)
            await trio.testing.wait_all_tasks_blocked()
            began = trio.current_time()
        assert trio.current_time() - began == pytest.approx(4, abs=0.1)
        assert server.tally == {ABORTED: 1}


@pytest.mark.parametrize("in_a_task", [False, True])
async def test_what_a_handler_opens_while_it_finishes_ends_well_too(
    tls: Maker, autojump_clock: trio.testing.MockClock, *, in_a_task: bool
) -> None:
    async def open_late() -> None:
        await trio.sleep(1)
        second = await nursery.start_server(
            echo, 0, server_context(tls.version), host=HOST
        )
        await connect(nursery, port_of(second), tls.version)

    async def handler(stream: Stream) -> None:
        await server.draining.wait()
        if in_a_task:
            nursery.start_soon(open_late)
        else:
            await open_late()

    async with serving(tls.version, handler) as (nursery, server):
        await connect(nursery, port_of(server), tls.version)
        began = trio.current_time()
    assert nursery.tally == {COMPLETE: 4}
    assert trio.current_time() - began == pytest.approx(1, abs=0.1)


async def test_a_task_that_was_started_so_late_has_what_is_left_of_the_time(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(stream: Stream) -> None:
        await server.draining.wait()
        nursery.start_soon(trio.sleep_forever)

    policy = ShutdownPolicy(timeout=3, linger_timeout=1)
    async with serving(tls.version, handler, policy) as (nursery, server):
        await connect(nursery, port_of(server), tls.version)
        began = trio.current_time()
    assert nursery.tally == {COMPLETE: 2}
    assert trio.current_time() - began == pytest.approx(4, abs=0.1)


async def test_a_drain_that_the_user_has_begun_is_bounded_too(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    policy = ShutdownPolicy(timeout=3)
    async with nothing_left(), trio.open_nursery() as rogues:
        async with open_tls_nursery(policy) as nursery:
            server = await nursery.start_server(
                echo, 0, server_context(tls.version), host=HOST
            )
            await rogue_of(port_of(server), rogues, "never_answer", tls.version)
            await trio.testing.wait_all_tasks_blocked()
            with trio.move_on_after(1):
                await server.drain(grace=math.inf)
            began = trio.current_time()
        assert trio.current_time() - began == pytest.approx(3, abs=0.1)
    assert server.tally == {ABORTED: 1}


async def test_a_client_that_another_task_still_uses_is_aborted(tls: Maker) -> None:
    async def send(stream: Stream) -> None:
        with pytest.raises((trio.ClosedResourceError, trio.BrokenResourceError)):
            await stream.send_all(bytes(2**24))

    async def handler(stream: Stream) -> None:
        await server.draining.wait()

    async with trio.open_nursery() as others:
        async with serving(tls.version, handler) as (nursery, server):
            client = await connect(nursery, port_of(server), tls.version)
            others.start_soon(send, client)
            await trio.testing.wait_all_tasks_blocked()
    assert client.report.outcome is ABORTED


async def test_clients_that_cannot_be_closed_disturb_nobody_else(
    tls: Maker, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What their transports raise is raised at the end."""

    async def handler(stream: Stream) -> None:
        await stream.receive_some()
        await stream.send_all(b"half ")
        await trio.sleep(2)
        await stream.send_all(b"and half")

    async def peer() -> None:
        other = await client_of(port_of(server), tls.version)
        await other.send_all(b"request")
        async for chunk in other:
            received.extend(chunk)
        await other.aclose()

    received = bytearray()
    with pytest.RaisesGroup(OSError, OSError, flatten_subgroups=True):
        async with trio.open_nursery() as peers:
            async with serving(tls.version, handler) as (nursery, server):
                for _ in range(2):
                    bad = await connect(nursery, port_of(server), tls.version)
                    monkeypatch.setattr(
                        bad.transport_stream, "aclose", closes_badly(bad)
                    )
                peers.start_soon(peer)
                await until(lambda: server.statistics().open == 3)
                began = trio.current_time()
    assert received == b"half and half"
    assert trio.current_time() - began == pytest.approx(2, abs=0.1)
    assert server.tally == {COMPLETE: 3}
    assert nursery.tally == {COMPLETE: 5}


def test_ctrl_c_while_clients_end_is_raised_with_what_closing_raises(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with open_tls_nursery() as nursery:
            bad, its_server = await memory_tls_pair()
            await its_server.shutdown(wait=False)
            monkeypatch.setattr(bad.transport_stream, "aclose", closes_badly(bad))
            silent, _ = await memory_tls_pair()
            for client in (bad, silent):
                nursery.adopt(client)
            trio.lowlevel.spawn_system_task(interrupt)

    async def interrupt() -> None:
        await trio.testing.wait_all_tasks_blocked()
        signal.raise_signal(signal.SIGINT)

    with pytest.RaisesGroup(OSError, KeyboardInterrupt, flatten_subgroups=True):
        trio.run(main)


def closes_badly(stream: Any) -> Any:
    async def close() -> None:
        await aclose()
        raise OSError("it does not close well")

    aclose = stream.transport_stream.aclose
    return close


# Leaving otherwise:


async def test_an_exception_aborts_all_connections(tls: Maker) -> None:
    with pytest.RaisesGroup(KeyError):
        async with serving(tls.version, echo) as (nursery, server):
            client = await connect(nursery, port_of(server), tls.version)
            nursery.start_soon(trio.sleep_forever)
            raise KeyError("mine")
    assert nursery.tally == {ABORTED: 2}
    assert not client.report.close_notify_sent


async def test_an_exception_in_a_task_aborts_all_connections(tls: Maker) -> None:
    async def fail(client: Stream) -> None:
        raise KeyError("mine")

    with pytest.RaisesGroup(KeyError):
        async with serving(tls.version, echo) as (nursery, server):
            client = await connect(nursery, port_of(server), tls.version)
            nursery.start_soon(fail, client)
    assert nursery.tally == {ABORTED: 2}


async def test_a_nursery_raises_all_exceptions_in_one_group(tls: Maker) -> None:
    async def fail_in_turn() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ZeroDivisionError

    with pytest.RaisesGroup(KeyError, ZeroDivisionError):
        async with serving(tls.version, echo) as (nursery, server):
            await connect(nursery, port_of(server), tls.version)
            nursery.start_soon(fail_in_turn)
            await trio.testing.wait_all_tasks_blocked()
            raise KeyError("mine")
    assert nursery.tally == {ABORTED: 2}


async def test_no_task_sees_its_stream_closed_before_it_is_cancelled(
    tls: Maker,
) -> None:
    async def receive(client: Stream) -> None:
        try:
            await client.receive_some()
        finally:
            with trio.move_on_after(1, shield=True):
                await client.send_all(b"last words")

    async def handler(stream: Stream) -> None:
        with trio.CancelScope(shield=True):
            got.append(await stream.receive_some())

    got: list[bytes] = []
    with pytest.RaisesGroup(KeyError):
        async with serving(tls.version, handler) as (nursery, server):
            client = await connect(nursery, port_of(server), tls.version)
            nursery.start_soon(receive, client)
            await trio.testing.wait_all_tasks_blocked()
            raise KeyError("mine")
    assert got == [b"last words"]


async def test_cancelling_the_scope_of_a_nursery_aborts_all_connections(
    tls: Maker,
) -> None:
    async with serving(tls.version, echo) as (nursery, server):
        await connect(nursery, port_of(server), tls.version)
        nursery.start_soon(trio.sleep_forever)
        nursery.cancel_scope.cancel()
    assert nursery.tally == {ABORTED: 2}


async def test_a_nursery_can_be_cancelled_while_it_ends(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(stream: Stream) -> None:
        await trio.sleep_forever()

    with trio.move_on_after(1):
        async with serving(tls.version, handler) as (nursery, server):
            await connect(nursery, port_of(server), tls.version)
    assert sum(nursery.tally.values()) == 2
    assert server.tally == {ABORTED: 1}


async def test_a_nursery_that_is_cancelled_from_outside_aborts_every_client(
    tls: Maker,
) -> None:
    with trio.CancelScope() as scope:
        async with serving(tls.version, echo) as (nursery, server):
            for _ in range(3):
                await connect(nursery, port_of(server), tls.version)
            scope.cancel()
    assert scope.cancelled_caught
    assert nursery.tally == {ABORTED: 6}


async def test_wherever_a_nursery_is_cancelled_nothing_is_left(tls13: Maker) -> None:
    async def scenario() -> None:
        async with open_tls_nursery() as nursery:
            server = await nursery.start_server(
                echo, 0, server_context(tls13.version), host=HOST
            )
            client = await connect(nursery, port_of(server), tls13.version)
            await client.send_all(b"hello")
            assert await client.receive_some() == b"hello"

    assert await cancel_everywhere(scenario) > 20


async def test_nothing_can_be_opened_in_a_nursery_that_has_ended(tls13: Maker) -> None:
    async with open_tls_nursery() as nursery:
        pass
    with pytest.raises(RuntimeError, match="over"):
        await nursery.connect(HOST, 1)
    with pytest.raises(RuntimeError, match="over"):
        await nursery.start_server(echo, 0, server_context())
    with pytest.raises(RuntimeError, match="closed"):
        nursery.start_soon(trio.sleep_forever)


async def test_a_connection_that_comes_too_late_is_closed(
    tls13: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    [listener] = await trio.open_tcp_listeners(0, host=HOST)
    over = trio.Event()

    async def open_late(*_: object, **__: object) -> trio.SocketStream:
        await over.wait()
        return await trio.testing.open_stream_to_socket_listener(listener)

    async def connect_late() -> None:
        with pytest.raises(RuntimeError, match="over"):
            await tls.connect(HOST, 443)

    monkeypatch.setattr(nursery_module, "open_tcp_stream", open_late)
    async with listener, nothing_left():
        async with trio.open_nursery() as others:
            async with open_tls_nursery() as tls:
                others.start_soon(connect_late)
                await trio.testing.wait_all_tasks_blocked()
            over.set()


async def test_a_server_that_comes_too_late_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    over = trio.Event()
    open_tcp_listeners = trio.open_tcp_listeners

    async def open_late(*args: Any, **options: Any) -> list[trio.SocketListener]:
        await over.wait()
        return await open_tcp_listeners(*args, **options)

    async def start_late() -> None:
        with pytest.raises(RuntimeError, match="closed"):
            await tls.start_server(echo, 0, server_context(), host=HOST)

    monkeypatch.setattr(trio, "open_tcp_listeners", open_late)
    async with nothing_left(), trio.open_nursery() as others:
        async with open_tls_nursery() as tls:
            others.start_soon(start_late)
            await trio.testing.wait_all_tasks_blocked()
        over.set()


async def test_a_handshake_of_a_foreign_task_ends_with_the_nursery(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    async def connect_late(port: int) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await connect(nursery, port, tls.version)

    async with nothing_left(), trio.open_nursery() as others:
        _, port = await others.start(serve_rogue, "stall_in_handshake")
        with trio.CancelScope() as scope:
            async with open_tls_nursery() as nursery:
                others.start_soon(connect_late, port)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        assert nursery.tally == {FAILED: 1}
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.tally == {FAILED: 1}
        others.cancel_scope.cancel()


async def test_a_nursery_forgets_closed_connections_in_time(tls13: Maker) -> None:
    """A nursery may live long, and see many connections."""
    async with serving(tls13.version, echo) as (nursery, server):
        for _ in range(SWEEP_AT_LEAST + 1):
            client = await connect(nursery, port_of(server), tls13.version)
            await trio.aclose_forcefully(client)
        [last] = nursery._clients.streams
        nursery._clients.count(last)
        nursery._clients.count(last)  # it counts once
        nursery._clients.established(last)
        assert nursery._clients.streams == []
        assert sum(nursery._clients.tally.values()) == SWEEP_AT_LEAST + 1
        open_still = await connect(nursery, port_of(server), tls13.version)
        await open_still.transport_stream.aclose()
        tally = nursery.tally
        assert nursery._clients.streams == [open_still]
        assert tally[OPEN] == 0


async def test_a_policy_has_to_be_a_shutdown_policy() -> None:
    with pytest.raises(TypeError, match="policy"):
        async with open_tls_nursery(5):  # type: ignore[arg-type]
            pass  # pragma: no cover


# Errors of connecting:


def at(error: TLSDownError, host: str, port: int) -> bool:
    return (error.host, error.port) == (host, port) and str(error).startswith(
        f"{host}:{port}: "
    )


def unused_port() -> int:
    with socket.socket() as one:
        one.bind((HOST, 0))
        port: int = one.getsockname()[1]
    return port


class Resolver(trio.abc.HostnameResolver):
    """Knows no name but one, which has two addresses."""

    async def getaddrinfo(self, host: Any, port: Any, *_: Any, **__: Any) -> Any:
        if host != b"two.example":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        family = socket.AF_INET, socket.SOCK_STREAM, 6, ""
        return [(*family, (address, port)) for address in (HOST, "127.0.0.2")]

    async def getnameinfo(self, *_: Any) -> Any: ...


async def test_connect_names_the_host_that_does_not_resolve() -> None:
    trio.socket.set_custom_hostname_resolver(Resolver())
    async with open_tls_nursery() as tls:
        with pytest.raises(ConnectFailedError, match="Name or service") as caught:
            await tls.connect("no.example", 443)
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value.__cause__, socket.gaierror)
    assert caught.value.errno == socket.EAI_NONAME
    assert at(caught.value, "no.example", 443)
    assert tls.tally == {}


@pytest.mark.parametrize("host", ["a..b", "x" * 64, "\u2028.example"])
async def test_connect_and_start_server_refuse_a_name_that_no_host_can_have(
    host: str,
) -> None:
    async with open_tls_nursery() as tls:
        with pytest.raises(ConnectFailedError, match="no host can have this") as caught:
            await tls.connect(host, 443)
        assert caught.value.errno == socket.EAI_NONAME
        assert at(caught.value, host, 443)
        with pytest.raises(ListenFailedError, match="no host can have this") as missed:
            await tls.start_server(echo, 443, server_context(), host=host)
        assert at(missed.value, host, 443)


@pytest.mark.parametrize(
    "host", [HOST, pytest.param("two.example", marks=needs_linux("127.0.0.2"))]
)
async def test_connect_says_that_the_connection_was_refused(host: str) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver())
    port = unused_port()
    async with nothing_left(), open_tls_nursery() as tls:
        with pytest.raises(ConnectFailedError, match="refused") as caught:
            await tls.connect(host, port)
    assert caught.value.errno == errno.ECONNREFUSED
    assert str(caught.value).count("refused") == 1
    assert at(caught.value, host, port)


async def test_connect_says_how_each_address_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(*_: object, **__: object) -> None:
        causes = [OSError(errno.ECONNREFUSED, ""), OSError(errno.EHOSTUNREACH, "")]
        raise OSError("all attempts failed") from ExceptionGroup("", causes)

    monkeypatch.setattr(nursery_module, "open_tcp_stream", fail)
    async with open_tls_nursery() as tls:
        with pytest.raises(ConnectFailedError, match="refused; No route") as one:
            await tls.connect("::1", 443)
    assert one.value.errno is None
    assert str(one.value).startswith("[::1]:443: ")


async def test_connect_gives_up_a_host_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    async def wait(*_: object, **__: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(nursery_module, "open_tcp_stream", wait)
    began = trio.current_time()
    async with open_tls_nursery() as tls:
        with pytest.raises(ConnectFailedError, match="within 7 s") as caught:
            await tls.connect(b"far.example", 443, handshake_timeout=7)
    assert trio.current_time() - began == pytest.approx(7)
    assert caught.value.errno == errno.ETIMEDOUT
    assert caught.value.host == b"far.example"
    assert str(caught.value).startswith("far.example:443: ")


def expired() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    CA.issue_cert(NAME, HOST, not_before=past, not_after=past).configure_cert(context)
    return context


@pytest.mark.parametrize(
    ("context", "name", "message"),
    [(expired, NAME, "expired"), (server_context, "wrong.example", "mismatch")],
)
async def test_connect_says_why_a_certificate_is_not_valid(
    context: Any, name: str, message: str, tls: Maker
) -> None:
    async with nothing_left(), open_tls_nursery() as nursery:
        server = await nursery.start_server(echo, 0, context(), host=HOST)
        port = port_of(server)
        with pytest.raises(TLSFailedError, match=message) as caught:
            await connect(nursery, port, tls.version, server_hostname=name)
        error = caught.value
        assert isinstance(error, trio.BrokenResourceError)
        assert error.reason == "CERTIFICATE_VERIFY_FAILED"
        assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
        assert at(error, HOST, port)
    assert nursery.tally == {FAILED: 2}


async def test_the_default_context_trusts_whom_the_system_trusts(tls: Maker) -> None:
    async with serving(tls.version, echo) as (nursery, server):
        with pytest.raises(TLSFailedError, match="certificate verification"):
            await nursery.connect(HOST, port_of(server))


async def test_the_default_context_never_takes_a_cut_for_an_end(
    tls: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On some builds of OpenSSL it would, and not every Python has a name for that."""
    ignore = ssl.Options(1 << 7)
    lenient = client_context(tls.version)
    lenient.options |= ignore
    monkeypatch.setattr(ssl, "create_default_context", lambda: lenient)
    monkeypatch.setattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", ignore, raising=False)
    async with trio.open_nursery() as rogues:
        cuts = partial(serve_rogue, version=tls.version, ca=CA)
        host, port = await rogues.start(cuts, "cut_before_close_notify")
        async with open_tls_nursery() as nursery:
            client = await nursery.connect(host, port)
            assert client.context is lenient
            assert not client.context.options & ignore
            with pytest.raises(TruncatedError):
                await client.receive_some()
        rogues.cancel_scope.cancel()


async def test_connect_says_that_the_handshake_was_cut(tls: Maker) -> None:
    async with nothing_left(), trio.open_nursery() as rogues:
        host, port = await rogues.start(serve_rogue, "cut_in_handshake")
        async with open_tls_nursery() as nursery:
            with pytest.raises(TruncatedError) as caught:
                await connect(nursery, port, tls.version)
            assert at(caught.value, host, port)
            assert nursery.tally == {FAILED: 1}
        rogues.cancel_scope.cancel()


async def test_connect_gives_up_a_handshake_that_stalls(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as rogues:
        host, port = await rogues.start(serve_rogue, "stall_in_handshake")
        async with open_tls_nursery() as nursery:
            began = trio.current_time()
            with pytest.raises(HandshakeTimeoutError) as caught:
                await connect(nursery, port, tls.version, handshake_timeout=7)
            assert trio.current_time() - began == pytest.approx(7, abs=0.1)
            assert caught.value.timeout == 7
            assert at(caught.value, host, port)
        rogues.cancel_scope.cancel()
    assert nursery.tally == {FAILED: 1}


async def test_a_connect_that_is_cancelled_in_the_handshake_leaves_nothing_open(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as rogues:
        _, port = await rogues.start(serve_rogue, "stall_in_handshake")
        before = descriptors()
        async with open_tls_nursery() as nursery:
            with trio.move_on_after(1) as scope:
                await connect(nursery, port, tls.version)
            assert scope.cancelled_caught
        await trio.testing.wait_all_tasks_blocked()
        assert descriptors() <= before
        rogues.cancel_scope.cancel()
    assert nursery.tally == {FAILED: 1}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"ssl_context": "context"}, TypeError),
        ({"handshake_timeout": -1}, ValueError),
        ({"handshake_timeout": True}, TypeError),
    ],
)
async def test_wrong_arguments_of_connect_are_told_at_once(
    options: dict[str, Any], error: type[Exception]
) -> None:
    async with open_tls_nursery() as tls:
        with pytest.raises(error, match=next(iter(options))):
            await tls.connect("no.invalid", 443, **options)


# Errors of listening:


async def test_start_server_names_the_port_that_is_taken(tls13: Maker) -> None:
    async with serving(tls13.version, echo) as (nursery, server):
        port = port_of(server)
        with pytest.raises(ListenFailedError, match="cannot listen: ") as caught:
            await nursery.start_server(echo, port, server_context(), host=HOST)
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == errno.EADDRINUSE
    assert at(caught.value, HOST, port)


async def test_start_server_without_a_host_names_the_port_that_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EADDRINUSE, "Address already in use")

    monkeypatch.setattr(trio, "open_tcp_listeners", fail)
    async with open_tls_nursery() as nursery:
        with pytest.raises(ListenFailedError) as caught:
            await nursery.start_server(echo, 443, server_context())
    assert str(caught.value) == "*:443: cannot listen: Address already in use"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"ssl_context": "context"}, TypeError),
        ({"handshake_timeout": None}, TypeError),
        ({"max_connections": 0}, ValueError),
        ({"max_connections": 1.5}, TypeError),
        ({"on_error": trio.sleep}, TypeError),
    ],
)
async def test_wrong_arguments_of_start_server_are_told_at_once(
    options: dict[str, Any], error: type[Exception]
) -> None:
    async with open_tls_nursery() as tls:
        with pytest.raises(error, match=next(iter(options))):
            await tls.start_server(
                echo, 0, **{"ssl_context": server_context(), **options}
            )


async def test_start_server_refuses_a_context_for_clients_at_once() -> None:
    async with nothing_left(), open_tls_nursery() as tls:
        with pytest.raises(ssl.SSLError, match=r"for clients .*Purpose\.CLIENT_AUTH"):
            await tls.start_server(echo, 0, client_context())


async def test_connect_refuses_a_context_for_servers() -> None:
    async with open_tls_nursery() as tls:
        with pytest.raises(ssl.SSLError, match=r"for servers .*create_default_context"):
            await tls.connect("no.invalid", 443, ssl_context=server_context())


@pytest.mark.parametrize("port", [-1, 2**16, 70_000, "443", True])
async def test_a_port_that_cannot_be_one_is_told_at_once(port: Any) -> None:
    error = ValueError if type(port) is int else TypeError
    async with open_tls_nursery() as tls:
        with pytest.raises(error, match="port"):
            await tls.start_server(echo, port, server_context(), host=HOST)
        with pytest.raises(error, match="port"):
            await tls.connect("no.invalid", port)


class Callable:
    """Instances are async functions."""

    async def __call__(self, stream: Stream) -> None:
        """Handle a connection."""

    def sync(self, stream: Stream) -> None:
        """Handle nothing."""

    async def method(self, stream: Stream) -> None:
        """Handle a connection."""


class SyncCallable:
    def __call__(self, stream: Stream) -> None:
        """Handle nothing."""


def decorated(function: Any) -> Any:
    return functools.wraps(function)(lambda *args: function(*args))


@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(echo, id="function"),
        pytest.param(partial(echo), id="partial"),
        pytest.param(decorated(echo), id="decorated"),
        pytest.param(Callable(), id="object"),
        pytest.param(partial(Callable()), id="partial of an object"),
        pytest.param(Callable().method, id="method"),
        pytest.param(decorated(Callable().method), id="decorated method"),
        pytest.param(AsyncMock(), id="mock"),
        pytest.param(operator.methodcaller("run"), id="callable in C"),
    ],
)
async def test_anything_that_may_be_an_async_function_can_be_a_handler(
    handler: Any,
) -> None:
    async with nothing_left(), open_tls_nursery() as tls:
        await tls.start_server(handler, 0, server_context(), host=HOST)


@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(lambda _: None, id="lambda"),
        pytest.param(lambda stream: echo(stream), id="lambda that returns a coroutine"),
        pytest.param(partial(Callable().sync), id="method"),
        pytest.param(SyncCallable(), id="object"),
        pytest.param("handler", id="text"),
        pytest.param(None, id="None"),
    ],
)
async def test_a_handler_that_is_not_async_is_told_at_once(handler: Any) -> None:
    async with open_tls_nursery() as tls:
        with pytest.raises(TypeError, match=r"^handler must be an async function, not"):
            await tls.start_server(handler, 0, server_context())


async def test_a_handler_that_was_called_already_is_refused_at_once() -> None:
    called: Any = Callable().method(None)  # type: ignore[arg-type]
    async with open_tls_nursery() as tls:
        with pytest.raises(TypeError, match="not <coroutine object"):
            await tls.start_server(called, 0, server_context())
    called.close()


@pytest.mark.parametrize("version", [None, *VERSIONS])
async def test_a_server_without_a_certificate_is_warned_of(
    version: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    empty = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if version is not None:
        empty.minimum_version = ssl.TLSVersion[version.replace(".", "_")]
        empty.maximum_version = empty.minimum_version
    async with open_tls_nursery() as tls:
        server = await tls.start_server(echo, 0, server_context(version), host=HOST)
        assert caplog.records == []
        server.ssl_context = empty
        await tls.start_server(echo, 0, empty, host=HOST)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "load_cert_chain()" in caplog.records[0].getMessage()


async def test_an_sni_callback_may_stand_in_for_a_certificate(
    caplog: pytest.LogCaptureFixture,
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.sni_callback = print
    async with open_tls_nursery() as tls:
        await tls.start_server(echo, 0, context, host=HOST)
    assert caplog.records == []


# Servers that have ended:


async def test_a_server_that_has_drained_is_not_kept(tls: Maker) -> None:
    async with open_tls_nursery() as nursery:
        server = await nursery.start_server(
            echo, 0, server_context(tls.version), host=HOST
        )
        client = await connect(nursery, port_of(server), tls.version)
        await client.aclose()
        await server.drain()
        tally = nursery.tally
        gone = weakref.ref(server)
        del server
        gc.collect()
        assert gone() is None
        assert nursery.tally == tally
        assert tally.total() == 2
