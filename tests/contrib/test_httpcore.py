"""httpcore with our network backend: what counts as a whole body, and what is reused."""

from __future__ import annotations

import gc
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import httpcore
import pytest
import trio
import trio.testing

from tests.servers import HOST, Stream, nothing_left, port_of, serving, until
from tests.stream.tickets import session_ticket
from tests.support import (
    CA,
    NAME,
    TLS13_FIRST,
    Maker,
    client_context,
    needs_posix,
    server_context,
)
from trio_tlsdown import (
    ShutdownOutcome,
    ShutdownPolicy,
    TLSFailedError,
    TLSStream,
    TransportBrokenError,
)
from trio_tlsdown.contrib.httpcore import TLSBackend
from trio_tlsdown.testing import BEHAVIOURS, RoguePeer, ScriptedPeer, cancel_everywhere

BODY = b"0123456789"
HASTY = ShutdownPolicy(timeout=1, linger_timeout=0.1)


@asynccontextmanager
async def pool_for(
    version: str, backend: TLSBackend | None = None, **options: Any
) -> AsyncIterator[httpcore.AsyncConnectionPool]:
    """A pool that trusts `CA`."""
    async with httpcore.AsyncConnectionPool(
        ssl_context=client_context(version),
        network_backend=TLSBackend(policy=HASTY) if backend is None else backend,
        **options,
    ) as pool:
        yield pool


def asking(**extensions: Any) -> dict[str, Any]:
    """Extensions of a request to `HOST`, whose certificate is for `NAME`."""
    return {"sni_hostname": NAME, **extensions}


@asynccontextmanager
async def listening(
    serve: Callable[[trio.SocketStream], Awaitable[object]],
) -> AsyncIterator[int]:
    """A TCP server on a free port. Neither it nor its clients leave anything behind."""
    async with nothing_left():
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(
                trio.serve_listeners, serve, await trio.open_tcp_listeners(0, host=HOST)
            )
            yield listeners[0].socket.getsockname()[1]
            nursery.cancel_scope.cancel()


# Whole bodies and halves of them:

WHOLE = {
    "length": b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY),
    "chunked": b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"
    % (len(BODY), BODY),
    "until close": b"Connection: close\r\n\r\n" + BODY,
}
# What is missing is more than a flood brings.
HALF = {
    "length": b"Content-Length: %d\r\n\r\n%s" % (2**26, BODY),
    "chunked": b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s" % (2**26, BODY),
}

NAMES = [
    pytest.param(name, marks=pytest.mark.long) if name == "slow_drip" else name
    for name in BEHAVIOURS
]
IN_HANDSHAKE = {name for name in BEHAVIOURS if BEHAVIOURS[name].in_handshake}

# These say on their own that all was said; what they add to the body before.
CONFIRMED = {
    "close_without_waiting": b"",
    "second_close_notify": b"",
    "data_after_close_notify": b"",
    "cleartext_after_close_notify": b"",
    "garbage_after_close_notify": b"",
    "user_canceled_first": b"",
    "slow_drip": b"drip",
    "flood": bytes(2**24),
}

# These wait for our close_notify, which a client that reads a body does not send.
SILENT = {
    "cut_after_close_notify",
    "reset_after_close_notify",
    "never_answer",
    "answer_late",
    "keep_sending_after_close_notify",
    "stall_in_handshake",
}


IN_THE_HANDSHAKE = httpcore.ConnectTimeout, httpcore.ConnectError
# For lack of time, of data, and of more data that were announced.
IN_THE_BODY = httpcore.ReadTimeout, httpcore.ReadError, httpcore.RemoteProtocolError


async def ask_rogue(
    name: str, version: str, response: bytes
) -> bytes | type[Exception]:
    """The body that a rogue server sends, or the exception that this raises."""

    async def serve(transport: trio.SocketStream) -> None:
        says = b"HTTP/1.1 200 OK\r\n" + response
        await RoguePeer(
            name, transport, hears=1, says=says, version=version, ca=CA
        ).run()

    # Only those who say nothing may take too long.
    timeout = {"connect": 30.0, "read": 30.0}
    if name in SILENT:
        timeout["connect" if name in IN_HANDSHAKE else "read"] = 0.3
    async with listening(serve) as port, pool_for(version) as pool:
        try:
            answer = await pool.request(
                "GET", f"https://{HOST}:{port}", extensions=asking(timeout=timeout)
            )
        except (*IN_THE_HANDSHAKE, *IN_THE_BODY) as exc:
            return type(exc)
        return answer.content


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("name", NAMES)
async def test_a_body_with_a_length_is_whole_however_the_connection_ends(
    tls: Maker, name: str, framing: str
) -> None:
    result = await ask_rogue(name, tls.version, WHOLE[framing])
    if name in IN_HANDSHAKE:
        assert result in IN_THE_HANDSHAKE
    else:
        assert result == BODY


