"""A TLS server on this machine, that tells how each connection ended."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import attrs
import trio

from trio_tlsdown import (
    ShutdownPolicy,
    ShutdownReport,
    TLSNursery,
    TLSServer,
    TLSStream,
    open_tls_nursery,
)

from ._certificates import NAME, client_context, server_context
from ._options import check_handler, check_options, check_type, keywords

LOOPBACK: Final = "127.0.0.1"

Stream: TypeAlias = TLSStream[trio.SocketStream]
Handler: TypeAlias = Callable[[Stream], Awaitable[object]]
OnError: TypeAlias = Callable[[Exception, Stream], object]


@attrs.frozen
class LoopbackServer:
    """A `TLSServer` that runs on this machine."""

    server: TLSServer
    """The server itself, to drain it for instance."""

    host: str
    port: int

    reports: list[ShutdownReport]
    """The reports of the connections that have ended, in this order."""

    errors: list[Exception]
    """What handshakes and handlers raised, as passed to *on_error*, in this order."""

    _tls: TLSNursery = attrs.field(repr=False)
    _context: ssl.SSLContext = attrs.field(repr=False)
    _ended: trio.lowlevel.ParkingLot = attrs.field(repr=False)

    async def connect(self) -> TLSStream[trio.SocketStream]:
        """Connect a new client, and do the handshake.

        If it is still open when the server's nursery ends, it is aborted.

        Cancellation:
          Nothing is left open.

        Raises:
          ConnectFailedError: the server no longer listens, because it has drained.
          trio.BrokenResourceError: the handshake failed.
          RuntimeError: the server's nursery is over.
        """
        return await self._tls.connect(
            self.host, self.port, ssl_context=self._context, server_hostname=NAME
        )

    async def wait_reports(self, count: int = 1) -> list[ShutdownReport]:
        """Wait until *count* connections have ended, and return `reports`.

        When a client has closed, the server may not have noticed yet.

        Cancellation:
          Nothing is lost.
        """
        while len(self.reports) < count:
            await self._ended.park()
        return self.reports


class _Reports(trio.abc.Instrument):
    """Collects the report of each connection when the task that served it exits.

    A `TLSServer` ends the connection after the handler has returned or raised, so
    the handler never sees the final report.
    """

    def __init__(self) -> None:
        self.reports: list[ShutdownReport] = []
        self.ended = trio.lowlevel.ParkingLot()
        self._streams: dict[trio.lowlevel.Task, Stream] = {}

    def add(self, stream: Stream) -> None:
        """Note that the calling task serves *stream*."""
        self._streams[trio.lowlevel.current_task()] = stream

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        stream = self._streams.pop(task, None)
        if stream is not None:
            self.reports.append(stream.report)
            self.ended.unpark_all()


async def echo(stream: TLSStream[Any]) -> None:
    """Send everything back, until the peer has finished or is gone."""
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
    host: str = LOOPBACK,
    on_error: OnError | None = None,
    **options: Any,
) -> LoopbackServer:
    """Start a `TLSServer` on a free port of this machine.

    `TLSNursery.start_server` starts it, so a handler that raises aborts its connection,
    the exception is logged, and the test goes on. `LoopbackServer.errors` has what was
    raised.

    Args:
      nursery: The nursery it runs in. Cancelling this aborts all connections.
      handler: An async function, called with each stream after its handshake. Default:
        `echo`.
      server: The server's context. Default: one from `server_context`.
      client: The context of `LoopbackServer.connect`. Default: one from
        `client_context`.
      policy: The policy of both sides.
      host: ``"127.0.0.1"`` or ``"::1"``. Default: ``"127.0.0.1"``.
      on_error: As for `TLSNursery.start_server`.
      **options: Any other option of `TLSNursery.start_server`, such as
        *https_compatible*, *max_connections* or *handshake_timeout*.

    Cancellation:
      Nothing is left open.

    Raises:
      TypeError: an argument has the wrong type, or an option is unknown.
      OSError: this machine has no such address.
    """
    check_options(start_server, options, keywords(TLSNursery.start_server))
    check_type("nursery", nursery, trio.Nursery)
    check_handler(handler)
    if client is None:
        client = client_context()
    check_type("client", client, ssl.SSLContext)
    reports = _Reports()
    errors: list[Exception] = []

    async def handle(stream: Stream) -> None:
        reports.add(stream)
        await handler(stream)

    def failed(error: Exception, stream: Stream) -> None:
        reports.add(stream)
        errors.append(error)
        if on_error is not None:
            on_error(error, stream)

    tls: TLSNursery = await nursery.start(_open_tls_nursery, policy, reports)
    try:
        running = await tls.start_server(
            handle,
            0,
            server_context() if server is None else server,
            host=host,
            on_error=failed,
            **options,
        )
    except BaseException:
        tls.cancel_scope.cancel()
        raise
    [address] = running.addresses
    return LoopbackServer(
        running,
        host,
        address[1],
        reports.reports,
        errors,
        tls,
        client,
        reports.ended,
    )


async def _open_tls_nursery(  # noqa: ASYNC114  (nobody else starts it)
    policy: ShutdownPolicy,
    reports: _Reports,
    *,
    task_status: trio.TaskStatus[TLSNursery],
) -> None:
    trio.lowlevel.add_instrument(reports)
    try:
        async with open_tls_nursery(policy) as tls:
            task_status.started(tls)
            await trio.sleep_forever()
    finally:
        trio.lowlevel.remove_instrument(reports)
