"""An HTTP/1.1 handler that loses no request when its server drains.

- Only the wait for the *next* request is `receive_until_drain`. A request that has begun to
  arrive is read to its end, and answered.
- Answers say ``Connection: close`` while the server drains, and on connections older than
  *max_age*. So a client sends no request to a connection that is about to end. With a
  `notice`, this reaches all clients that send a request meanwhile.

A client whose connection ends between two requests may have sent the next one already.
It then has to send it again, if it may: RFC 9112 section 9.3.1. For what it may not, such
as a POST, there is the notice.

It knows only as much of HTTP as is needed here: for more, use h11 or hypercorn.
"""

import signal
import ssl
import sys

import trio

from trio_tlsdown import TLSStream, draining, open_tls_nursery, receive_until_drain

MOST = 2**14  # bytes, of the head of a request
IDLE = 60  # seconds until an idle connection is ended


class BadRequestError(Exception):
    """This is not an HTTP request."""


class Connection:
    """What one client sends."""

    def __init__(self, stream: TLSStream[trio.abc.Stream]) -> None:
        self._stream = stream
        self._data = bytearray()

    async def next_request(self) -> tuple[str, bytes, bool] | None:
        """Return its first line, its body, and whether the connection is persistent."""
        if not self._data:
            self._data += await receive_until_drain(self._stream, timeout=IDLE)
            if not self._data:
                return None  # the client has gone, or the wait was cut short
        while (end := self._data.find(b"\r\n\r\n")) < 0:
            if len(self._data) > MOST:
                raise BadRequestError("the head is too long")
            await self._receive()
        first, *lines = self._data[:end].decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if "transfer-encoding" in headers:
            raise BadRequestError("no chunks, please")
        size = int(headers.get("content-length", 0))
        if headers.get("expect", "").lower() == "100-continue":
            await self._stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        del self._data[: end + 4]
        while len(self._data) < size:
            await self._receive()
        body = bytes(self._data[:size])
        del self._data[:size]
        persistent = headers.get("connection", "").lower() != "close"
        return first, body, persistent and first.endswith("HTTP/1.1")

    async def _receive(self) -> None:
        more = await self._stream.receive_some()
        if not more:
            raise BadRequestError("the request was cut")
        self._data += more


async def handler(stream: TLSStream[trio.abc.Stream]) -> None:
    """Answer each request with its first line, and the size of its body."""
    connection = Connection(stream)
    while request := await connection.next_request():
        first, body, persistent = request
        answer = f"{first}, {len(body)} bytes\n"
        close = draining() or not persistent
        await stream.send_all(
            f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\n"
            f"Connection: {'close' if close else 'keep-alive'}\r\n\r\n{answer}".encode()
        )
        if close:
            return


async def main(certificate: str, key: str, port: int, notice: float) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with open_tls_nursery() as tls:
            server = await tls.start_server(handler, port, context, host="127.0.0.1")
            print("listening on port", server.addresses[0][1], flush=True)
            async for _ in signals:
                break
            await server.drain(grace=10, notice=notice)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
