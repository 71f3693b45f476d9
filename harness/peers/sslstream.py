"""trio.SSLStream, as Trio's helpers make it."""

from __future__ import annotations

import ssl
from functools import partial
from typing import TypeAlias

import trio

from . import served
from .interface import Connection, Control, PythonPeer

Stream: TypeAlias = "trio.SSLStream[trio.SocketStream]"


async def shut_down(stream: Stream) -> None:
    transport, _ = await stream.unwrap()
    await transport.aclose()


async def connect(
    host: str,
    port: int,
    context: ssl.SSLContext,
    session: ssl.SSLSession | None = None,
) -> Connection:
    stream = await trio.open_ssl_over_tcp_stream(host, port, ssl_context=context)
    if session is not None:
        stream.session = session
    await stream.do_handshake()
    return Connection(
        send=stream.send_all,
        receive=stream.receive_some,
        receive_at_most=stream.receive_some,
        shutdown=lambda: shut_down(stream),
        close=stream.aclose,
        abort=partial(trio.aclose_forcefully, stream),
        session=lambda: stream.session,
    )


async def serve(host: str, context: ssl.SSLContext, control: Control) -> None:
    listen = partial(trio.serve_ssl_over_tcp, port=0, ssl_context=context, host=host)
    await served.serve(listen, shut_down, control)


PEER = PythonPeer(
    version=f"trio {trio.__version__}",
    run=trio.run,
    connect=connect,
    serve=serve,
    cannot={"half-close": "SSLStream has no send_eof: python-trio/trio#823"},
)
