"""Bad input: a clear error of the right class, before anything changed."""

from __future__ import annotations

import socket
import ssl
from array import array
from typing import Any

import pytest
import trio
import trio.testing

from tests.support import NAME, Maker, client_context, memory_transports, server_context
from trio_tlsdown import (
    ShutdownOutcome,
    ShutdownPolicy,
    TLSListener,
    TLSStream,
    open_tls_nursery,
    open_tls_over_tcp_listeners,
    open_tls_over_tcp_stream,
    serve_tls_over_tcp,
)
from trio_tlsdown.testing import echo


async def test_a_transport_has_to_be_a_stream() -> None:
    a, b = socket.socketpair()
    with a, b, pytest.raises(TypeError, match="transport_stream must be a Stream"):
        TLSStream(a, client_context(), server_hostname=NAME)  # type: ignore[type-var]


@pytest.mark.parametrize("context", [None, ssl, "context", ssl.SSLObject])
async def test_a_context_has_to_be_an_sslcontext(context: Any) -> None:
    transport, _ = await memory_transports()
    with pytest.raises(TypeError, match="ssl_context must be an SSLContext"):
        TLSStream(transport, context, server_hostname=NAME)
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        with pytest.raises(TypeError, match="ssl_context must be an SSLContext"):
            TLSListener(listener, context)


async def test_a_context_for_the_other_side_is_told_with_what_to_use() -> None:
    transport, _ = await memory_transports()
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    client, server = client_context(), server_context()
    for_clients = r"^ssl_context is for clients .*\(ssl\.Purpose\.CLIENT_AUTH\)$"
    with pytest.raises(ssl.SSLError, match=for_clients):
        TLSStream(transport, client, server_side=True)
    async with listener:
        with pytest.raises(ssl.SSLError, match=for_clients):
            TLSListener(listener, client)
    with pytest.raises(ssl.SSLError, match=for_clients):
        await open_tls_over_tcp_listeners(0, client)
    for_servers = r"^ssl_context is for servers .* use ssl\.create_default_context\(\)$"
    with pytest.raises(ssl.SSLError, match=for_servers):
        TLSStream(transport, server, server_hostname=NAME)
    with pytest.raises(ssl.SSLError, match=for_servers):
        await open_tls_over_tcp_stream(NAME, 1, ssl_context=server)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("policy", 5.0),
        ("policy", None),
        ("server_hostname", 7),
        ("server_side", "no"),
        ("https_compatible", "false"),
        ("trace", "log.txt"),
    ],
)
async def test_options_of_the_wrong_type_are_refused(name: str, value: Any) -> None:
    transport, _ = await memory_transports()
    options = {"server_hostname": NAME, name: value}
    with pytest.raises(TypeError, match=name):
        TLSStream(transport, client_context(), **options)


async def test_a_transport_listener_has_to_be_a_listener() -> None:
    with pytest.raises(TypeError, match="transport_listener must be a Listener"):
        TLSListener(object(), server_context())  # type: ignore[arg-type]
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        with pytest.raises(TypeError, match="policy must be a ShutdownPolicy"):
            TLSListener(listener, server_context(), policy=3)  # type: ignore[arg-type]
        flag: Any = "false"
        with pytest.raises(TypeError, match="https_compatible must be a bool"):
            TLSListener(listener, server_context(), https_compatible=flag)


async def test_flags_are_told_before_anything_is_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trio, "open_tcp_stream", None)
    monkeypatch.setattr(trio, "open_tcp_listeners", None)
    options: dict[str, Any] = {"https_compatible": "false"}
    complaint = "https_compatible must be a bool, not 'false'"
    with pytest.raises(TypeError, match=complaint):
        await open_tls_over_tcp_stream(NAME, 443, **options)
    with pytest.raises(TypeError, match=complaint):
        await open_tls_over_tcp_listeners(0, server_context(), **options)
    async with open_tls_nursery() as tls:
        with pytest.raises(TypeError, match=complaint):
            await tls.connect(NAME, 443, **options)
        with pytest.raises(TypeError, match=complaint):
            await tls.start_server(echo, 0, server_context(), **options)


async def test_a_half_close_on_tls_12_is_allowed_by_true_alone(tls: Maker) -> None:
    a, b = await tls.pair()
    flag: Any = "false"
    with pytest.raises(TypeError, match="allow_tls12 must be a bool, not 'false'"):
        await a.send_eof(allow_tls12=flag)
    assert not a.report.close_notify_sent
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


