"""`TLSServer`: how it ends connections, what it survives, and how it drains."""

import logging
import math
import re
import socket
import ssl
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import trio
import trio.testing

from tests.servers import (
    HOST,
    Stream,
    client_of,
    is_told_goodbye,
    port_of,
    rogue_of,
    serving,
    until,
    what_it_sees,
)
from tests.support import NAME, Maker, client_context, needs_posix, server_context
from trio_tlsdown import (
    HandshakeTimeoutError,
    ShutdownOutcome,
    ShutdownPolicy,
    TLSFailedError,
    TLSStream,
    TruncatedError,
    cancel_on_drain,
    open_tls_nursery,
)
from trio_tlsdown._serving import server as _server
from trio_tlsdown.testing import Cancellation, cancel_everywhere, echo

ABORTED = ShutdownOutcome.ABORTED
COMPLETE = ShutdownOutcome.COMPLETE
FAILED = ShutdownOutcome.FAILED
SENT = ShutdownOutcome.SENT
TRUNCATED = ShutdownOutcome.TRUNCATED

CUT = ("truncated", "reset")


class Errors(list[tuple[Exception, Stream]]):
    """What on_error was told."""

    def __call__(self, error: Exception, stream: Stream) -> None:
        self.append((error, stream))


async def goodbye(client: Stream) -> None:
    """End it as a client that has no more to say."""
    await client.shutdown()
    await client.aclose()


# How a connection ends:


async def test_a_handler_that_returns_is_followed_by_a_shutdown(tls: Maker) -> None:
    async def handler(stream: Stream) -> None:
        await stream.send_all(b"all of it")

    async with serving(tls.version, handler) as (nursery, server):
        client = await client_of(port_of(server), tls.version)
        assert await client.receive_some() == b"all of it"
        assert await client.receive_some() == b""
        await goodbye(client)
        await until(lambda: not server.connections)
        assert server.tally == nursery.tally == {COMPLETE: 1}


