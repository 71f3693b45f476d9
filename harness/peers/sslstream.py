"""trio.SSLStream, made as Trio's helpers make it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeAlias

import trio

from . import served
from .interface import Accept, Connection, Control, PythonPeer

Stream: TypeAlias = "trio.SSLStream[trio.SocketStream]"


async def shut_down(stream: Stream) -> None:
    async with stream.transport_stream:
        await stream.unwrap()


def connection(stream: Stream) -> Connection:
    return Connection(
        send=stream.send_all,
        receive=stream.receive_some,
        receive_at_most=stream.receive_some,
        shutdown=lambda: shut_down(stream),
        close=stream.aclose,
        abort=partial(trio.aclose_forcefully, stream),
        session=lambda: stream.session,
        fileno=lambda: stream.transport_stream.socket.fileno(),
        version=stream.version,
    )


async def connect(
    host: str,
    port: int,
    context: ssl.SSLContext,
    server_hostname: str | None = None,
    session: ssl.SSLSession | None = None,
) -> Connection:
    transport = await trio.open_tcp_stream(host, port)
    stream = trio.SSLStream(transport, context, server_hostname=server_hostname or host)
    if session is not None:
        stream.session = session
    await stream.do_handshake()
    return connection(stream)


@asynccontextmanager
async def listen(
    host: str, context: ssl.SSLContext
) -> AsyncIterator[tuple[int, Accept]]:
    [sockets] = await trio.open_tcp_listeners(0, host=host)
    listener = trio.SSLListener(sockets, context)

    async def accept() -> Connection:
        stream = await listener.accept()
        await stream.do_handshake()
        return connection(stream)

    async with listener:
        yield sockets.socket.getsockname()[1], accept


async def serve(host: str, context: ssl.SSLContext, control: Control) -> None:
    listen = partial(trio.serve_ssl_over_tcp, port=0, ssl_context=context, host=host)
    await served.serve(listen, shut_down, control)


PEER = PythonPeer(
    version=f"trio {trio.__version__}",
    run=trio.run,
    connect=connect,
    listen=listen,
    serve=serve,
    in_thread=trio.to_thread.run_sync,
    cannot={"half-close": "SSLStream has no send_eof: python-trio/trio#823"},
)
