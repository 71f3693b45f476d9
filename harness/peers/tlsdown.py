"""trio_tlsdown, through its public helpers."""

from __future__ import annotations

import ssl
from contextlib import suppress
from functools import partial

import trio

import trio_tlsdown
from trio_tlsdown import (
    ShutdownPolicy,
    TLSStream,
    open_tls_nursery,
    open_tls_over_tcp_stream,
    receive_until_drain,
)

from .interface import Connection, Control, PythonPeer

# Ten thousand connections that end at once take longer than one may.
POLICY = ShutdownPolicy(timeout=60, linger_timeout=60)


async def shut_down(stream: TLSStream[trio.SocketStream]) -> None:
    await stream.shutdown()
    await stream.aclose()


class InterruptedBlockError(Exception):
    pass


async def abort(stream: TLSStream[trio.SocketStream]) -> None:
    with suppress(InterruptedBlockError):
        async with stream:
            raise InterruptedBlockError


async def connect(
    host: str,
    port: int,
    context: ssl.SSLContext,
    session: ssl.SSLSession | None = None,
) -> Connection:
    stream = await open_tls_over_tcp_stream(
        host, port, ssl_context=context, handshake_timeout=None if session else 30
    )
    if session is not None:
        stream.session = session
        await stream.do_handshake()
    return Connection(
        send=stream.send_all,
        receive=stream.receive_some,
        receive_at_most=stream.receive_some,
        shutdown=lambda: shut_down(stream),
        close=stream.aclose,
        abort=partial(abort, stream),
        half_close=stream.send_eof,
        session=lambda: stream.session,
    )


async def handler(stream: TLSStream[trio.SocketStream]) -> None:
    while data := await receive_until_drain(stream):
        await stream.send_all(data)


async def serve(host: str, context: ssl.SSLContext, control: Control) -> None:
    async with open_tls_nursery(POLICY) as tls:
        server = await tls.start_server(handler, 0, context, host=host)
        control.listening(server.addresses[0][1])
        await trio.to_thread.run_sync(control.wait_for_stop)
        await server.drain(grace=60)


PEER = PythonPeer(
    version=f"trio_tlsdown {trio_tlsdown.__version__}, trio {trio.__version__}",
    run=trio.run,
    connect=connect,
    serve=serve,
)