async def test_a_handler_that_raises_is_followed_by_a_cut(
    tls: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    errors = Errors()
    mistake = KeyError("mine")

    async def handler(stream: Stream) -> None:
        await stream.send_all(b"half of it")
        raise mistake

    async with serving(tls.version, handler, on_error=errors) as (_, server):
        client = await client_of(port_of(server), tls.version)
        address = client.transport_stream.socket.getsockname()
        assert await what_it_sees(client) in CUT
        await until(lambda: not server.connections)
        assert server.tally == {ABORTED: 1}
    [(error, stream)] = errors
    assert error is mistake
    assert stream.report.outcome is ABORTED
    [record] = caplog.records
    assert record.name == "trio_tlsdown"
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[1] is mistake
    assert f"{HOST}:{address[1]}" in record.getMessage()


async def test_without_on_error_what_a_handler_raises_is_only_logged(
    tls: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(stream: TLSStream[Any]) -> None:
        raise ValueError("a mistake")

    async with serving(tls.version, handler) as (_, server):
        client = await client_of(port_of(server), tls.version)
        assert await what_it_sees(client) in CUT
        await until(lambda: server.tally == {ABORTED: 1})
    [record] = caplog.records
    assert record.levelno == logging.ERROR


async def test_a_peer_that_vanishes_is_no_bug_of_the_handlers(
    tls: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(stream: TLSStream[Any]) -> None:
        await stream.receive_some()

    errors = Errors()
    async with serving(tls.version, handler, on_error=errors) as (_, server):
        client = await client_of(port_of(server), tls.version)
        await client.transport_stream.send_eof()
        await until(lambda: server.tally == {TRUNCATED: 1})
        await trio.aclose_forcefully(client)
    [(error, _)] = errors
    assert isinstance(error, TruncatedError)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.exc_info is None


async def test_a_peer_that_vanishes_is_no_bug_of_a_handler_that_opened_a_nursery(
    tls: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    async def read(stream: Stream) -> None:
        await stream.receive_some()

    async def handler(stream: Stream) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, stream)

    async with serving(tls.version, handler) as (_, server):
        client = await client_of(port_of(server), tls.version)
        await client.transport_stream.send_eof()
        await until(lambda: server.tally)
        await trio.aclose_forcefully(client)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.exc_info is None
    assert "without close_notify" in record.getMessage()


async def test_a_connection_is_counted_before_on_error_is_told(tls: Maker) -> None:
    seen: list[object] = []

    def on_error(_: Exception, stream: Stream) -> None:
        seen.extend([server.tally, stream in server.connections])

    async def handler(stream: Stream) -> None:
        raise KeyError

    async with serving(tls.version, handler, on_error=on_error) as (_, server):
        client = await client_of(port_of(server), tls.version)
        assert await what_it_sees(client) in CUT
        await until(lambda: seen)
    assert seen == [{ABORTED: 1}, False]


async def test_a_handler_may_close_by_itself(tls: Maker) -> None:
    errors = Errors()

    async def handler(stream: Stream) -> None:
        await stream.shutdown(wait=False)
        await stream.aclose()

    async with serving(tls.version, handler, on_error=errors) as (_, server):
        client = await client_of(port_of(server), tls.version)
        assert await what_it_sees(client) == "close_notify"
        await until(lambda: not server.connections)
        assert server.tally == {SENT: 1}
    assert errors == []


async def test_a_handler_may_unwrap(tls: Maker) -> None:
    async def handler(stream: Stream) -> None:
        transport, _ = await stream.unwrap()
        async with transport:
            await transport.send_all(b"clear text")

    async with serving(tls.version, handler) as (_, server):
        client = await client_of(port_of(server), tls.version)
        transport, trailing = await client.unwrap()
        async with transport:
            rest = b"".join([chunk async for chunk in transport])
        assert trailing + rest == b"clear text"
        await until(lambda: not server.connections)
        assert server.tally == {COMPLETE: 1}


async def test_a_task_that_still_receives_gets_all_before_the_connection_ends(
    tls: Maker,
) -> None:
    got = bytearray()

    async def read(stream: Stream) -> None:
        with suppress(trio.ClosedResourceError):  # when it comes back for more
            async for chunk in stream:
                got.extend(chunk)

    async with trio.open_nursery() as others:

        async def handler(stream: Stream) -> None:
            others.start_soon(read, stream)
            await trio.testing.wait_all_tasks_blocked()

        async with serving(tls.version, handler) as (_, server):
            client = await client_of(port_of(server), tls.version)
            assert await client.receive_some() == b""
            await client.send_all(b"the rest")
            await goodbye(client)
            await until(lambda: not server.connections)
            assert server.tally == {COMPLETE: 1}
    assert got == b"the rest"


async def test_a_task_that_still_sends_has_its_connection_aborted(tls: Maker) -> None:
    """A close_notify in the midst of its data would make them look whole."""
    errors = Errors()

    async def send(stream: Stream) -> None:
        with pytest.raises((trio.ClosedResourceError, trio.BrokenResourceError)):
            await stream.send_all(bytes(2**24))

    async with trio.open_nursery() as others:

        async def handler(stream: Stream) -> None:
            others.start_soon(send, stream)
            await trio.testing.wait_all_tasks_blocked()

        async with serving(tls.version, handler, on_error=errors) as (_, server):
            client = await client_of(port_of(server), tls.version)
            await until(lambda: server.tally)
            assert server.tally == {ABORTED: 1}
            assert await what_it_sees(client) in CUT
    [(error, _)] = errors
    assert isinstance(error, trio.BusyResourceError)


async def test_a_task_that_still_closes_is_waited_for(tls: Maker) -> None:
    """Its answer would be destroyed: the kernel holds most of it."""
    answer = b"x" * 2**16

    async with trio.open_nursery() as others:

        async def handler(stream: Stream) -> None:
            await stream.send_all(answer)
            others.start_soon(stream.aclose)
            await trio.testing.wait_all_tasks_blocked()

        async with serving(tls.version, handler) as (_, server):
            transport = await trio.open_tcp_stream(HOST, port_of(server))
            transport.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**12)
            context = client_context(tls.version)
            async with TLSStream(transport, context, server_hostname=NAME) as client:
                await client.send_all(b"a question that nobody reads")
                await trio.testing.wait_all_tasks_blocked(0.01)
                assert server.connections
                assert b"".join([chunk async for chunk in client]) == answer
            await until(lambda: server.tally)
            assert server.tally == {SENT: 1}


async def test_a_peer_that_never_answers_costs_the_timeout_of_the_policy(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(stream: Stream) -> None:
        pass

    policy = ShutdownPolicy(timeout=3)
    async with serving(tls.version, handler, policy) as (nursery, server):
        rogue = await rogue_of(port_of(server), nursery, "never_answer", tls.version)
        began = trio.current_time()
        await until(lambda: server.tally)
        assert 2.9 < trio.current_time() - began < 3.1
        assert server.tally == {ABORTED: 1}
        assert rogue.close_notify_received
        await rogue.finish()


async def test_a_peer_that_takes_nothing_costs_the_timeout_once(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    policy = ShutdownPolicy(timeout=3, linger_timeout=2)

    async def handler(stream: Stream) -> None:
        with trio.move_on_after(1):
            await stream.send_all(bytes(2**24))

    async with serving(tls.version, handler, policy) as (_, server):
        client = await client_of(port_of(server), tls.version)
        began = trio.current_time()
        await until(lambda: server.tally)
        assert trio.current_time() - began < 1 + 3 + 2
        assert server.tally == {ABORTED: 1}
        await trio.aclose_forcefully(client)


async def test_with_https_compatible_there_is_no_close_notify(tls: Maker) -> None:
    async def handler(stream: Stream) -> None:
        assert stream.https_compatible

    async with serving(tls.version, handler, https_compatible=True) as (_, server):
        client = await client_of(port_of(server), tls.version)
        assert await what_it_sees(client) in CUT
        await until(lambda: server.tally == {ABORTED: 1})


# What it survives:


@pytest.mark.parametrize("name", ["cut_in_handshake", "stall_in_handshake"])
async def test_a_bad_handshake_disturbs_nobody(
    name: str,
    tls: Maker,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: trio.testing.MockClock,
) -> None:
    errors = Errors()
    async with serving(tls.version, echo, on_error=errors, handshake_timeout=7) as (
        nursery,
        server,
    ):
        rogue = await rogue_of(port_of(server), nursery, name, tls.version)
        client = await client_of(port_of(server), tls.version)
        await client.send_all(b"hello")
        assert await client.receive_some() == b"hello"
        await until(lambda: server.tally)
        assert server.tally == {FAILED: 1}
        await client.send_all(b"again")
        assert await client.receive_some() == b"again"
        await goodbye(client)
        await rogue.finish()
    assert server.tally == {FAILED: 1, COMPLETE: 1}
    [(error, stream)] = errors
    assert isinstance(error, TruncatedError | HandshakeTimeoutError)
    assert stream.transport_stream.socket.fileno() == -1
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert f"TLS handshake with {HOST}:" in record.getMessage()


async def test_a_client_that_does_not_trust_the_server_is_told_of(tls: Maker) -> None:
    errors = Errors()
    async with serving(tls.version, echo, on_error=errors) as (_, server):
        client = TLSStream(
            await trio.open_tcp_stream(HOST, port_of(server)),
            ssl.create_default_context(),
            server_hostname=NAME,
        )
        with pytest.raises(TLSFailedError):
            await client.do_handshake()
        await trio.aclose_forcefully(client)
        await until(lambda: server.tally == {FAILED: 1})
    [(error, _)] = errors
    assert isinstance(error, TLSFailedError)
    assert error.during_handshake


async def test_an_on_error_that_raises_is_logged(
    tls: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    def on_error(error: Exception, stream: Stream) -> None:
        raise ZeroDivisionError

    async def handler(stream: Stream) -> None:
        raise KeyError("mine")

    async with serving(tls.version, handler, on_error=on_error) as (_, server):
        for _ in range(2):
            client = await client_of(port_of(server), tls.version)
            assert await what_it_sees(client) in CUT
            await until(lambda: not server.connections)
    kinds = [record.exc_info[0] for record in caplog.records if record.exc_info]
    assert kinds == [KeyError, ZeroDivisionError] * 2


async def test_a_base_exception_in_a_handler_takes_the_server_down(
    tls13: Maker,
) -> None:
    class Stop(BaseException):
        pass

    async def handler(stream: Stream) -> None:
        raise Stop

    with pytest.RaisesGroup(Stop):
        async with serving(tls13.version, handler) as (_, server):
            client = await client_of(port_of(server), tls13.version)
            with trio.CancelScope(shield=True):
                assert await what_it_sees(client) in CUT
    assert server.tally == {ABORTED: 1}


async def test_further_clients_wait_until_there_is_room(tls: Maker) -> None:
    running = most = 0

    async def handler(stream: Stream) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await echo(stream)
        running -= 1

    async def visit(port: int) -> None:
        client = await client_of(port, tls.version)
        await client.send_all(b"hello")
        assert await client.receive_some() == b"hello"
        await goodbye(client)

    async with serving(tls.version, handler, max_connections=2) as (nursery, server):
        first = await client_of(port_of(server), tls.version)
        for _ in range(5):
            nursery.start_soon(visit, port_of(server))
        await until(lambda: server.tally == {COMPLETE: 5})
        assert len(server.connections) == 1
        await goodbye(first)
    assert most == 2
    assert server.tally == {COMPLETE: 6}


async def test_a_server_knows_its_connections_and_its_addresses(tls: Maker) -> None:
    async with serving(tls.version, echo) as (_, server):
        assert server.addresses == ((HOST, port_of(server)),)
        client = await client_of(port_of(server), tls.version, handshake=False)
        await until(lambda: server.connections)
        [stream] = server.connections
        peer = stream.transport_stream.socket.getpeername()
        assert peer == client.transport_stream.socket.getsockname()
        assert not server.draining.is_set()
        await trio.aclose_forcefully(client)


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """What is open stays open; nothing more can be opened."""
    import resource  # Windows has none

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@needs_posix("a limit for descriptors")
async def test_a_server_out_of_descriptors_accepts_again_when_there_are_some(
    tls: Maker,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with serving(tls.version, echo) as (_, server):
        sock = trio.socket.socket()
        with no_descriptor_left():
            await sock.connect((HOST, port_of(server)))
            await trio.sleep(10)
            assert not server.connections
        transport = trio.SocketStream(sock)
        context = client_context(tls.version)
        async with TLSStream(transport, context, server_hostname=NAME) as client:
            await client.send_all(b"hello")
            assert await client.receive_some() == b"hello"
            await client.shutdown()
    [record] = caplog.records
    assert "cannot accept connections: Too many open files" in record.getMessage()


async def test_what_a_handler_raises_when_it_is_cancelled_is_logged(
    tls13: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("mine")

    async def handler(stream: Stream) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(trio.sleep_forever)

    errors = Errors()
    async with serving(tls13.version, handler, on_error=errors) as (nursery, server):
        client = await client_of(port_of(server), tls13.version)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            assert await what_it_sees(client) in CUT
    [(error, _)] = errors
    assert pytest.RaisesGroup(KeyError).matches(error)
    assert server.tally == {ABORTED: 1}


async def test_a_handler_that_closes_the_transport_has_aborted(tls: Maker) -> None:
    async def handler(stream: Stream) -> None:
        await stream.transport_stream.aclose()

    async with serving(tls.version, handler) as (_, server):
        client = await client_of(port_of(server), tls.version)
        assert await what_it_sees(client) in CUT
        await until(lambda: server.tally == {ABORTED: 1})


async def test_a_client_that_is_refused_is_told_of_even_if_the_nursery_ends(
    tls: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    errors = Errors()
    context = server_context(tls.version)
    context.verify_mode = ssl.CERT_REQUIRED
    async with open_tls_nursery() as nursery:
        server = await nursery.start_server(
            echo, 0, context, host=HOST, on_error=errors
        )
        client = await client_of(port_of(server), tls.version, handshake=False)
        with pytest.raises(trio.BrokenResourceError):
            await client.receive_some()
        await trio.aclose_forcefully(client)
    assert server.tally == {FAILED: 1}
    [(error, _)] = errors
    assert isinstance(error, TLSFailedError)
    [record] = caplog.records
    assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in record.getMessage()


@pytest.mark.parametrize("cut_short_by", ["nobody", "nursery", "timeout"])
async def test_a_refused_client_is_told_of_even_if_its_connection_closes_slowly(
    cut_short_by: str,
    tls13: Maker,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def close_slowly(stream: Stream) -> None:
        closing.set()
        await closed.wait()
        await trio.aclose_forcefully(stream)

    closing, closed = trio.Event(), trio.Event()
    monkeypatch.setattr(_server, "end_abruptly", close_slowly)
    errors = Errors()
    async with serving(tls13.version, echo, on_error=errors) as (nursery, server):
        transport = await trio.open_tcp_stream(HOST, port_of(server))
        await transport.send_all(b"GET / HTTP/1.1\r\n\r\n")
        await closing.wait()
        assert not errors
        if cut_short_by == "nursery":
            nursery.cancel_scope.cancel()
        elif cut_short_by == "nobody":
            closed.set()
        with trio.CancelScope(shield=True):
            await until(lambda: errors)
        transport.socket.close()
    assert server.tally == {FAILED: 1}
    [(error, _)] = errors
    assert isinstance(error, TLSFailedError)


@pytest.mark.parametrize("handshake", [False, True])
async def test_a_server_survives_reports_that_cannot_be_made(
    tls: Maker, monkeypatch: pytest.MonkeyPatch, *, handshake: bool
) -> None:
    """What hooks of the user's put into them is not in our hands."""

    def fail(_: object) -> None:
        raise AttributeError("verify_message")

    async def handler(stream: Stream) -> None:
        raise KeyError("mine")

    errors = Errors()
    async with serving(tls.version, handler, on_error=errors) as (_, server):
        with monkeypatch.context() as patch:
            patch.setattr(TLSStream, "report", property(fail))
            transport = await trio.open_tcp_stream(HOST, port_of(server))
            client = TLSStream(
                transport, client_context(tls.version), server_hostname=NAME
            )
            if handshake:
                await client.do_handshake()
            else:
                await transport.send_all(b"GET / HTTP/1.1\r\n\r\n")
            await until(lambda: errors)
            await trio.aclose_forcefully(transport)
        assert server.tally == {FAILED: 1}
        assert not server.connections


async def test_a_server_survives_a_context_that_cannot_be_used(
    tls: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    """Because of a class of the user's, such as one that sets limits."""
    raises = False

    class Object(ssl.SSLObject):
        @classmethod
        def _create(cls, *args: Any, **options: Any) -> ssl.SSLObject:
            if raises:
                raise ValueError("too many")
            return super()._create(*args, **options)  # type: ignore[misc, no-any-return]

    async with serving(tls.version, echo) as (_, server):
        context = server_context(tls.version)
        context.sslobject_class = Object
        server.ssl_context = context
        raises = True
        client = await client_of(port_of(server), tls.version, handshake=False)
        assert await what_it_sees(client) in CUT
        raises = False
        client = await client_of(port_of(server), tls.version)
        await goodbye(client)
        await until(lambda: server.tally == {FAILED: 1, COMPLETE: 1})
    [line] = caplog.messages
    assert re.fullmatch(r"TLS handshake with 127.0.0.1:\d+ failed: too many", line)


async def test_a_server_survives_a_log_that_cannot_be_written(tls: Maker) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("the disk is full")

    async def handler(stream: Stream) -> None:
        raise KeyError("mine")

    errors = Errors()
    broken = Broken()
    logging.getLogger("trio_tlsdown").addHandler(broken)
    try:
        async with serving(tls.version, handler, on_error=errors) as (_, server):
            client = await client_of(port_of(server), tls.version)
            assert await what_it_sees(client) in CUT
            await until(lambda: server.tally == {ABORTED: 1})
    finally:
        logging.getLogger("trio_tlsdown").removeHandler(broken)
    assert len(errors) == 1


# Draining:


async def ask_and_answer(stream: Stream) -> None:
    """A handler as it should be: the wait for a request may be cut short."""
    while True:
        with cancel_on_drain() as scope:
            request = await stream.receive_some()
        if scope.cancelled_caught or not request:
            return
        await trio.sleep(1)
        await stream.send_all(request)


@pytest.mark.parametrize("grace", [0, 5])
async def test_an_idle_handler_leaves_at_once(
    grace: float, tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(tls.version, ask_and_answer) as (nursery, server):
        clients = [await client_of(port_of(server), tls.version) for _ in range(3)]
        for client in clients:
            await client.send_all(b"hello")
            assert await client.receive_some() == b"hello"
        await trio.testing.wait_all_tasks_blocked()
        for client in clients:
            nursery.start_soon(is_told_goodbye, client)
        report = await server.drain(grace=grace)
        assert report.tally == {COMPLETE: 3}
        assert report.handlers_cancelled == 0
        assert report.elapsed < 0.1
        assert server.draining.is_set()
        assert not server.connections
        with pytest.raises(OSError, match="all attempts"):
            await trio.open_tcp_stream(HOST, port_of(server))


async def test_an_answer_that_has_begun_is_finished(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(tls.version, ask_and_answer) as (nursery, server):
        client = await client_of(port_of(server), tls.version)
        await client.send_all(b"question")
        await trio.testing.wait_all_tasks_blocked()

        async def listen() -> None:
            assert await client.receive_some() == b"question"
            await is_told_goodbye(client)

        nursery.start_soon(listen)
        report = await server.drain(grace=5)
        assert report.tally == {COMPLETE: 1}
        assert report.handlers_cancelled == 0
        assert report.elapsed == pytest.approx(1, abs=0.1)


async def test_handlers_that_still_run_are_cancelled_when_the_grace_is_over(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    errors = Errors()
    async with serving(tls.version, echo, on_error=errors) as (nursery, server):
        clients = [await client_of(port_of(server), tls.version) for _ in range(3)]
        await trio.testing.wait_all_tasks_blocked()
        report = await server.drain(grace=4)
        assert report.tally == {ABORTED: 3}
        assert report.handlers_cancelled == 3
        assert report.elapsed == pytest.approx(4, abs=0.1)
        for client in clients:
            assert await what_it_sees(client) in CUT
        assert nursery.tally == {ABORTED: 3}
    assert errors == []


async def test_a_peer_that_never_reads_is_bounded_by_grace_and_policy(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    policy = ShutdownPolicy(timeout=2, linger_timeout=1)

    async def handler(stream: Stream) -> None:
        await stream.send_all(bytes(2**24))

    async with serving(tls.version, handler, policy) as (_, server):
        client = await client_of(port_of(server), tls.version)
        await trio.testing.wait_all_tasks_blocked()
        report = await server.drain(grace=3)
        assert report.tally == {ABORTED: 1}
        assert 3 <= report.elapsed <= 3 + 2 + 1
        await trio.aclose_forcefully(client)


async def test_a_wait_that_begins_in_a_drain_is_cut_short_at_once(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    scopes: list[trio.CancelScope] = []

    async def handler(stream: Stream) -> None:
        await server.draining.wait()
        with cancel_on_drain() as scope:
            scopes.append(scope)
            await trio.sleep_forever()

    async with serving(tls.version, handler) as (nursery, server):
        client = await client_of(port_of(server), tls.version)
        nursery.start_soon(is_told_goodbye, client)
        report = await server.drain(grace=1)
        assert report.tally == {COMPLETE: 1}
    [scope] = scopes
    assert scope.cancelled_caught


async def test_a_wait_that_is_over_is_not_cut_short(tls: Maker) -> None:
    scopes: list[trio.CancelScope] = []

    async def handler(stream: Stream) -> None:
        with cancel_on_drain() as scope:
            await stream.receive_some()
        scopes.append(scope)
        await server.draining.wait()
        await trio.lowlevel.checkpoint()
        await stream.send_all(b"answer")

    async with serving(tls.version, handler) as (_, server):
        client = await client_of(port_of(server), tls.version)
        await client.send_all(b"question")
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.drain)
            assert await client.receive_some() == b"answer"
            await is_told_goodbye(client)
    [scope] = scopes
    assert not scope.cancel_called


async def test_a_task_of_a_handler_finds_the_server_too(tls: Maker) -> None:
    async def wait() -> None:
        with cancel_on_drain():
            await trio.sleep_forever()

    async def handler(stream: Stream) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)

    async with serving(tls.version, handler) as (nursery, server):
        client = await client_of(port_of(server), tls.version)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(is_told_goodbye, client)
        assert (await server.drain()).tally == {COMPLETE: 1}


async def test_outside_of_a_handler_there_is_nothing_to_drain() -> None:
    with pytest.raises(RuntimeError, match=r"TLSNursery\.start_server"):
        with cancel_on_drain():
            pass  # pragma: no cover


async def test_drains_can_overlap_and_the_shortest_grace_counts(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    reports = []

    async with serving(tls.version, echo) as (_, server):

        async def drain(grace: float) -> None:
            reports.append(await server.drain(grace=grace))

        client = await client_of(port_of(server), tls.version)
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain, math.inf)
            await trio.sleep(1)
            nursery.start_soon(drain, 2)
        assert [report.handlers_cancelled for report in reports] == [1, 1]
        assert [report.tally for report in reports] == [{ABORTED: 1}] * 2
        elapsed = sorted(report.elapsed for report in reports)
        assert elapsed == pytest.approx([2, 3], abs=0.1)
        assert (await server.drain()).tally == Counter()
        await trio.aclose_forcefully(client)


async def test_a_drain_that_is_cancelled_can_be_taken_up_again(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(tls.version, echo) as (_, server):
        client = await client_of(port_of(server), tls.version)
        with trio.move_on_after(1):
            await server.drain(grace=2)
        await trio.sleep(10)
        await client.send_all(b"still there")
        assert await client.receive_some() == b"still there"
        report = await server.drain(grace=0)
        assert report.handlers_cancelled == 1
        await trio.aclose_forcefully(client)


async def test_wherever_a_drain_is_cancelled_another_one_ends_it(
    tls13: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    async def scenario(cancellation: Cancellation) -> None:
        async with serving(tls13.version, ask_and_answer) as (nursery, server):
            idle = await client_of(port_of(server), tls13.version)
            busy = await client_of(port_of(server), tls13.version)
            await busy.send_all(b"question")
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(is_told_goodbye, idle)
            with cancellation:
                await server.drain(grace=0.5)
            assert server.draining.is_set() or cancellation.cancelled
            await server.drain(grace=0)
            assert not server.connections
            assert server.tally == {COMPLETE: 1, ABORTED: 1}
            await trio.aclose_forcefully(busy)

    assert await cancel_everywhere(scenario) > 5


async def test_a_handler_that_raises_when_the_grace_is_over_was_cancelled(
    tls13: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(stream: Stream) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("mine")

    errors = Errors()
    async with serving(tls13.version, handler, on_error=errors) as (_, server):
        client = await client_of(port_of(server), tls13.version)
        await trio.testing.wait_all_tasks_blocked()
        report = await server.drain(grace=1)
        assert report.handlers_cancelled == 1
        assert report.tally == {ABORTED: 1}
        await trio.aclose_forcefully(client)
    assert len(errors) == 1


async def test_a_handler_that_failed_before_the_grace_is_over_was_not_cancelled(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    """Its alert is still on its way, to a peer that does not close."""
    failed = trio.Event()

    async def handler(stream: Stream) -> None:
        try:
            await stream.receive_some()
        finally:
            failed.set()

    async with serving(tls.version, handler) as (_, server):
        client = await client_of(port_of(server), tls.version)
        await client.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
        await failed.wait()
        report = await server.drain(grace=0)
        assert report.handlers_cancelled == 0
        assert report.tally == {FAILED: 1}
        assert report.elapsed > 0
        await trio.aclose_forcefully(client)


@pytest.mark.parametrize(("grace", "error"), [("1", TypeError), (-1, ValueError)])
async def test_a_grace_that_cannot_be_one_is_refused(
    grace: Any, error: type[Exception], tls13: Maker
) -> None:
    async with serving(tls13.version, echo) as (_, server):
        with pytest.raises(error, match="grace"):
            await server.drain(grace=grace)
        assert not server.draining.is_set()
