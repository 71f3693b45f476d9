"""anyio's TLSStream, on either event loop."""

from __future__ import annotations

import importlib.metadata
import ssl
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, Final

import anyio
import anyio.to_thread
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSListener, TLSStream

from benchmarks.sample import Sample, Stopwatch

from .interface import Connection, Control, PythonPeer, Samples

BACKLOG: Final = 2**16  # the kernel has a limit of its own


async def connect(host: str, port: int, context: ssl.SSLContext) -> Connection:
    stream = await anyio.connect_tcp(host, port, ssl_context=context, tls_hostname=host)
    return Connection(
        send=stream.send,
        receive=stream.receive,
        receive_at_most=stream.receive,
        shutdown=stream.aclose,  # it waits for the peer's close_notify
        close=stream.aclose,
        abort=partial(anyio.aclose_forcefully, stream),
    )


async def serve(host: str, context: ssl.SSLContext, control: Control) -> Sample:
    scopes: set[anyio.CancelScope] = set()

    async def handler(stream: TLSStream) -> None:
        async with stream:
            with anyio.CancelScope() as scope, suppress(anyio.EndOfStream):
                scopes.add(scope)
                while True:
                    await stream.send(await stream.receive())
        scopes.remove(scope)

    sockets = await anyio.create_tcp_listener(local_host=host, backlog=BACKLOG)
    port = sockets.listeners[0].extra(SocketAttribute.local_port)  # noqa: S610
    listener = TLSListener(sockets, context)
    async with anyio.create_task_group() as handlers:
        async with anyio.create_task_group() as accepting:
            accepting.start_soon(listener.serve, handler, handlers)
            control.listening(port)
            await anyio.to_thread.run_sync(control.wait_for_stop)
            watch = Stopwatch()
            accepting.cancel_scope.cancel()
        await listener.aclose()
        for scope in scopes:
            scope.cancel()
    return watch.sample()


def peer(backend: str) -> PythonPeer:
    def run(main: Callable[[], Coroutine[Any, Any, Samples]]) -> Samples:
        return anyio.run(main, backend=backend)

    return PythonPeer(
        version=f"anyio {importlib.metadata.version('anyio')}",
        run=run,
        connect=connect,
        serve=serve,
        cannot={
            "half-close": "TLSStream.send_eof raises NotImplementedError",
            "connect-resumed": "no call takes a session",
        },
    )


ON_ASYNCIO = peer("asyncio")
ON_TRIO = peer("trio")
