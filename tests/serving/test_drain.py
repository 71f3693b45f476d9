"""A drain loses nothing that has arrived, cuts short what nothing has come to, and ends
in time."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from tests.servers import (
    HOST,
    Stream,
    SyncClient,
    answer_each,
    answer_each_in_a_scope,
    client_of,
    port_of,
    rogue_of,
    serving,
    until,
    what_it_sees,
)
from tests.support import NAME, Maker, client_context, server_context
from trio_tlsdown import (
    ShutdownOutcome,
    ShutdownPolicy,
    TLSStream,
    cancel_on_drain,
)
from trio_tlsdown._serving import server as _server
from trio_tlsdown._serving.drain import (
    DRAIN_PATIENCE,
    FIRST_REQUEST_TIME,
    MultiCancelScope,
    Wait,
)
from trio_tlsdown._serving.lifecycle import wait_first_bytes
from trio_tlsdown.testing import echo

ABORTED = ShutdownOutcome.ABORTED
COMPLETE = ShutdownOutcome.COMPLETE
FAILED = ShutdownOutcome.FAILED

OLD = 10.0  # seconds: what is older is not new

Clock = trio.testing.MockClock


async def ask(client: SyncClient) -> None:
    """One request of a client that has just connected, and its goodbye."""
    await client.handshake()
    client.send(b"request")
    assert await client.receive() == b"answer to request"
    await client.goodbye()


# Requests:


async def test_a_request_in_our_kernel_is_answered(
    tls: Maker, autojump_clock: Clock
) -> None:
    async with serving(tls.version, answer_each) as (nursery, server):
        client = await SyncClient.connect(server, tls.version)
        await trio.sleep(OLD)
        nursery.start_soon(ask_again, client)
        client.send(b"request")
        report = await server.drain()
        assert report.tally == {COMPLETE: 1}
        assert report.discarded == 0


async def ask_again(client: SyncClient) -> None:
    assert await client.receive() == b"answer to request"
    await client.goodbye()


@pytest.mark.parametrize(
    ("sent", "patience"), [(b"", 0), (b"1", 0), (b"12", DRAIN_PATIENCE)]
)
async def test_a_wait_for_something_else_gets_a_moment_if_there_is_unread_data(
    sent: bytes, patience: float, tls: Maker, autojump_clock: Clock
) -> None:
    """The handler has read a part of what was decrypted; it waits for a queue, maybe."""

    async def handler(stream: Stream) -> None:
        if sent:
            await stream.receive_some(1)
        with cancel_on_drain() as scope:
            await trio.sleep_forever()
        assert scope.cancelled_caught

    async with serving(tls.version, handler) as (nursery, server):
        client = SyncClient(port_of(server), tls.version)
        await client.handshake()
        client.send(sent) if sent else client.flush()
        await trio.sleep(OLD)
        nursery.start_soon(client.goodbye)
        report = await server.drain()
        assert report.tally == {COMPLETE: 1}
        assert report.elapsed == pytest.approx(patience, abs=0.001)
        assert report.discarded == len(sent[1:])


async def test_a_wait_for_something_else_gets_a_moment_if_our_kernel_has_data(
    tls: Maker, autojump_clock: Clock
) -> None:
    answered = trio.Event()

    async def handler(stream: Stream) -> None:
        with cancel_on_drain() as scope:
            await server.draining.wait()
            await trio.sleep(DRAIN_PATIENCE / 2)
            assert await stream.receive_some() == b"request"
        assert not scope.cancelled_caught
        answered.set()

    async with serving(tls.version, handler) as (nursery, server):
        client = SyncClient(port_of(server), tls.version)
        await client.handshake()
        client.send(b"request")
        await trio.sleep(OLD)
        nursery.start_soon(client.goodbye)
        assert (await server.drain()).tally == {COMPLETE: 1}
    assert answered.is_set()


@pytest.mark.parametrize("in_time", [True, False])
async def test_a_new_connection_has_a_moment_for_its_first_request(
    tls: Maker, autojump_clock: Clock, *, in_time: bool
) -> None:
    """On TLS 1.3 it comes right behind the client's last flight."""
    async with serving(tls.version, answer_each) as (nursery, server):
        client = await SyncClient.connect(server, tls.version)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(server.drain)
        await trio.sleep(FIRST_REQUEST_TIME * (0.5 if in_time else 1.5))
        if in_time:
            client.send(b"request")
            assert await client.receive() == b"answer to request"
        await client.goodbye()
    assert server.tally == {COMPLETE: 1}


