"""A limit on the connections of each address.

A client beyond the limit is refused before its handshake, which would cost far more.
Connections in their handshake do not count: `max_handshakes` and `handshake_timeout` limit
those.
"""

import signal
import ssl
import sys
from collections import Counter
from collections.abc import Awaitable, Callable

import trio

from trio_tlsdown import TLSStream, open_tls_nursery, receive_until_drain

Stream = TLSStream[trio.SocketStream]


class TooManyError(Exception):
    """This address has as many connections as it may have."""


class PerAddress:
    """Counts the connections of each address.

    Pass both its `prepare` and its `handler` to the server.
    """

    def __init__(
        self, most: int, handler: Callable[[Stream], Awaitable[object]]
    ) -> None:
        self._most = most
        self._handler = handler
        self.open: Counter[str] = Counter()

    async def prepare(self, transport: trio.SocketStream) -> None:
        self._check(transport.socket.getpeername()[0])
        await trio.lowlevel.checkpoint()

    async def handler(self, stream: Stream) -> None:
        address = stream.transport_stream.socket.getpeername()[0]
        self._check(address)  # again: several may have arrived at the same time
        self.open[address] += 1
        try:
            await self._handler(stream)
        finally:
            self.open[address] -= 1
            if not self.open[address]:
                del self.open[address]

    def _check(self, address: str) -> None:
        if self.open[address] >= self._most:
            raise TooManyError(f"{address} has {self._most} connections")


async def echo(stream: Stream) -> None:
    while request := await receive_until_drain(stream):
        await stream.send_all(request)


async def main(certificate: str, key: str, port: int, most: int) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    limit = PerAddress(most, echo)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with open_tls_nursery() as tls:
            server = await tls.start_server(
                limit.handler, port, context, host="127.0.0.1", prepare=limit.prepare
            )
            print("listening on port", server.addresses[0][1], flush=True)
            async for _ in signals:
                break
            await server.drain(grace=10)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
