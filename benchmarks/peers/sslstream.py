"""trio.SSLStream, as Trio's helpers make it."""

from __future__ import annotations

import ssl
from functools import partial
from typing import TypeAlias

import trio

from benchmarks.clock import Lap, Stopwatch

from .interface import Connection, Orders, PythonPeer

Stream: TypeAlias = "trio.SSLStream[trio.SocketStream]"


async def shut_down(stream: Stream) -> None:
    transport, _ = await stream.unwrap()
    await transport.aclose()


async def connect(host: str, port: int, context: ssl.SSLContext) -> Connection:
    stream = await trio.open_ssl_over_tcp_stream(host, port, ssl_context=context)
    await stream.do_handshake()
    return Connection(
        send=stream.send_all,
        receive=stream.receive_some,
        receive_at_most=stream.receive_some,
        shutdown=lambda: shut_down(stream),
        close=stream.aclose,
    )


async def hold(host: str, context: ssl.SSLContext, orders: Orders) -> Lap:
    waits: set[trio.CancelScope] = set()

    async def handler(stream: Stream) -> None:
        with trio.CancelScope() as wait:
            waits.add(wait)
            while data := await stream.receive_some():
                await stream.send_all(data)
        await shut_down(stream)

    async with trio.open_nursery() as handlers:
        async with trio.open_nursery() as accepting:
            serve = partial(
                trio.serve_ssl_over_tcp,
                handler,
                0,
                context,
                host=host,
                handler_nursery=handlers,
            )
            listeners = await accepting.start(serve)
            orders.listening(listeners[0].transport_listener.socket.getsockname()[1])
            await trio.to_thread.run_sync(orders.wait_for_end)
            watch = Stopwatch()
            accepting.cancel_scope.cancel()
        for wait in waits:
            wait.cancel()
    return watch.lap()


PEER = PythonPeer(
    version=f"trio {trio.__version__}",
    run=trio.run,
    connect=connect,
    hold=hold,
    cannot={"half-close": "SSLStream has no send_eof: python-trio/trio#823"},
)
