"""WebSockets over a TLSStream, with trio-websocket: a server and a client."""

from typing import cast

import trio
from trio_websocket import (
    ConnectionClosed,
    WebSocketConnection,
    wrap_client_stream,
    wrap_server_stream,
)

from trio_tlsdown import TLSStream


async def handler(stream: TLSStream[trio.SocketStream]) -> None:
    """Send each message back, until the client closes the WebSocket."""
    async with trio.open_nursery() as nursery:
        request = await wrap_server_stream(nursery, stream)
        websocket = await request.accept()
        try:
            while True:
                await websocket.send_message(await websocket.get_message())
        except ConnectionClosed:
            pass


async def open_websocket(
    nursery: trio.Nursery, stream: TLSStream[trio.SocketStream], host: str
) -> WebSocketConnection:
    """Open a WebSocket; its reader runs in the nursery."""
    # The type hints demand a trio.SSLStream. TLSStream is one only at run time.
    same = cast("trio.SSLStream[trio.SocketStream]", stream)
    return await wrap_client_stream(nursery, same, host, "/")
