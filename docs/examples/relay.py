"""A relay that terminates TLS: TLS to the clients, plain TCP to a backend.

It forwards an end as an end and a cut as a cut, in both directions. Otherwise the backend
could take half a request for a complete one, or the client half an answer.
"""

import socket
import struct
from contextlib import suppress

import trio

from trio_tlsdown import HalfCloseUnsupportedError, TLSStream


async def relay(host: str, port: int, client: TLSStream[trio.SocketStream]) -> None:
    """The handler, after ``functools.partial`` has bound *host* and *port*."""
    async with await trio.open_tcp_stream(host, port) as backend:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(forward, client, backend)
                nursery.start_soon(forward, backend, client)
        except BaseException:
            # A FIN would look like an end. (Our server resets the client.)
            reset = struct.pack("ii", 1, 0)
            backend.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            raise


async def forward(
    source: trio.abc.ReceiveStream, sink: trio.abc.HalfCloseableStream
) -> None:
    async for chunk in source:
        await sink.send_all(chunk)
    # TLS 1.2 has no half-close: the close_notify follows when both directions have ended.
    with suppress(HalfCloseUnsupportedError):
        await sink.send_eof()
