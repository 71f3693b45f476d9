"""What takes the place of Trio's helpers for TLS over TCP."""

import errno
import inspect
import logging
import os
import socket
import ssl
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from tests.servers import (
    HOST,
    Stream,
    client_of,
    nothing_left,
    port_of,
    rogue_of,
    until,
    what_it_sees,
)
from tests.support import NAME, Maker, client_context, server_context
from trio_tlsdown import (
    HandshakeTimeoutError,
    ShutdownPolicy,
    TLSFailedError,
    TLSListener,
    TLSStream,
    open_tls_over_tcp_listeners,
    open_tls_over_tcp_stream,
    serve_tls_over_tcp,
)
from trio_tlsdown._serving.accept import (
    SHORTAGE_SLEEP,
    AnyListener,
    accept_connections,
    wait_for_client,
)
from trio_tlsdown.testing import echo
from trio_tlsdown.testing._transports import reset_when_closed

POLICY = ShutdownPolicy(timeout=1)


@pytest.mark.parametrize(
    ("ours", "trios"),
    [
        (open_tls_over_tcp_stream, trio.open_ssl_over_tcp_stream),
        (open_tls_over_tcp_listeners, trio.open_ssl_over_tcp_listeners),
        (serve_tls_over_tcp, trio.serve_ssl_over_tcp),
    ],
)
def test_a_helper_takes_what_trios_helper_takes(ours: Any, trios: Any) -> None:
    def parameters(function: Any) -> list[tuple[str, Any, Any]]:
        return [
            (each.name, each.kind, each.default)
            for each in inspect.signature(function).parameters.values()
        ]

    added = {"policy", "handshake_timeout", "local_address", "server_hostname"}
    assert [one for one in parameters(ours) if one[0] not in added] == parameters(trios)


# A client:


async def test_a_client_does_no_handshake_by_itself(tls: Maker) -> None:
    listeners = await trio.open_tcp_listeners(0, host=HOST)
    port = listeners[0].socket.getsockname()[1]
    async with listeners[0], nothing_left():
        client = await open_tls_over_tcp_stream(
            HOST,
            port,
            ssl_context=client_context(tls.version),
            https_compatible=True,
            policy=POLICY,
        )
        assert client.https_compatible
        assert client.server_hostname == HOST
        with pytest.raises(trio.NeedHandshakeError):
            client.version()
        await trio.aclose_forcefully(client)


async def test_a_client_shakes_hands_if_a_handshake_timeout_asks_for_it(
    tls: Maker,
) -> None:
    async with nothing_left():
        async with trio.open_nursery() as serving:
            listeners = await serving.start(serve, tls, echo)
            client = await open_tls_over_tcp_stream(
                "localhost",
                port_of(listeners),
                ssl_context=client_context(tls.version),
                handshake_timeout=5,
            )
            assert client.version() == tls.version
            async with client:
                await client.send_all(b"hello")
                assert await client.receive_some() == b"hello"
            serving.cancel_scope.cancel()