@pytest.mark.parametrize("framing", HALF)
@pytest.mark.parametrize("name", NAMES)
async def test_half_a_body_with_a_length_is_an_error_however_the_connection_ends(
    tls: Maker, name: str, framing: str
) -> None:
    result = await ask_rogue(name, tls.version, HALF[framing])
    assert result in (IN_THE_HANDSHAKE if name in IN_HANDSHAKE else IN_THE_BODY)


@pytest.mark.parametrize("name", NAMES)
async def test_a_body_without_a_length_is_whole_after_a_close_notify_and_only_then(
    tls: Maker, name: str
) -> None:
    result = await ask_rogue(name, tls.version, WHOLE["until close"])
    more = CONFIRMED.get(name)
    if name == "fatal_close_notify" and tls.version == "TLSv1.3":
        more = b""  # RFC 9846 section 6: the level can be ignored
    if more is not None:
        assert result == BODY + more
    else:
        assert result in (IN_THE_HANDSHAKE if name in IN_HANDSHAKE else IN_THE_BODY)


async def test_with_https_compatible_a_cut_between_records_ends_a_body(
    tls: Maker,
) -> None:
    async def serve(stream: Stream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\n" + WHOLE["until close"])

    backend = TLSBackend(https_compatible=True)
    async with serving(tls.version, serve, https_compatible=True) as (_, server):
        async with pool_for(tls.version, backend) as pool:
            url = f"https://{HOST}:{port_of(server)}"
            answer = await pool.request("GET", url, extensions=asking())
            assert answer.content == BODY


# Which connections are used again:

OK = b"HTTP/1.1 200 OK\r\n" + WHOLE["length"]


def late_ticket(peer: ScriptedPeer) -> bytes:
    return session_ticket(peer, 1)


def key_update(peer: ScriptedPeer) -> bytes:
    return peer.key_update()


@attrs.define
class Talker:
    """A server that sends something behind each answer, and counts its clients."""

    behind: Callable[[ScriptedPeer], bytes]
    clients: int = 0

    async def serve(self, transport: trio.SocketStream) -> None:
        self.clients += 1
        peer = ScriptedPeer(transport, server_side=True, version="TLSv1.3", ca=CA)
        await peer.handshake()
        while await peer.receive():
            if peer.received.endswith(b"\r\n\r\n"):
                peer.received.clear()
                await peer.send(peer.encrypt(OK))
                # Not with the answer: it has to be there when the pool looks.
                await trio.testing.wait_all_tasks_blocked()
                await peer.send(self.behind(peer))
        await transport.aclose()


async def ask_twice(talker: Talker, backend: httpcore.AsyncNetworkBackend) -> None:
    async with listening(talker.serve) as port:
        async with httpcore.AsyncConnectionPool(
            ssl_context=client_context("TLSv1.3"), network_backend=backend
        ) as pool:
            url = f"https://{HOST}:{port}"
            first = await pool.request("GET", url, extensions=asking())
            sock = first.extensions["network_stream"].get_extra_info("socket")
            await until(sock.is_readable)
            second = await pool.request("GET", url, extensions=asking())
            assert (first.content, second.content) == (BODY, BODY)


@pytest.mark.parametrize("behind", [late_ticket, key_update])
async def test_an_idle_connection_stays_in_the_pool_when_its_peer_sends_no_data(
    behind: Callable[[ScriptedPeer], bytes],
) -> None:
    talker = Talker(behind)
    await ask_twice(talker, TLSBackend())
    assert talker.clients == 1


@pytest.mark.parametrize("behind", [late_ticket, key_update])
async def test_httpcores_own_backend_drops_that_connection(
    behind: Callable[[ScriptedPeer], bytes],
) -> None:
    """Why this backend asks the stream and not the socket."""
    talker = Talker(behind)
    await ask_twice(talker, httpcore.TrioBackend())
    assert talker.clients == 2


def data_nobody_asked_for(peer: ScriptedPeer) -> bytes:
    return peer.encrypt(b"HTTP/1.1 408 Request Timeout\r\n\r\n")


@pytest.mark.parametrize(
    "behind", [data_nobody_asked_for, ScriptedPeer.close_notify, ScriptedPeer.tampered]
)
async def test_an_idle_connection_leaves_the_pool_when_its_peer_ends_it_or_sends_data(
    behind: Callable[[ScriptedPeer], bytes],
) -> None:
    talker = Talker(behind)
    await ask_twice(talker, TLSBackend(policy=HASTY))
    assert talker.clients == 2


async def answer_requests(stream: trio.abc.Stream) -> None:
    """As a web server that keeps connections alive."""
    received = b""
    async for chunk in stream:
        received += chunk
        while b"\r\n\r\n" in received:
            _, _, received = received.partition(b"\r\n\r\n")
            await stream.send_all(OK)


def client_sessions() -> int:
    return sum(
        isinstance(it, ssl.SSLObject) and not it.server_side for it in gc.get_objects()
    )


@pytest.mark.parametrize(
    "name", ["cut_in_handshake", "cut_before_close_notify", "never_answer"]
)
async def test_a_failed_request_does_not_wait_for_the_garbage_collector(
    tls: Maker, name: str
) -> None:
    gc.collect()
    gc.disable()
    try:
        before = client_sessions()
        await ask_rogue(name, tls.version, HALF["length"])
        assert client_sessions() == before
    finally:
        gc.enable()


async def test_a_pool_closes_its_connections_with_a_close_notify(tls: Maker) -> None:
    async with serving(tls.version, answer_requests) as (_, server):
        async with pool_for(tls.version) as pool:
            url = f"https://{HOST}:{port_of(server)}"
            for _ in range(2):
                answer = await pool.request("GET", url, extensions=asking())
                assert answer.content == BODY
    assert server.tally == {ShutdownOutcome.COMPLETE: 1}


@pytest.mark.parametrize("version", TLS13_FIRST)
async def test_a_cancelled_request_leaves_nothing_and_the_pool_goes_on(
    tls: Maker,
) -> None:
    async with serving(tls.version, answer_requests) as (_, server):
        url = f"https://{HOST}:{port_of(server)}"
        async with pool_for(tls.version) as pool:

            async def scenario(cancellation: Any) -> None:
                async with pool_for(tls.version) as fresh:
                    with cancellation:
                        answer = await fresh.request("GET", url, extensions=asking())
                        assert answer.content == BODY
                    again = await fresh.request("GET", url, extensions=asking())
                    assert again.content == BODY
                await until(lambda: not server.connections)

            assert await cancel_everywhere(scenario) > 10
            answer = await pool.request("GET", url, extensions=asking())
            assert answer.content == BODY


async def test_a_request_that_is_cancelled_does_not_wait_for_a_graceful_end(
    tls: Maker,
) -> None:
    """Its server never stops sending, for which a graceful end would linger."""

    async def serve(stream: Stream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while True:
            await stream.send_all(b"x")
            await trio.sleep(0.01)

    backend = TLSBackend(policy=ShutdownPolicy(timeout=30, linger_timeout=30))
    errors: list[Exception] = []
    async with serving(
        tls.version, serve, on_error=lambda exc, _: errors.append(exc)
    ) as (_, server):
        async with pool_for(tls.version, backend) as pool:
            began = trio.current_time()
            with trio.move_on_after(0.2) as scope:
                url = f"https://{HOST}:{port_of(server)}"
                await pool.request("GET", url, extensions=asking())
            assert scope.cancelled_caught
            assert trio.current_time() - began < 10
        await until(lambda: errors)
    assert [type(exc) for exc in errors] == [TransportBrokenError]  # reset, no FIN


# Connecting:


async def test_a_connection_has_the_extra_information_of_httpcores_own(
    tls: Maker,
) -> None:
    async with serving(tls.version, answer_requests) as (_, server):
        async with pool_for(tls.version, local_address="127.0.0.2") as pool:
            url = f"https://{HOST}:{port_of(server)}"
            answer = await pool.request("GET", url, extensions=asking())
            stream = answer.extensions["network_stream"]
            session = stream.get_extra_info("ssl_object")
            assert session.version() == tls.version
            assert session.selected_alpn_protocol() is None
            assert session.report.outcome is ShutdownOutcome.OPEN
            assert stream.get_extra_info("client_addr")[0] == "127.0.0.2"
            assert stream.get_extra_info("server_addr") == (HOST, port_of(server))
            assert stream.get_extra_info("socket").getpeername()[0] == HOST
            assert not stream.get_extra_info("is_readable")
            assert stream.get_extra_info("colour") is None


async def test_socket_options_reach_the_socket(tls: Maker) -> None:
    option = socket.SOL_SOCKET, socket.SO_KEEPALIVE
    async with serving(tls.version, answer_requests) as (_, server):
        async with pool_for(tls.version, socket_options=[(*option, 1)]) as pool:
            url = f"https://{HOST}:{port_of(server)}"
            answer = await pool.request("GET", url, extensions=asking())
            sock = answer.extensions["network_stream"].get_extra_info("socket")
            assert sock.getsockopt(*option)


async def test_a_socket_that_refuses_an_option_is_closed() -> None:
    async def serve(transport: trio.SocketStream) -> None:
        assert await transport.receive_some() == b""
        await transport.aclose()

    async with listening(serve) as port:
        with pytest.raises(httpcore.ConnectError):
            await TLSBackend().connect_tcp(
                HOST, port, socket_options=[(socket.SOL_SOCKET, 2**16, 1)]
            )
        await trio.testing.wait_all_tasks_blocked()


@needs_posix("Unix sockets")
async def test_tls_runs_over_a_unix_socket(tls: Maker, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with trio.socket.socket(socket.AF_UNIX) as sock:
        await sock.bind(path)
        sock.listen()

        async def serve() -> None:
            transport = trio.SocketStream((await sock.accept())[0])
            async with TLSStream(
                transport, server_context(tls.version), server_side=True
            ) as stream:
                await answer_requests(stream)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            async with pool_for(tls.version, uds=path) as pool:
                answer = await pool.request(
                    "GET", "https://localhost", extensions=asking()
                )
                assert answer.content == BODY
                stream = answer.extensions["network_stream"]
                assert stream.get_extra_info("server_addr") == path


@needs_posix("Unix sockets")
async def test_a_unix_socket_that_is_not_there_is_a_connect_error(
    tmp_path: Path,
) -> None:
    with pytest.raises(httpcore.ConnectError):
        await TLSBackend().connect_unix_socket(str(tmp_path / "none"))


async def test_a_name_that_no_host_can_have_is_a_connect_error() -> None:
    with pytest.raises(httpcore.ConnectError):
        await TLSBackend().connect_tcp("x" * 70 + ".example", 443)


async def test_clear_text_goes_through_the_same_backend() -> None:
    async with listening(answer_requests) as port, pool_for("TLSv1.3") as pool:
        for _ in range(2):
            answer = await pool.request("GET", f"http://{HOST}:{port}")
            assert answer.content == BODY
            stream = answer.extensions["network_stream"]
            assert stream.get_extra_info("ssl_object") is None
            assert stream.get_extra_info("is_readable") is False
        assert len(pool.connections) == 1


async def test_a_refused_connection_is_a_connect_error_and_is_tried_again() -> None:
    with socket.socket() as sock:
        sock.bind((HOST, 0))  # and does not listen
        url = f"https://{HOST}:{sock.getsockname()[1]}"
        async with pool_for("TLSv1.3", retries=1) as pool:
            with pytest.raises(httpcore.ConnectError):
                await pool.request("GET", url)


async def test_a_certificate_of_somebody_else_is_a_connect_error(tls: Maker) -> None:
    async with serving(tls.version, answer_requests, on_error=lambda *_: None) as (
        _,
        server,
    ):
        async with pool_for(tls.version) as pool:
            url = f"https://{HOST}:{port_of(server)}"
            with pytest.raises(httpcore.ConnectError, match="certificate") as caught:
                await pool.request(
                    "GET", url, extensions={"sni_hostname": "example.org"}
                )
            # httpcore drops the cause.
            assert isinstance(caught.value.args[0], TLSFailedError)


async def test_a_name_that_cannot_be_one_leaves_no_connection_open() -> None:
    async with listening(answer_requests) as port:
        stream = await TLSBackend().connect_tcp(HOST, port)
        with pytest.raises(ValueError, match="server_hostname"):
            await stream.start_tls(client_context())


async def test_a_write_that_takes_too_long_is_a_write_timeout(tls: Maker) -> None:
    async def serve(stream: Stream) -> None:
        await trio.sleep_forever()

    async with serving(tls.version, serve) as (nursery, server):
        transport = await TLSBackend(policy=HASTY).connect_tcp(HOST, port_of(server))
        stream = await transport.start_tls(client_context(tls.version), NAME)
        await stream.write(b"")
        with pytest.raises(httpcore.WriteTimeout):
            await stream.write(bytes(2**26), timeout=0.1)  # more than kernels take
        await stream.aclose()
        nursery.cancel_scope.cancel()


async def test_a_read_that_is_cut_short_beside_a_write_still_ends_in_a_reset(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    """As of HTTP/2, where one task reads and another one writes."""

    async def serve(stream: Stream) -> None:
        assert await stream.receive_some() == b"question"
        with pytest.raises(TransportBrokenError):
            await stream.receive_some()

    async with serving(tls.version, serve) as (nursery, server):
        transport = await TLSBackend(policy=HASTY).connect_tcp(HOST, port_of(server))
        stream = await transport.start_tls(client_context(tls.version), NAME)

        async def write() -> None:
            await trio.sleep(1)
            await stream.write(b"question")

        nursery.start_soon(write)
        with pytest.raises(httpcore.ReadTimeout):
            await stream.read(100, timeout=2)
        await stream.aclose()
        await until(lambda: not server.connections)
        assert server.tally == {ShutdownOutcome.RESET: 1}


async def test_the_backend_sleeps(autojump_clock: trio.testing.MockClock) -> None:
    began = trio.current_time()
    await TLSBackend().sleep(5)
    assert trio.current_time() - began == 5


async def test_the_delay_of_the_next_address_may_be_trios_default(tls: Maker) -> None:
    backend = TLSBackend(happy_eyeballs_delay=None)
    async with listening(answer_requests) as port:
        stream = await backend.connect_tcp(HOST, port)
        await stream.aclose()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"policy": 5}, TypeError),
        ({"happy_eyeballs_delay": "1"}, TypeError),
        ({"happy_eyeballs_delay": True}, TypeError),
        ({"happy_eyeballs_delay": -1}, ValueError),
        ({"happy_eyeballs_delay": float("nan")}, ValueError),
        ({"https_compatible": 1}, TypeError),
    ],
)
def test_a_wrong_argument_is_named(options: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(options))):
        TLSBackend(**options)