@pytest.mark.parametrize("handler", [answer_each, answer_each_in_a_scope])
async def test_a_first_request_that_comes_in_parts_has_only_to_begin_in_time(
    handler: Callable[[Stream], Awaitable[object]], tls: Maker, autojump_clock: Clock
) -> None:
    async with serving(tls.version, handler) as (nursery, server):
        client = await SyncClient.connect(server, tls.version)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(server.drain)
        client.encrypt(b"request")
        whole = client._outgoing.read()
        await trio.sleep(FIRST_REQUEST_TIME * 0.95)
        client.sock.send(whole[:20])
        await trio.sleep(1)  # of five
        client.sock.send(whole[20:])
        assert await client.receive() == b"answer to request"
        await client.goodbye()
    assert server.tally == {COMPLETE: 1}


async def test_a_connection_is_new_until_it_has_received_something(
    tls: Maker, autojump_clock: Clock
) -> None:
    """Other waits of its handler may have ended before."""

    async def handler(stream: Stream) -> None:
        with cancel_on_drain():
            await trio.lowlevel.checkpoint()
        await answer_each(stream)

    async with serving(tls.version, handler) as (nursery, server):
        client = await SyncClient.connect(server, tls.version)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(server.drain)
        await trio.sleep(FIRST_REQUEST_TIME / 2)
        client.send(b"request")
        assert await client.receive() == b"answer to request"
        await client.goodbye()
    assert server.tally == {COMPLETE: 1}


@pytest.mark.parametrize("handler", [answer_each, answer_each_in_a_scope])
async def test_a_connection_that_has_asked_is_not_new_any_more(
    handler: Callable[[Stream], Awaitable[object]], tls: Maker, autojump_clock: Clock
) -> None:
    async with serving(tls.version, handler) as (nursery, server):
        client = await SyncClient.connect(server, tls.version)
        client.send(b"request")
        assert await client.receive() == b"answer to request"
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(client.goodbye)
        report = await server.drain()
        assert report.tally == {COMPLETE: 1}
        assert report.elapsed == pytest.approx(0, abs=0.001)


@pytest.mark.parametrize("early", [True, False])
async def test_a_task_that_outlives_its_connection_is_cut_short_too(
    tls: Maker, autojump_clock: Clock, *, early: bool
) -> None:
    """What was unwrapped has unread data, and the task waits for something else."""
    cut: list[float] = []
    unread, ended = trio.Event(), trio.Event()

    async def handler(stream: Stream) -> None:
        transport, _ = await stream.unwrap()
        await transport.send_all(b"ready")
        await trio.lowlevel.wait_readable(transport.socket)
        unread.set()
        nursery.start_soon(wait, transport)
        if early:
            await server.draining.wait()
            await trio.testing.wait_all_tasks_blocked()

    async def wait(transport: trio.SocketStream) -> None:
        await (server.draining if early else ended).wait()
        began = trio.current_time()
        with cancel_on_drain() as scope:
            await trio.sleep_forever()
        assert scope.cancelled_caught
        cut.append(trio.current_time() - began)
        await transport.aclose()

    async with serving(tls.version, handler) as (nursery, server):
        client = await client_of(port_of(server), tls.version)
        transport, early_bytes = await client.unwrap()
        assert early_bytes or await transport.receive_some() == b"ready"
        await transport.send_all(b"in the clear")
        await unread.wait()
        await server.drain()
        ended.set()
        await until(lambda: cut)
        await transport.aclose()
    assert cut == [pytest.approx(DRAIN_PATIENCE)]


async def test_a_wait_on_a_connection_that_the_handler_has_closed_is_cut_short(
    tls: Maker, autojump_clock: Clock
) -> None:
    async def handler(stream: Stream) -> None:
        await trio.sleep(OLD)
        await trio.aclose_forcefully(stream)
        with cancel_on_drain():
            await trio.sleep_forever()

    async with serving(tls.version, handler) as (_, server):
        client = await client_of(port_of(server), tls.version)
        await trio.sleep(2 * OLD)
        report = await server.drain()
        assert report.tally == {ABORTED: 1}
        assert report.handlers_cancelled == 0
        assert report.elapsed < 0.001
        await trio.aclose_forcefully(client)


