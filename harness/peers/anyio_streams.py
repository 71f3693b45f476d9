"""anyio's TLSStream, on either event loop."""

from __future__ import annotations

import importlib.metadata
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final

import anyio
import anyio.to_thread
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSAttribute, TLSListener, TLSStream

from .interface import Accept, Connection, Control, PythonPeer, T

BACKLOG: Final = 2**16  # the kernel has a limit of its own


def connection(stream: TLSStream) -> Connection:
    return Connection(
        send=stream.send,
        receive=stream.receive,
        receive_at_most=stream.receive,
        shutdown=stream.aclose,  # it waits for the peer's close_notify
        close=stream.aclose,
        abort=partial(anyio.aclose_forcefully, stream),
        fileno=lambda: stream.extra(SocketAttribute.raw_socket).fileno(),
        version=lambda: stream.extra(TLSAttribute.tls_version),
    )


async def connect(
    host: str, port: int, context: ssl.SSLContext, server_hostname: str | None = None
) -> Connection:
    return connection(
        await anyio.connect_tcp(
            host, port, ssl_context=context, tls_hostname=server_hostname or host
        )
    )


@asynccontextmanager
async def listen(
    host: str, context: ssl.SSLContext
) -> AsyncIterator[tuple[int, Accept]]:
    accepted, opened = anyio.create_memory_object_stream[TLSStream](1)
    sockets = await anyio.create_tcp_listener(local_host=host)

    async def accept() -> Connection:
        return connection(await opened.receive())

    async with accepted, opened, anyio.create_task_group() as accepting:
        accepting.start_soon(TLSListener(sockets, context).serve, accepted.send)
        yield sockets.extra(SocketAttribute.local_port), accept
        accepting.cancel_scope.cancel()


async def serve(host: str, context: ssl.SSLContext, control: Control) -> None:
    scopes: set[anyio.CancelScope] = set()

    async def handler(stream: TLSStream) -> None:
        async with stream:
            with anyio.CancelScope() as scope, suppress(anyio.EndOfStream):
                scopes.add(scope)
                while True:
                    await stream.send(await stream.receive())
        scopes.remove(scope)

    sockets = await anyio.create_tcp_listener(local_host=host, backlog=BACKLOG)
    port = sockets.listeners[0].extra(SocketAttribute.local_port)
    listener = TLSListener(sockets, context)
    async with anyio.create_task_group() as handlers:
        async with anyio.create_task_group() as accepting:
            accepting.start_soon(listener.serve, handler, handlers)
            control.listening(port)
            await anyio.to_thread.run_sync(control.wait_for_stop)
            accepting.cancel_scope.cancel()
        await listener.aclose()
        for scope in scopes:
            scope.cancel()


def peer(backend: str) -> PythonPeer:
    def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return anyio.run(main, backend=backend)

    return PythonPeer(
        version=f"anyio {importlib.metadata.version('anyio')}",
        run=run,
        connect=connect,
        listen=listen,
        serve=serve,
        in_thread=anyio.to_thread.run_sync,
        end=anyio.EndOfStream,
        cannot={
            "half-close": "TLSStream.send_eof raises NotImplementedError",
            "connect-resumed": "no call takes a session",
        },
    )


ON_ASYNCIO = peer("asyncio")
ON_TRIO = peer("trio")