async def test_a_stream_that_was_unwrapped_says_so(tls: Maker) -> None:
    a, b = await tls.pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(b.aclose)
        await a.unwrap()
    with pytest.raises(trio.ClosedResourceError, match="was closed, or unwrapped"):
        await a.send_all(b"x")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"backlog": "5"}, TypeError, "backlog must be an int"),
        ({"host": 8}, TypeError, "host must be a str"),
        ({"host": ""}, ValueError, "host must be a name or an address, not ''"),
        ({"host": "https://localhost/"}, ValueError, "without scheme"),
    ],
)
async def test_where_to_listen_is_checked(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        await open_tls_over_tcp_listeners(0, server_context(), **options)
    async with open_tls_nursery() as tls:
        with pytest.raises(error, match=message):
            await tls.start_server(echo, 0, server_context(), **options)


async def test_serving_needs_a_handler_that_can_be_called() -> None:
    handler: Any = 3
    with pytest.raises(TypeError, match="handler must be an async function, not 3"):
        await serve_tls_over_tcp(handler, 0, server_context())


async def test_on_error_has_to_be_callable() -> None:
    on_error: Any = 3
    async with open_tls_nursery() as tls:
        with pytest.raises(TypeError, match="on_error must be callable, not 3"):
            await tls.start_server(echo, 0, server_context(), on_error=on_error)


def test_a_policy_is_told_its_flag_is_none() -> None:
    flag: Any = 3
    with pytest.raises(TypeError, match="reset_on_abort must be a bool, not 3"):
        ShutdownPolicy(reset_on_abort=flag)


async def test_a_client_that_checks_host_names_needs_server_hostname() -> None:
    transport, _ = await memory_transports()
    with pytest.raises(ValueError, match="server_hostname"):
        TLSStream(transport, client_context())


@pytest.mark.parametrize("data", ["text", 5, None, [1]])
async def test_what_is_not_bytes_is_not_sent(tls: Maker, data: Any) -> None:
    a, b = await tls.pair()
    words = f"data must be bytes, not {type(data).__name__}"
    with pytest.raises(TypeError, match=words):
        await a.send_all(data)
    await a.send_all(b"still fine")
    assert await b.receive_some() == b"still fine"
    await a.aclose()
    await b.aclose()


async def test_a_buffer_may_be_changed_while_it_is_sent(tls: Maker) -> None:
    a, b = await tls.pair("lockstep")
    data = bytearray(b"a" * 2**20)
    received = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.send_all, data)
        await trio.testing.wait_all_tasks_blocked()
        data[:] = b"b" * len(data)
        data.clear()  # it is not locked
        while len(received) < 2**20:
            received += await b.receive_some()
    assert received == b"a" * 2**20
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


async def test_bytes_are_counted_as_bytes_whatever_they_are_an_array_of(
    tls: Maker,
) -> None:
    a, b = await tls.pair()
    numbers = array("Q", range(10))
    await a.send_all(memoryview(numbers))
    assert await b.receive_some() == numbers.tobytes()
    await a.aclose()
    await b.aclose()


@pytest.mark.parametrize(
    "data",
    [
        bytearray(b"abcdef"),
        memoryview(b"abcdef")[::2],
        memoryview(b"abcdef")[::-1],
        memoryview(b"abcdef").cast("B", (2, 3)),
    ],
)
async def test_bytes_are_sent_wherever_they_lie(
    tls: Maker, data: bytearray | memoryview
) -> None:
    a, b = await tls.pair()
    await a.send_all(memoryview(b"")[::2])  # nothing
    await a.send_all(data)
    assert await b.receive_some() == bytes(data)
    await a.aclose()
    await b.aclose()


async def test_bad_input_is_refused_before_the_handshake_begins() -> None:
    ours, theirs = await memory_transports()
    a = TLSStream(ours, client_context(), server_hostname=NAME)
    with pytest.raises(TypeError):
        await a.send_all("text")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_bytes"):
        await a.receive_some(0)
    with trio.move_on_after(0), pytest.raises(trio.Cancelled):
        await theirs.receive_some()
    assert a.report.outcome is ShutdownOutcome.OPEN
    await trio.aclose_forcefully(a)


async def test_a_receive_of_nothing_is_refused(tls: Maker) -> None:
    a, b = await tls.pair()
    for size in (0, -1):
        with pytest.raises(ValueError, match="max_bytes must be >= 1"):
            await a.receive_some(size)
    with pytest.raises(TypeError):
        await a.receive_some(1.5)  # type: ignore[arg-type]
    await a.aclose()
    await b.aclose()


async def test_after_closing_everything_says_closed(tls: Maker) -> None:
    a, b = await tls.pair()
    await a.aclose()
    report = a.report
    for use in (
        a.do_handshake,
        lambda: a.send_all(b"x"),
        lambda: a.send_all(b""),
        a.wait_send_all_might_not_block,
        a.send_eof,
        a.receive_some,
        a.shutdown,
        a.unwrap,
    ):
        with pytest.raises(trio.ClosedResourceError, match="was closed"):
            await use()
    assert a.report == report
    await b.aclose()


async def test_two_tasks_in_one_direction_are_one_too_many(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    a, b = await tls.pair("lockstep")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.send_all, b"x" * 100)
        nursery.start_soon(a.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        for use in (
            lambda: a.send_all(b"y"),
            a.wait_send_all_might_not_block,
            a.receive_some,
        ):
            with pytest.raises(trio.BusyResourceError, match="another task is"):
                await use()
        nursery.cancel_scope.cancel()
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


async def test_read_only_attributes_cannot_be_set(tls: Maker) -> None:
    a, b = await tls.pair()
    for name in ("server_side", "server_hostname", "https_compatible", "report"):
        with pytest.raises(AttributeError):
            setattr(a, name, None)
    with pytest.raises(AttributeError):
        a.no_such_thing  # type: ignore[attr-defined]  # noqa: B018
    assert a.report.outcome is ShutdownOutcome.OPEN
    await a.aclose()
    await b.aclose()