async def test_a_drain_survives_a_context_whose_hook_raises(
    tls: Maker, autojump_clock: Clock
) -> None:
    """It looks for input, and so decrypts some."""

    class Object(ssl.SSLObject):
        def read(self, *args: Any) -> Any:
            if server.draining.is_set():
                raise ValueError("mine")
            return super().read(*args)

    async def handler(stream: Stream) -> None:
        await stream.send_all(await stream.receive_some())
        with cancel_on_drain():
            await trio.sleep_forever()

    context = server_context(tls.version)
    context.sslobject_class = Object
    async with serving(tls.version, handler) as (_, server):
        server.ssl_context = context
        client = await client_of(port_of(server), tls.version)
        await client.send_all(b"hello")
        assert await client.receive_some() == b"hello"
        await client.send_all(b"more")
        report = await server.drain()
        assert report.tally == {FAILED: 1}
        await trio.aclose_forcefully(client)


async def test_a_wait_on_a_transport_that_was_unwrapped_is_one_of_its_connection(
    tls: Maker, autojump_clock: Clock
) -> None:
    async def handler(stream: Stream) -> None:
        transport, _ = await stream.unwrap()
        await trio.sleep(OLD)
        async with transport:
            with cancel_on_drain() as scope:
                await transport.receive_some()
            assert scope.cancelled_caught

    async with serving(tls.version, handler) as (_, server):
        client = await client_of(port_of(server), tls.version)
        transport, _ = await client.unwrap()
        await trio.sleep(2 * OLD)
        report = await server.drain()
        assert report.tally == {COMPLETE: 1}
        assert report.elapsed < 0.001
        await trio.aclose_forcefully(transport)


async def test_idle_connections_can_have_a_timeout_of_their_own(
    tls: Maker, autojump_clock: Clock
) -> None:
    async def handler(stream: Stream) -> None:
        with cancel_on_drain(timeout=60) as scope:
            await stream.receive_some()
        assert scope.cancelled_caught
        assert not server.draining.is_set()

    async with serving(tls.version, handler) as (_, server):
        client = await client_of(port_of(server), tls.version)
        began = trio.current_time()
        assert await client.receive_some() == b""
        assert trio.current_time() - began == pytest.approx(60)
        await client.aclose()
        await until(lambda: server.tally == {COMPLETE: 1})


@pytest.mark.parametrize(("seconds", "error"), [("1", TypeError), (-1, ValueError)])
async def test_a_timeout_that_cannot_be_one_is_refused(
    seconds: Any, error: type[Exception], tls13: Maker
) -> None:
    errors: list[Exception] = []

    async def handler(stream: Stream) -> None:
        with pytest.raises(error, match="timeout") as caught:
            cancel_on_drain(timeout=seconds)
        errors.append(caught.value)

    async with serving(tls13.version, handler) as (_, server):
        client = await client_of(port_of(server), tls13.version)
        assert await client.receive_some() == b""
        await client.aclose()
    assert len(errors) == 1


# Handshakes:


async def test_a_handshake_that_has_begun_goes_on(
    tls: Maker, autojump_clock: Clock
) -> None:
    async with serving(tls.version, answer_each) as (_, server):
        client = SyncClient(port_of(server), tls.version)
        client.send_hello()
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as drains:
            drains.start_soon(server.drain)
            await trio.sleep(1)  # of five
            await ask(client)
    assert server.tally == {COMPLETE: 1}


async def test_a_request_that_came_with_the_last_flight_is_answered(
    tls13: Maker, autojump_clock: Clock
) -> None:
    async with serving(tls13.version, answer_each) as (nursery, server):
        client = SyncClient(port_of(server), tls13.version)
        await client.handshake()
        client.encrypt(b"request")
        await trio.sleep(OLD)
        nursery.start_soon(ask_again, client)
        client.flush()
        assert (await server.drain()).tally == {COMPLETE: 1}