# Proxies:


@asynccontextmanager
async def proxying(version: str, *, secure: bool) -> AsyncIterator[str]:
    """The URL of a proxy that knows CONNECT."""

    async def serve(client: trio.abc.HalfCloseableStream) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await client.receive_some(1)
        host, _, port = head.split()[1].decode().partition(":")
        async with await trio.open_tcp_stream(host, int(port)) as server:
            await client.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(copy, client, server)
                await copy(server, client)
                nursery.cancel_scope.cancel()

    async def copy(source: trio.abc.Stream, sink: trio.abc.HalfCloseableStream) -> None:
        with suppress(trio.BrokenResourceError):  # the client may abort
            async for data in source:
                await sink.send_all(data)

    if secure:
        async with serving(version, serve) as (_, server):
            yield f"https://{NAME}:{port_of(server)}"
    else:
        async with listening(serve) as port:
            yield f"http://{HOST}:{port}"


@pytest.mark.parametrize("secure", [False, True])
async def test_tls_runs_through_a_proxy_with_tls_or_without(
    tls: Maker, *, secure: bool
) -> None:
    async with serving(tls.version, answer_requests) as (_, server):
        async with proxying(tls.version, secure=secure) as proxy_url:
            async with httpcore.AsyncHTTPProxy(
                proxy_url,
                ssl_context=client_context(tls.version),
                proxy_ssl_context=client_context(tls.version) if secure else None,
                network_backend=TLSBackend(policy=HASTY),
            ) as pool:
                url = f"https://{NAME}:{port_of(server)}"
                await pool.request("GET", url)
                answer = await pool.request("GET", url)
                assert answer.content == BODY
                assert len(pool.connections) == 1
                stream = answer.extensions["network_stream"]
                session = stream.get_extra_info("ssl_object")
                assert isinstance(session.transport_stream, TLSStream) is secure
    assert sum(server.tally.values()) == 1