async def test_a_client_gives_up_a_handshake_that_stalls(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    [listener] = await trio.open_tcp_listeners(0, host=HOST)
    async with listener, nothing_left():
        began = trio.current_time()
        with pytest.raises(HandshakeTimeoutError, match="longer than 3 s") as caught:
            await open_tls_over_tcp_stream(
                HOST,
                listener.socket.getsockname()[1],
                ssl_context=client_context(tls.version),
                handshake_timeout=3,
            )
        assert trio.current_time() - began == pytest.approx(3)
        assert isinstance(caught.value, trio.BrokenResourceError)
        assert isinstance(caught.value, trio.TooSlowError)
        assert caught.value.timeout == 3
        assert caught.value.host is None


async def test_a_clients_own_context_never_takes_a_cut_for_an_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ignore = ssl.Options(1 << 7)

    def lenient() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.options |= ignore
        return context

    monkeypatch.setattr(ssl, "create_default_context", lenient)
    monkeypatch.setattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", ignore, raising=False)
    [listener] = await trio.open_tcp_listeners(0, host=HOST)
    async with listener:
        port = listener.socket.getsockname()[1]
        client = await open_tls_over_tcp_stream(HOST, port)
        assert not client.context.options & ignore
        await trio.aclose_forcefully(client)

        own = lenient()
        client = await open_tls_over_tcp_stream(HOST, port, ssl_context=own)
        assert client.context is own
        assert own.options & ignore  # it is the user's
        await trio.aclose_forcefully(client)


@pytest.mark.parametrize(
    "options",
    [
        {"ssl_context": "context"},
        {"policy": 5},
        {"handshake_timeout": "soon"},
    ],
)
async def test_a_client_tells_wrong_arguments_before_it_connects(
    options: dict[str, Any],
) -> None:
    with pytest.raises(TypeError, match=next(iter(options))):
        await open_tls_over_tcp_stream("no.invalid", 443, **options)


async def test_a_client_closes_its_socket_when_the_name_cannot_be_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [listener] = await trio.open_tcp_listeners(0, host=HOST)
    port = listener.socket.getsockname()[1]

    async def connect(host: str, port: int, **_: object) -> trio.SocketStream:
        return await trio.testing.open_stream_to_socket_listener(listener)

    monkeypatch.setattr(trio, "open_tcp_stream", connect)
    async with listener, nothing_left():
        with pytest.raises(ValueError, match=r"server_hostname|label"):
            await open_tls_over_tcp_stream(".bad.example", port)


# A server:


async def serve(
    tls: Maker,
    handler: Any,
    *,
    task_status: trio.TaskStatus[Any],
    **options: Any,
) -> None:
    await serve_tls_over_tcp(
        handler,
        0,
        server_context(tls.version),
        host=HOST,
        task_status=task_status,
        **options,
    )


async def test_listeners_accept_streams_that_have_not_shaken_hands(tls: Maker) -> None:
    [listener] = await open_tls_over_tcp_listeners(
        0,
        server_context(tls.version),
        host=HOST,
        https_compatible=True,
        backlog=5,
        policy=POLICY,
    )
    async with listener, trio.open_nursery() as nursery:
        assert isinstance(listener, TLSListener)

        async def connect() -> None:
            client = await client_of(port_of([listener]), tls.version)
            assert await what_it_sees(client) == "close_notify"

        nursery.start_soon(connect)
        server = await listener.accept()
        assert server.https_compatible
        with pytest.raises(trio.NeedHandshakeError):
            server.version()
        await server.shutdown(wait=False)
        await server.aclose()


async def test_a_handler_gets_a_stream_that_has_shaken_hands(tls: Maker) -> None:
    async def handler(stream: Stream) -> None:
        async with stream:
            assert stream.version() == tls.version

    async with nothing_left(), trio.open_nursery() as nursery:
        listeners = await nursery.start(serve, tls, handler)
        client = await client_of(port_of(listeners), tls.version)
        assert await what_it_sees(client) == "close_notify"
        nursery.cancel_scope.cancel()


async def test_a_stream_that_a_handler_leaves_open_is_aborted(tls: Maker) -> None:
    async def handler(stream: Stream) -> None:
        await stream.send_all(b"a part")

    async with nothing_left(), trio.open_nursery() as nursery:
        listeners = await nursery.start(serve, tls, handler)
        client = await client_of(port_of(listeners), tls.version)
        assert await what_it_sees(client) in ("truncated", "reset")
        nursery.cancel_scope.cancel()


async def test_what_a_handler_raises_takes_the_server_down(tls: Maker) -> None:
    async def handler(stream: Stream) -> None:
        raise KeyError("mine")

    async with nothing_left():
        with pytest.RaisesGroup(pytest.RaisesGroup(KeyError)):
            async with trio.open_nursery() as nursery:
                listeners = await nursery.start(serve, tls, handler)
                client = await client_of(port_of(listeners), tls.version)
                try:
                    await trio.sleep_forever()
                finally:
                    await trio.aclose_forcefully(client)


async def test_handlers_run_in_the_nursery_that_was_given(tls: Maker) -> None:
    async def handler(stream: Stream) -> None:
        await trio.sleep_forever()

    async with nothing_left(), trio.open_nursery() as handlers:
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(
                lambda **options: serve(
                    tls, handler, handler_nursery=handlers, **options
                )
            )
            client = await client_of(port_of(listeners), tls.version)
            nursery.cancel_scope.cancel()  # the server, not the handler
        await client.send_all(b"still there")
        handlers.cancel_scope.cancel()
        await trio.aclose_forcefully(client)


@pytest.mark.parametrize("name", ["cut_in_handshake", "stall_in_handshake"])
async def test_a_bad_handshake_disturbs_nobody_and_is_logged(
    name: str,
    tls: Maker,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with nothing_left(), trio.open_nursery() as nursery:
        listeners = await nursery.start(serve, tls, echo)
        rogue = await rogue_of(port_of(listeners), nursery, name, tls.version)
        client = await client_of(port_of(listeners), tls.version)
        await client.send_all(b"hello")
        assert await client.receive_some() == b"hello"
        await trio.sleep(40)
        await client.send_all(b"again")
        assert await client.receive_some() == b"again"
        await trio.aclose_forcefully(client)
        await rogue.finish()
        nursery.cancel_scope.cancel()
    [record] = [each for each in caplog.records if each.name == "trio_tlsdown"]
    assert record.levelno == logging.WARNING
    assert "TLS handshake with 127.0.0.1:" in record.getMessage()


async def test_the_handshake_can_be_left_to_the_handler(tls: Maker) -> None:
    refused = trio.Event()

    async def handler(stream: Stream) -> None:
        with pytest.raises(trio.NeedHandshakeError):
            stream.version()
        with pytest.raises(TLSFailedError):
            await stream.do_handshake()
        refused.set()

    async with nothing_left(), trio.open_nursery() as nursery:
        listeners = await nursery.start(
            lambda **options: serve(tls, handler, handshake_timeout=None, **options)
        )
        client = TLSStream(
            await trio.open_tcp_stream(HOST, port_of(listeners)),
            ssl.create_default_context(),
            server_hostname=NAME,
        )
        with pytest.raises(TLSFailedError):
            await client.do_handshake()
        await refused.wait()
        await trio.aclose_forcefully(client)
        nursery.cancel_scope.cancel()


async def test_a_port_or_a_context_that_cannot_be_one_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="port must be from 0 to 65535"):
        await open_tls_over_tcp_stream("no.invalid", 70_000)
    with pytest.raises(ValueError, match="port must be from 0 to 65535"):
        await open_tls_over_tcp_listeners(70_000, server_context())
    with pytest.raises(ssl.SSLError, match="for servers"):
        await open_tls_over_tcp_stream("no.invalid", 443, ssl_context=server_context())
    with pytest.raises(ssl.SSLError, match="for clients"):
        await serve_tls_over_tcp(echo, 0, client_context())


async def test_a_server_tells_wrong_arguments_before_it_listens() -> None:
    with pytest.raises(ValueError, match="handshake_timeout must be >= 0"):
        await serve_tls_over_tcp(echo, 0, server_context(), handshake_timeout=-1)
    with pytest.raises(TypeError, match="ssl_context"):
        await serve_tls_over_tcp(echo, 0, "context")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="policy"):
        await open_tls_over_tcp_listeners(0, server_context(), policy=1)  # type: ignore[arg-type]


