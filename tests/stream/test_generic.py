"""Trio's own conformance checks for streams."""

from collections.abc import Awaitable
from typing import Any

import pytest
import trio
import trio.abc
import trio.testing

from tests.support import NAME, Maker, client_context, server_context
from trio_tlsdown import ShutdownPolicy, TLSListener, TLSStream

# On a lockstep transport nothing can leave that nobody takes: there a goodbye
# costs its whole timeout, in mock time.


# A peer that sends on and on is waited for so long when closing. Seconds.
SHORT = {"policy": ShutdownPolicy(linger_timeout=0.02)}


@pytest.mark.parametrize("transport", ["memory", "tcp", "stapled"])
async def test_tls13_is_a_half_closeable_stream(tls13: Maker, transport: str) -> None:
    await trio.testing.check_half_closeable_stream(
        lambda: tls13.pair(transport, client=SHORT, server=SHORT), None
    )


async def test_tls13_is_a_half_closeable_stream_in_lockstep(
    tls13: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    def make() -> Awaitable[tuple[TLSStream[Any], TLSStream[Any]]]:
        return tls13.pair("lockstep")

    await trio.testing.check_half_closeable_stream(make, make)


@pytest.mark.parametrize("transport", ["memory", "tcp", "stapled"])
async def test_tls12_is_a_two_way_stream(tls12: Maker, transport: str) -> None:
    await trio.testing.check_two_way_stream(
        lambda: tls12.pair(transport, client=SHORT, server=SHORT), None
    )


async def test_tls12_is_a_two_way_stream_in_lockstep(
    tls12: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    def make() -> Awaitable[tuple[TLSStream[Any], TLSStream[Any]]]:
        return tls12.pair("lockstep")

    await trio.testing.check_two_way_stream(make, make)


async def test_the_first_use_shakes_hands(tls13: Maker) -> None:
    """Also with everything as it comes: nobody calls do_handshake()."""

    async def stream_maker() -> tuple[TLSStream[Any], TLSStream[Any]]:
        return tls13.wrap(trio.testing.memory_stream_pair())

    await trio.testing.check_half_closeable_stream(stream_maker, None)


def test_the_classes_can_be_subscripted_at_run_time() -> None:
    assert TLSStream[trio.SocketStream] is not TLSStream
    assert TLSListener[trio.SocketStream] is not TLSListener
    assert issubclass(TLSStream, trio.abc.HalfCloseableStream)
    assert issubclass(TLSListener, trio.abc.Listener)


def test_dir_names_everything_that_sslstream_has() -> None:
    transport, _ = trio.testing.memory_stream_pair()
    theirs = trio.SSLStream(transport, client_context(), server_hostname=NAME)
    ours = TLSStream(transport, client_context(), server_hostname=NAME)
    public = {name for name in dir(theirs) if not name.startswith("_")}
    assert public <= set(dir(ours))


async def test_a_listener_serves_and_closes() -> None:
    [sockets] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    listener = TLSListener(sockets, server_context())
    assert listener.transport_listener is sockets
    client = TLSStream(
        await trio.open_tcp_stream("127.0.0.1", sockets.socket.getsockname()[1]),
        client_context(),
        server_hostname=NAME,
    )
    server = await listener.accept()
    await listener.aclose()
    assert server.server_side
    assert not server.https_compatible
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, b"hello")
        assert await server.receive_some() == b"hello"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.aclose)
        assert await server.receive_some() == b""
    await server.aclose()
