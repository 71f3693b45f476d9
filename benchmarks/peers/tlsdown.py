"""trio_tlsdown, by its public helpers."""

from __future__ import annotations

import ssl

import trio

import trio_tlsdown
from benchmarks.clock import Lap, Stopwatch
from trio_tlsdown import (
    ShutdownPolicy,
    TLSStream,
    cancel_on_drain,
    open_tls_nursery,
    open_tls_over_tcp_stream,
)

from .interface import Connection, Orders, PythonPeer

# Ten thousand endings at once take longer than one may.
POLICY = ShutdownPolicy(timeout=60, linger_timeout=60)


async def shut_down(stream: TLSStream[trio.SocketStream]) -> None:
    await stream.shutdown()
    await stream.aclose()


async def connect(host: str, port: int, context: ssl.SSLContext) -> Connection:
    stream = await open_tls_over_tcp_stream(
        host, port, ssl_context=context, handshake_timeout=30
    )
    return Connection(
        send=stream.send_all,
        receive=stream.receive_some,
        receive_at_most=stream.receive_some,
        shutdown=lambda: shut_down(stream),
        close=stream.aclose,
        half_close=stream.send_eof,
    )


async def handler(stream: TLSStream[trio.SocketStream]) -> None:
    while True:
        data = b""
        with cancel_on_drain():
            data = await stream.receive_some()
        if not data:
            return
        await stream.send_all(data)


async def hold(host: str, context: ssl.SSLContext, orders: Orders) -> Lap:
    async with open_tls_nursery(POLICY) as tls:
        server = await tls.start_server(handler, 0, context, host=host)
        orders.listening(server.addresses[0][1])
        await trio.to_thread.run_sync(orders.wait_for_end)
        watch = Stopwatch()
        await server.drain(grace=60)
        return watch.lap()


PEER = PythonPeer(
    version=f"trio_tlsdown {trio_tlsdown.__version__}, trio {trio.__version__}",
    run=trio.run,
    connect=connect,
    hold=hold,
)
