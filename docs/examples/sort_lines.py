"""A line protocol in which a half-close ends the request.

The client sends lines and half-closes; the server sorts the lines and sends them back. So
the request needs no length. Half-close needs TLS 1.3.
"""

import trio

from trio_tlsdown import TLSStream

MOST = 2**20  # bytes


async def handler(stream: TLSStream[trio.SocketStream]) -> None:
    """Sort the lines of a complete request; one that was cut raises TruncatedError."""
    data = bytearray()
    async for chunk in stream:  # ends at the client's close_notify, and only there
        data += chunk
        if len(data) > MOST:
            raise ValueError("the request is too long")
    await stream.send_all(b"".join(sorted(data.splitlines(keepends=True))))


async def sort(stream: TLSStream[trio.SocketStream], lines: bytes) -> bytes:
    await stream.send_all(lines)
    await stream.send_eof()
    return b"".join([chunk async for chunk in stream])
