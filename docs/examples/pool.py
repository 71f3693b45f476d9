"""A connection pool that looks at the peer before it uses a connection again."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from trio_tlsdown import PeerState, TLSNursery, TLSStream


class Pool:
    """Idle connections to one server. The nursery ends them all."""

    def __init__(
        self, tls: TLSNursery, host: str, port: int, context: ssl.SSLContext
    ) -> None:
        self._tls = tls
        self._host = host
        self._port = port
        self._context = context
        self._idle: list[TLSStream[trio.SocketStream]] = []

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[TLSStream[trio.SocketStream]]:
        """Lend a connection. After an error, it is not used again."""
        stream = await self._take()
        try:
            yield stream
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        self._idle.append(stream)

    async def _take(self) -> TLSStream[trio.SocketStream]:
        while self._idle:
            stream = self._idle.pop()
            # That a socket is readable means nothing: it may be a session ticket.
            if stream.peer_state_nowait() is PeerState.IDLE:
                return stream
            await stream.aclose()
        return await self._tls.connect(
            self._host, self._port, ssl_context=self._context
        )
