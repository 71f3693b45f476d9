"""Options of clients: resumption, addresses, names."""

from __future__ import annotations

import inspect
import math
import ssl
from contextlib import suppress
from typing import Any

import pytest
import trio

from tests.servers import HOST, port_of, serving
from tests.support import NAME, Maker, client_context, server_context
from trio_tlsdown import (
    ConnectFailedError,
    ShutdownOutcome,
    TLSNursery,
    TLSStream,
    open_tls_nursery,
    open_tls_over_tcp_stream,
)
from trio_tlsdown.testing import Cancellation, cancel_everywhere, echo

COMPLETE = ShutdownOutcome.COMPLETE


async def converse(stream: TLSStream[Any]) -> ssl.SSLSession:
    """Say a word, hear one, end well; the session is good for resumption then."""
    await stream.send_all(b"hello")
    assert await stream.receive_some() == b"hello"
    await stream.shutdown()
    await stream.aclose()
    session = stream.session
    assert session is not None
    assert session.has_ticket
    return session


async def test_a_session_is_resumed_with_connect(tls: Maker) -> None:
    context = client_context(tls.version)
    async with serving(tls.version, echo) as (nursery, server):

        async def connect(session: ssl.SSLSession | None = None) -> Any:
            return await nursery.connect(
                HOST, port_of(server), ssl_context=context, session=session
            )

        first = await connect()
        assert not first.session_reused
        session = await converse(first)
        second = await connect(session)
        assert second.session_reused
        third = await connect(await converse(second))  # and so on, each ticket once
        assert third.session_reused
        await converse(third)


async def test_a_session_is_resumed_with_start_tls(tls: Maker) -> None:
    context = client_context(tls.version)
    async with serving(tls.version, echo) as (nursery, server):

        async def start(session: ssl.SSLSession | None = None) -> Any:
            return await nursery.start_tls(
                await trio.open_tcp_stream(HOST, port_of(server)),
                context,
                server_hostname=NAME,
                session=session,
            )

        session = await converse(await start())
        stream = await start(session)
        assert stream.session_reused
        await converse(stream)


async def test_a_session_after_an_abort_is_resumed_all_the_same(tls: Maker) -> None:
    context = client_context(tls.version)
    async with serving(tls.version, echo) as (nursery, server):
        stream = await nursery.connect(HOST, port_of(server), ssl_context=context)
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"
        await trio.aclose_forcefully(stream)
        again = await nursery.connect(
            HOST, port_of(server), ssl_context=context, session=stream.session
        )
        assert again.session_reused
        await converse(again)


async def test_a_session_of_another_context_is_told_and_nothing_left_open(
    tls: Maker,
) -> None:
    async with serving(tls.version, echo) as (nursery, server):
        port = port_of(server)
        context = client_context(tls.version)
        stream = await nursery.connect(HOST, port, ssl_context=context)
        session = await converse(stream)
        with pytest.raises(ValueError, match="different SSLContext"):
            await nursery.connect(
                HOST, port, ssl_context=client_context(tls.version), session=session
            )
        with pytest.raises(ValueError, match="session needs the ssl_context"):
            await nursery.connect(HOST, port, session=session)
        transport = await trio.open_tcp_stream(HOST, port)
        with pytest.raises(ValueError, match="different SSLContext"):
            await nursery.start_tls(
                transport,
                client_context(tls.version),
                server_hostname=NAME,
                session=session,
            )
        assert transport.socket.fileno() != -1
        await transport.aclose()


