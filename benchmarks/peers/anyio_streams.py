"""anyio's TLSStream, on either event loop."""

from __future__ import annotations

import importlib.metadata
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, Final

import anyio
import anyio.to_thread
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSListener, TLSStream

from benchmarks.clock import Lap, Stopwatch

from .interface import Connection, Laps, Orders, PythonPeer

EVERY_CONNECTION: Final = 2**16  # of a backlog; the kernel has a limit of its own


async def connect(host: str, port: int, context: ssl.SSLContext) -> Connection:
    stream = await anyio.connect_tcp(host, port, ssl_context=context, tls_hostname=host)
    return Connection(
        send=stream.send,
        receive=stream.receive,
        receive_at_most=stream.receive,
        shutdown=stream.aclose,  # it waits for the peer's close_notify
        close=stream.aclose,
    )


async def hold(host: str, context: ssl.SSLContext, orders: Orders) -> Lap:
    waits: set[anyio.CancelScope] = set()

    async def handler(stream: TLSStream) -> None:
        async with stream:
            with anyio.CancelScope() as wait:
                waits.add(wait)
                while True:
                    await stream.send(await stream.receive())

    sockets = await anyio.create_tcp_listener(local_host=host, backlog=EVERY_CONNECTION)
    port = sockets.listeners[0].extra(SocketAttribute.local_port)  # noqa: S610
    listener = TLSListener(sockets, context)
    async with anyio.create_task_group() as handlers:
        async with anyio.create_task_group() as accepting:
            accepting.start_soon(listener.serve, handler, handlers)
            orders.listening(port)
            await anyio.to_thread.run_sync(orders.wait_for_end)
            watch = Stopwatch()
            accepting.cancel_scope.cancel()
        await listener.aclose()
        for wait in waits:
            wait.cancel()
    return watch.lap()


def peer(backend: str) -> PythonPeer:
    def run(main: Callable[[], Coroutine[Any, Any, Laps]]) -> Laps:
        return anyio.run(main, backend=backend)

    return PythonPeer(
        version=f"anyio {importlib.metadata.version('anyio')}",
        run=run,
        connect=connect,
        hold=hold,
        cannot={"half-close": "TLSStream.send_eof raises NotImplementedError"},
    )


ON_ASYNCIO = peer("asyncio")
ON_TRIO = peer("trio")
