"""A TLS server on this machine, that tells how each connection ended."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import attrs
import trio

from trio_tlsdown import ShutdownPolicy, ShutdownReport, TLSListener, TLSStream

from ._certificates import NAME, client_context, server_context

LOOPBACK = "127.0.0.1"

Handler: TypeAlias = Callable[[TLSStream[trio.SocketStream]], Awaitable[object]]


@attrs.frozen
class LoopbackServer:
    """A TLS server that runs on this machine."""

    host: str
    port: int

    reports: list[ShutdownReport]
    """How each connection ended that has ended, in that order."""

    _context: ssl.SSLContext
    _ended: trio.lowlevel.ParkingLot

    async def connect(self) -> TLSStream[trio.SocketStream]:
        """A new client of it, with whom it has shaken hands.

        Cancellation:
          Nothing is left open.

        Raises:
          trio.BrokenResourceError: the handshake failed.
        """
        transport = await trio.open_tcp_stream(self.host, self.port)
        stream = TLSStream(transport, self._context, server_hostname=NAME)
        try:
            await stream.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return stream

    async def wait_reports(self, count: int = 1) -> list[ShutdownReport]:
        """Wait until *count* connections have ended, and give `reports`.

        A client that has closed is ahead of the server, which has yet to see it.

        Cancellation:
          Nothing is lost.
        """
        while len(self.reports) < count:
            await self._ended.park()
        return self.reports


async def echo(stream: TLSStream[Any]) -> None:
    """Send back what comes, until the peer has said all, or has gone."""
    try:
        async for chunk in stream:
            await stream.send_all(chunk)
    except trio.BrokenResourceError:
        pass  # the report has it


async def start_server(
    nursery: trio.Nursery,
    handler: Handler = echo,
    *,
    server: ssl.SSLContext | None = None,
    client: ssl.SSLContext | None = None,
    policy: ShutdownPolicy = ShutdownPolicy(),
) -> LoopbackServer:
    """Start a TLS server on a free port of this machine.

    Args:
      nursery: Where it runs. What a handler raises is raised there, as in
        `trio.serve_tcp`.
      handler: Gets each connection that has shaken hands; one that failed to is
        only in the reports. When it returns, the connection is closed with
        close_notify; when it raises, without. Default: `echo`.
      server: The server's context. Default: that of `server_context`.
      client: What `LoopbackServer.connect` uses. Default: that of
        `client_context`.
      policy: Of the server's streams.
    """
    reports: list[ShutdownReport] = []
    ended = trio.lowlevel.ParkingLot()

    async def handle(stream: TLSStream[trio.SocketStream]) -> None:
        try:
            async with stream:
                if await _shake_hands(stream):
                    await handler(stream)
        finally:
            reports.append(stream.report)
            ended.unpark_all()

    [listener] = await trio.open_tcp_listeners(0, host=LOOPBACK)
    port = listener.socket.getsockname()[1]
    await nursery.start(
        trio.serve_listeners,
        handle,
        [TLSListener(listener, server or server_context(), policy=policy)],
    )
    return LoopbackServer(LOOPBACK, port, reports, client or client_context(), ended)


async def _shake_hands(stream: TLSStream[Any]) -> bool:
    try:
        await stream.do_handshake()
    except trio.BrokenResourceError:
        return False
    return True