async def test_openssl_verifies_nothing_when_it_resumes(tls: Maker) -> None:
    """So there is no cache that would resume by itself."""
    context = client_context(tls.version)
    async with serving(tls.version, echo) as (nursery, server):

        async def connect(**options: Any) -> Any:
            return await nursery.connect(
                HOST, port_of(server), ssl_context=context, **options
            )

        session = await converse(await connect())
        stream = await connect(session=session, server_hostname="another.name")
        assert stream.session_reused
        await converse(stream)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"session": b"ticket"}, TypeError),
        ({"local_address": 7}, TypeError),
        ({"happy_eyeballs_delay": "soon"}, TypeError),
        ({"happy_eyeballs_delay": -1}, ValueError),
        ({"happy_eyeballs_delay": math.nan}, ValueError),
        ({"server_hostname": "a b"}, ValueError),
        ({"server_hostname": "x" * 300}, ValueError),
        ({"server_hostname": "https://example.org"}, ValueError),
        ({"server_hostname": 7}, TypeError),
    ],
)
async def test_a_wrong_argument_is_told_before_tcp_is_opened(
    options: dict[str, Any], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trio, "open_tcp_stream", None)
    [name] = options
    if name != "session":
        with pytest.raises(error, match=name):
            await open_tls_over_tcp_stream(HOST, 443, **options)
    async with open_tls_nursery() as nursery:
        with pytest.raises(error, match=name):
            await nursery.connect(HOST, 443, ssl_context=client_context(), **options)
        assert nursery.tally == {}


async def connect_by_nursery(nursery: TLSNursery, port: int, **options: Any) -> Any:
    return await nursery.connect(HOST, port, **options)


async def connect_by_helper(nursery: TLSNursery, port: int, **options: Any) -> Any:
    stream = await open_tls_over_tcp_stream(HOST, port, handshake_timeout=10, **options)
    nursery.adopt(stream)
    return stream


WAYS = pytest.mark.parametrize("way", [connect_by_nursery, connect_by_helper])


@WAYS
async def test_a_client_connects_from_the_address_it_is_told(
    way: Any, tls: Maker
) -> None:
    async with serving(tls.version, echo) as (nursery, server):
        stream = await way(
            nursery,
            port_of(server),
            ssl_context=client_context(tls.version),
            local_address="127.0.0.7",
            happy_eyeballs_delay=None,
        )
        address, _ = stream.transport_stream.socket.getsockname()
        assert address == "127.0.0.7"
        await converse(stream)


async def test_an_address_that_is_not_of_this_machine_is_told(tls: Maker) -> None:
    async with serving(tls.version, echo) as (nursery, server):
        with pytest.raises(ConnectFailedError):
            await nursery.connect(HOST, port_of(server), local_address="192.0.2.1")


@WAYS
async def test_the_certificate_has_to_be_for_the_name_that_is_given(
    way: Any, tls: Maker
) -> None:
    async with serving(tls.version, echo) as (nursery, server):
        options = {"ssl_context": client_context(tls.version)}
        stream = await way(nursery, port_of(server), server_hostname=NAME, **options)
        assert stream.server_hostname == NAME
        await converse(stream)
        with pytest.raises(trio.BrokenResourceError, match="mismatch"):
            await way(
                nursery, port_of(server), server_hostname="wrong.example", **options
            )


async def test_wherever_connect_is_cancelled_nothing_is_left_open(tls: Maker) -> None:
    context = client_context(tls.version)
    [listener] = await trio.open_tcp_listeners(0, host=HOST)
    port = listener.socket.getsockname()[1]

    async def handle(transport: trio.SocketStream) -> None:
        stream = TLSStream(transport, server_context(tls.version), server_side=True)
        async with stream:
            await stream.send_all(b"hello")
            await stream.wait_peer_ended()

    async def serve() -> None:
        transport = await listener.accept()
        with suppress(trio.BrokenResourceError):
            await handle(transport)

    async def scenario(cancellation: Cancellation) -> None:
        async with trio.open_nursery() as tasks:
            tasks.start_soon(serve)
            async with open_tls_nursery() as nursery:
                with cancellation:
                    await nursery.connect(
                        HOST,
                        port,
                        ssl_context=context,
                        local_address=HOST,
                        session=session,
                    )
            tasks.cancel_scope.cancel()

    async with trio.open_nursery() as tasks, open_tls_nursery() as nursery:
        tasks.start_soon(serve)
        first = await nursery.connect(HOST, port, ssl_context=context)
        assert await first.receive_some() == b"hello"
        session = first.session
        await first.shutdown()
        await first.aclose()
    await cancel_everywhere(scenario)
    await listener.aclose()


def test_a_tcp_option_that_trio_has_is_one_of_ours() -> None:
    """Else `open_tcp_stream` has learnt something new."""
    theirs = set(inspect.signature(trio.open_tcp_stream).parameters)
    ours = set(inspect.signature(TLSNursery.connect).parameters)
    assert theirs <= ours