# The accept loop:


class ScriptedSocket:
    """A listening socket that gives, or raises, one thing after the other."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)

    async def accept(self) -> tuple[Any, Any]:
        await trio.lowlevel.checkpoint()
        next_one = self.script.pop(0)
        if isinstance(next_one, Exception):
            raise next_one
        return next_one, (HOST, 4433)


def scripted_listener(*script: Any) -> Any:
    with socket.create_server((HOST, 0)) as sock:
        listener: Any = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
    listener.socket = ScriptedSocket(*script)
    return listener


def failure(number: int) -> OSError:
    return OSError(number, os.strerror(number))


CLOSED = failure(errno.EBADF)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_a_shortage_slows_accepting_down_and_is_told_once(
    number: int,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: trio.testing.MockClock,
) -> None:
    scarce = [failure(number)] * 3
    sockets = trio.socket.socket(), trio.socket.socket()
    listener = scripted_listener(*scarce, sockets[0], *scarce, sockets[1], CLOSED)
    started: list[trio.SocketStream] = []
    began = trio.current_time()
    readable, other = socket.socketpair()
    other.close()
    listener.socket.fileno = readable.fileno  # there is always somebody
    with readable, pytest.raises(trio.ClosedResourceError):
        await accept_connections(listener, lambda stream, _: started.append(stream))
    assert [stream.socket for stream in started] == list(sockets)
    assert trio.current_time() - began == pytest.approx(6 * SHORTAGE_SLEEP)
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert os.strerror(number) in caplog.records[0].getMessage()
    for stream in started:
        await trio.aclose_forcefully(stream)


async def test_a_connection_that_failed_before_it_was_accepted_is_skipped() -> None:
    gone = [failure(errno.ECONNABORTED), failure(errno.EPROTO)]
    listener = scripted_listener(*gone, CLOSED)
    with pytest.raises(trio.ClosedResourceError):
        await accept_connections(listener, print)
    assert listener.socket.script == []


async def test_an_error_that_is_no_shortage_ends_accepting() -> None:
    listener = scripted_listener(failure(errno.EINVAL))
    with pytest.raises(OSError, match="Invalid"):
        await accept_connections(listener, print)


async def test_a_connection_that_nobody_can_take_is_closed() -> None:
    def refuse(stream: object, peer: str) -> None:
        raise RuntimeError("the nursery is closed")

    [listener] = await trio.open_tcp_listeners(0, host=HOST)
    async with (
        listener,
        await trio.testing.open_stream_to_socket_listener(listener) as client,
    ):
        with pytest.raises(RuntimeError, match="the nursery is closed"):
            await accept_connections(listener, refuse)
        assert await client.receive_some() == b""


@pytest.mark.parametrize(("host", "name"), [(HOST, HOST), ("::1", "[::1]")])
async def test_a_peer_keeps_its_address_even_if_it_has_sent_a_reset(
    host: str, name: str
) -> None:
    peers: list[str] = []

    def start(stream: trio.SocketStream, peer: str) -> None:
        stream.socket.close()
        peers.append(peer)
        nursery.cancel_scope.cancel()

    [listener] = await trio.open_tcp_listeners(0, host=host)
    client = await trio.testing.open_stream_to_socket_listener(listener)
    port = client.socket.getsockname()[1]
    reset_when_closed(client)
    client.socket.close()
    async with listener, trio.open_nursery() as nursery:
        await accept_connections(listener, start)
    assert peers == [f"{name}:{port}"]


async def test_a_client_for_whom_there_is_no_room_waits_in_the_backlog() -> None:
    room = trio.Event()
    started: list[trio.SocketStream] = []

    async def wait_for_room(listener: AnyListener) -> None:
        await wait_for_client(listener)
        asked.set()
        await room.wait()

    asked = trio.Event()
    [listener] = await trio.open_tcp_listeners(0, host=HOST)
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(
            partial(accept_connections, wait_for_room=wait_for_room),
            listener,
            lambda stream, _: started.append(stream),
        )
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not asked.is_set()  # nobody has come
        async with await trio.testing.open_stream_to_socket_listener(listener):
            await asked.wait()
            assert listener.socket.is_readable()
            room.set()
            await until(lambda: started)
        nursery.cancel_scope.cancel()
    await trio.aclose_forcefully(started[0])


async def test_a_listener_that_was_closed_when_a_client_came_is_not_waited_for() -> (
    None
):
    [listener] = await trio.open_tcp_listeners(0, host=HOST)
    listener.socket.close()
    with pytest.raises(trio.ClosedResourceError):
        await wait_for_client(listener)