@pytest.mark.parametrize("grace", [0, 3])
async def test_a_handshake_is_cancelled_when_the_grace_is_over(
    grace: float,
    tls: Maker,
    autojump_clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    errors: list[Exception] = []
    async with serving(
        tls.version, echo, on_error=lambda error, _: errors.append(error)
    ) as (_, server):
        client = SyncClient(port_of(server), tls.version)
        client.send_hello()
        await trio.testing.wait_all_tasks_blocked()
        report = await server.drain(grace=grace)
        assert report.tally == {FAILED: 1}
        assert report.handlers_cancelled == 0
        assert report.elapsed == pytest.approx(grace, abs=0.001)
        client.sock.close()
    assert errors == []
    assert caplog.records == []


# Clients that have sent nothing:


async def test_a_silent_client_has_a_moment(tls: Maker, autojump_clock: Clock) -> None:
    async with serving(tls.version, echo) as (_, server):
        old = await trio.open_tcp_stream(HOST, port_of(server))
        await trio.sleep(OLD)
        new = await trio.open_tcp_stream(HOST, port_of(server))
        await trio.testing.wait_all_tasks_blocked()
        assert len(server.connections) == 2
        async with trio.open_nursery() as nursery:

            async def closed_at_once() -> None:
                await old.receive_some()
                assert trio.current_time() - began < 0.001

            began = trio.current_time()
            nursery.start_soon(closed_at_once)
            report = await server.drain()
        assert report.elapsed == pytest.approx(DRAIN_PATIENCE, abs=0.001)
        assert report.tally == server.tally == {}
        await trio.aclose_forcefully(old)
        await trio.aclose_forcefully(new)


async def test_each_silent_client_has_its_own_moment(
    tls13: Maker, autojump_clock: Clock
) -> None:
    closed: list[float] = []

    async def visit(delay: float) -> None:
        await trio.sleep(delay)
        async with await trio.open_tcp_stream(HOST, port_of(server)) as client:
            await client.receive_some()
        closed.append(trio.current_time() - delay)

    async with serving(tls13.version, echo) as (nursery, server):
        for delay in (0.1, 0.15, 0.2, 0.3):
            nursery.start_soon(visit, delay)
        await trio.sleep(0.35)
        await server.drain()
        assert trio.current_time() == pytest.approx(0.3 + DRAIN_PATIENCE, abs=0.001)
    assert closed == pytest.approx([DRAIN_PATIENCE] * 4, abs=0.001)


async def test_a_silent_client_that_speaks_in_time_is_served(
    tls: Maker, autojump_clock: Clock
) -> None:
    async with serving(tls.version, answer_each) as (_, server):
        client = SyncClient(port_of(server), tls.version)
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as drains:
            drains.start_soon(server.drain)
            await trio.sleep(DRAIN_PATIENCE * 0.9)
            await ask(client)
    assert server.tally == {COMPLETE: 1}


async def test_a_silent_client_that_speaks_as_its_moment_ends_is_served(
    tls: Maker, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_short = Wait.cut_short

    def cut_short_and_speak(wait: Wait) -> None:
        cut_short(wait)
        client.send_hello()

    async with serving(tls.version, answer_each) as (nursery, server):
        client = SyncClient(port_of(server), tls.version)
        await trio.sleep(OLD)
        with monkeypatch.context() as patch:
            patch.setattr(Wait, "cut_short", cut_short_and_speak)
            nursery.start_soon(server.drain)
            await trio.testing.wait_all_tasks_blocked()
        await ask(client)
    assert server.tally == {COMPLETE: 1}


@pytest.mark.parametrize("spoke", [True, False])
async def test_a_client_is_served_if_its_wait_is_cut_short_just_as_it_speaks(
    tls: Maker,
    autojump_clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    *,
    spoke: bool,
) -> None:
    async def hear_and_be_cut_short(transport: trio.SocketStream) -> bytes | None:
        heard = await wait_first_bytes(transport)
        for wait in list(server._silent_waits.open):
            assert isinstance(wait, Wait)
            wait._scope.cancel()
            monkeypatch.undo()
        return heard

    async with serving(tls.version, answer_each) as (nursery, server):
        monkeypatch.setattr(_server, "wait_first_bytes", hear_and_be_cut_short)
        client = SyncClient(port_of(server), tls.version)
        if spoke:
            nursery.start_soon(ask, client)
            await trio.sleep(OLD)
            await server.drain()
        else:
            client.sock.close()
            await until(lambda: not server.connections)
    assert server.tally == ({COMPLETE: 1} if spoke else {})


async def test_a_client_that_speaks_when_a_drain_without_grace_is_cancelled_is_served(
    tls: Maker, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it said is read at once, not looked at again and again."""
    cut_short = Wait.cut_short
    looks = 0

    def cut_short_speak_and_cancel(wait: Wait) -> None:
        nonlocal looks
        looks += 1
        cut_short(wait)
        if looks == 1:
            client.send_hello()
            drains.cancel_scope.cancel()
        elif looks == 10:  # pragma: no cover - if it spins
            nursery.cancel_scope.cancel()

    async with serving(tls.version, answer_each) as (nursery, server):
        client = SyncClient(port_of(server), tls.version)
        await trio.sleep(OLD)
        monkeypatch.setattr(Wait, "cut_short", cut_short_speak_and_cancel)
        async with trio.open_nursery() as drains:
            drains.start_soon(lambda: server.drain(grace=0))
        with trio.fail_after(1):
            await client.handshake()
            client.flush()
            await client.goodbye()
    assert server.tally == {COMPLETE: 1}


# The backlog:


@pytest.mark.parametrize("options", [{}, {"max_connections": 2}])
async def test_clients_in_the_backlog_are_served(
    options: dict[str, Any], tls: Maker, autojump_clock: Clock
) -> None:
    """As far as there are places, at once; the others get theirs."""
    async with serving(tls.version, answer_each, **options) as (_, server):
        async with trio.open_nursery() as nursery:
            for _ in range(7):
                nursery.start_soon(ask, SyncClient(port_of(server), tls.version))
            report = await server.drain()
        assert report.tally == {COMPLETE: 7}
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, port_of(server)))


async def test_clients_that_max_connections_keeps_in_the_backlog_are_served(
    tls: Maker, autojump_clock: Clock
) -> None:
    async with serving(tls.version, answer_each, max_connections=1) as (_, server):
        first = SyncClient(port_of(server), tls.version)
        await first.handshake()
        first.flush()
        await trio.sleep(OLD)
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(ask, SyncClient(port_of(server), tls.version))
            await trio.sleep(OLD)
            assert len(server.connections) == 1
            nursery.start_soon(first.goodbye)
            report = await server.drain()
        assert report.tally == {COMPLETE: 3}


async def test_a_client_that_gets_no_place_within_the_grace_is_cut(
    tls: Maker, autojump_clock: Clock
) -> None:
    async with serving(tls.version, echo, max_connections=1) as (_, server):
        first = await client_of(port_of(server), tls.version)
        second = await client_of(port_of(server), tls.version, handshake=False)
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(what_it_sees, second)
            report = await server.drain(grace=2)
        assert report.tally == {ABORTED: 2}
        assert report.handlers_cancelled == 1
        assert report.elapsed == pytest.approx(2, abs=0.001)
        await trio.aclose_forcefully(first)


async def test_clients_that_come_and_go_are_either_served_or_refused(
    tls: Maker,
) -> None:
    """Wherever a drain finds them. They try again until they are refused."""
    refused = 0
    answers = 0

    async def visit_until_refused() -> None:
        nonlocal refused, answers
        context = client_context(tls.version)
        while True:
            try:
                transport = await trio.open_tcp_stream(HOST, port_of(server))
            except OSError:
                refused += 1
                return
            async with TLSStream(transport, context, server_hostname=NAME) as client:
                await client.send_all(b"request")
                assert await client.receive_some() == b"answer to request"
                answers += 1
                if answers == 50:
                    drains.start_soon(server.drain)

    async with serving(tls.version, answer_each) as (_, server):
        async with trio.open_nursery() as drains:
            for _ in range(10):
                drains.start_soon(visit_until_refused)
    assert refused == 10
    assert server.tally == {COMPLETE: answers}


# The notice:


async def test_clients_are_served_as_usual_during_the_notice_of_a_drain(
    tls: Maker, autojump_clock: Clock
) -> None:
    async with serving(tls.version, answer_each) as (_, server):
        old = SyncClient(port_of(server), tls.version)
        await old.handshake()
        old.flush()
        await trio.sleep(OLD)
        began = trio.current_time()
        async with trio.open_nursery() as drains:
            drains.start_soon(lambda: server.drain(notice=3, grace=5))
            await trio.sleep(2.9)
            assert server.draining.is_set()
            new = SyncClient(port_of(server), tls.version)
            await new.handshake()
            for client in (new, old):
                client.send(b"request")
                assert await client.receive() == b"answer to request"
                drains.start_soon(client.goodbye)
        assert trio.current_time() - began == pytest.approx(3, abs=0.1)
    assert server.tally == {COMPLETE: 2}


async def test_of_several_drains_the_shortest_notice_counts(
    tls: Maker, autojump_clock: Clock
) -> None:
    async with serving(tls.version, answer_each) as (_, server):
        async with trio.open_nursery() as drains:
            drains.start_soon(lambda: server.drain(notice=1000))
            await trio.sleep(1)
            drains.start_soon(server.drain)
            await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() == pytest.approx(1, abs=0.1)


async def test_a_drain_that_is_cancelled_in_its_notice_refuses_nobody(
    tls: Maker, autojump_clock: Clock
) -> None:
    async with serving(tls.version, answer_each) as (nursery, server):
        with trio.move_on_after(1):
            await server.drain(notice=2)
        await trio.sleep(OLD)
        client = SyncClient(port_of(server), tls.version)
        nursery.start_soon(ask, client)
        await trio.sleep(OLD)
        assert server.tally == {}
        assert (await server.drain()).tally == {COMPLETE: 1}


@pytest.mark.parametrize(("notice", "error"), [(None, TypeError), (-1, ValueError)])
async def test_a_notice_that_cannot_be_one_is_refused(
    notice: Any, error: type[Exception], tls13: Maker
) -> None:
    async with serving(tls13.version, echo) as (_, server):
        with pytest.raises(error, match="notice"):
            await server.drain(notice=notice)
        assert not server.draining.is_set()


# Its end:


async def test_a_drain_takes_no_longer_than_all_its_timeouts_together(
    tls: Maker, autojump_clock: Clock
) -> None:
    policy = ShutdownPolicy(timeout=2, linger_timeout=1)

    async def handler(stream: Stream) -> None:
        await server.draining.wait()
        await trio.sleep(4 + 2.9)

    async with serving(tls.version, handler, policy) as (nursery, server):
        rogue = await rogue_of(port_of(server), nursery, "never_answer", tls.version)
        await trio.testing.wait_all_tasks_blocked()
        report = await server.drain(notice=4, grace=3)
        assert report.tally == {ABORTED: 1}
        assert report.handlers_cancelled == 0
        assert 4 + 3 < report.elapsed <= 4 + 3 + 2 + 1
        await rogue.finish()


@pytest.mark.parametrize("notice", [0, 1])
async def test_a_drain_reports_how_many_bytes_nobody_has_read(
    notice: float, tls: Maker, autojump_clock: Clock
) -> None:
    """Also of connections that end in its notice."""

    async def handler(stream: Stream) -> None:
        await stream.receive_some(1)
        await server.draining.wait()

    async with serving(tls.version, handler) as (nursery, server):
        for _ in range(2):
            client = SyncClient(port_of(server), tls.version)
            await client.handshake()
            client.send(b"12345")
            nursery.start_soon(client.goodbye)
        await trio.sleep(OLD)
        report = await server.drain(notice=notice)
        assert report.discarded == 2 * 4
        assert report.tally == {COMPLETE: 2}
        assert (await server.drain()).discarded == 0


async def test_a_client_that_comes_after_the_grace_is_cut_at_once(
    tls: Maker, autojump_clock: Clock
) -> None:
    async with serving(tls.version, echo) as (_, server):
        server._end_grace()
        client = await client_of(port_of(server), tls.version, handshake=False)
        assert await what_it_sees(client) in ("truncated", "reset")
        assert server.tally == {}


async def test_a_child_scope_opened_after_a_cancellation_is_cancelled() -> None:
    scopes = MultiCancelScope()
    scopes.cancel()
    with scopes.open_child():
        await trio.Event().wait()
