"""trio.SSLStream, as Trio's helpers make it."""

from __future__ import annotations

import ssl
from functools import partial
from typing import TypeAlias

import trio

from benchmarks.clock import Lap

from . import served
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
    serve = partial(trio.serve_ssl_over_tcp, port=0, ssl_context=context, host=host)
    return await served.hold(serve, shut_down, orders)


PEER = PythonPeer(
    version=f"trio {trio.__version__}",
    run=trio.run,
    connect=connect,
    hold=hold,
    cannot={"half-close": "SSLStream has no send_eof: python-trio/trio#823"},
)
