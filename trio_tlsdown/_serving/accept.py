"""Accepting connections: the listener, the loop, and what is called with each."""

from __future__ import annotations

import errno
import os
import ssl
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, final

import trio

from trio_tlsdown._core.report import ShutdownPolicy
from trio_tlsdown._errors import host_and_port
from trio_tlsdown._stream.stream import T_Stream, TLSStream
from trio_tlsdown._util import LOGGER, check_type


@final
class TLSListener(trio.abc.Listener[TLSStream[T_Stream]]):
    """Wraps what another listener accepts in server-side `TLSStream`.

    Takes the place of `trio.SSLListener`. The handshake is not done in
    `accept`, but by the stream's first use.

    Args:
      transport_listener: Where connections come from.
      ssl_context: The server's context.
      https_compatible: As for `TLSStream`. Default: False.
      policy: As for `TLSStream`.
    """

    def __init__(
        self,
        transport_listener: trio.abc.Listener[T_Stream],
        ssl_context: ssl.SSLContext,
        *,
        https_compatible: bool = False,
        policy: ShutdownPolicy = ShutdownPolicy(),
    ) -> None:
        check_type("transport_listener", transport_listener, trio.abc.Listener)
        check_type("ssl_context", ssl_context, ssl.SSLContext)
        check_type("policy", policy, ShutdownPolicy)
        self.transport_listener = transport_listener
        self._ssl_context = ssl_context
        self._https_compatible = https_compatible
        self._policy = policy

    async def accept(self) -> TLSStream[T_Stream]:
        """Accept a connection.

        Cancellation:
          Nothing is lost.
        """
        return TLSStream(
            await self.transport_listener.accept(),
            self._ssl_context,
            server_side=True,
            https_compatible=self._https_compatible,
            policy=self._policy,
        )

    async def aclose(self) -> None:
        """Close the transport listener; accepted streams stay open."""
        await self.transport_listener.aclose()


# It has the whole interface, and programs ask by isinstance().
trio.SSLListener.register(TLSListener)


SocketTLSStream: TypeAlias = TLSStream[trio.SocketStream]
Handler: TypeAlias = Callable[[SocketTLSStream], Awaitable[object]]
Start: TypeAlias = Callable[[trio.SocketStream, str], object]

# accept(2): the process or the system has too much open, or too little memory.
# These pass; trio.serve_listeners waits for the same ones.
SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
SHORTAGE_SLEEP: Final = 0.1  # seconds

# accept(2): "errors already pending on the new socket", to be taken for no connection.
# Trio's SocketListener skips the same ones; not every system has all of them.
PENDING_ERRORS: Final = frozenset(
    getattr(errno, name)
    for name in (
        "ECONNABORTED",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "ENETDOWN",
        "ENETUNREACH",
        "ENONET",
        "ENOPROTOOPT",
        "EOPNOTSUPP",
        "EPERM",  # a firewall
        "EPROTO",
    )
    if hasattr(errno, name)
)

CLOSED: Final = frozenset({errno.EBADF, errno.ENOTSOCK})  # the latter on Windows


async def accept_connections(
    listener: trio.SocketListener,
    start: Start,
    wait_for_room: Callable[[trio.SocketListener], Awaitable[object]] | None = None,
) -> None:
    """Accept connections until cancelled; the listener stays open.

    Args:
      listener: Where they come from.
      start: Called with each connection and the address of its peer, for logs. It
        must return promptly; run the handshake in a separate task.
      wait_for_room: Awaited before the next client is accepted; until then it waits
        in the kernel's backlog. Default: there is always room.

    Cancellation:
      No connection is lost that was accepted.

    Raises:
      trio.ClosedResourceError: another task has closed the listener.
      OSError: accepting failed, and not for a shortage that may pass.
    """
    while True:
        if wait_for_room is not None:
            await wait_for_room(listener)
        await _accept(listener.socket, start)


async def accept_backlog(listener: trio.SocketListener, start: Start) -> None:
    """Accept all that the kernel has completed; close the listener right behind it.

    A connection that came between the two would be reset, so nothing must be awaited
    in between.

    Args:
      listener: Where they come from.
      start: As for `accept_connections`.
    """
    # From now on the kernel drops a client's SYN while others wait, so this comes to
    # an end under any load. The client tries again in a second, and is refused then.
    listener.socket.listen(0)
    while listener.socket.is_readable():
        await _accept(listener.socket, start)


async def wait_for_client(listener: trio.SocketListener) -> None:
    """Wait until there is one to accept, so that no room is kept for nobody."""
    if listener.socket.fileno() == -1:  # since the last client came
        raise trio.ClosedResourceError("this listener was closed")
    await trio.lowlevel.wait_readable(listener.socket)


async def _accept(listening: trio.socket.SocketType, start: Start) -> None:
    transport, peer = await _accept_one(listening)
    try:
        start(transport, peer)
    except BaseException:
        await trio.aclose_forcefully(transport)
        raise


async def _accept_one(
    listening: trio.socket.SocketType,
) -> tuple[trio.SocketStream, str]:
    # Not by SocketListener.accept(): it keeps the address to itself, and nobody can
    # ask for that of a peer that has sent RST.
    short = False
    while True:
        try:
            sock, address = await listening.accept()
        except OSError as exc:
            if exc.errno in PENDING_ERRORS:
                continue
            if exc.errno in CLOSED:
                raise trio.ClosedResourceError("this listener was closed") from None
            if exc.errno not in SHORTAGES:
                raise
            if not short:
                short = True  # one line is enough, until it has passed
                LOGGER.error(
                    "cannot accept connections: %s; retrying every %g s",
                    os.strerror(exc.errno),
                    SHORTAGE_SLEEP,
                )
        else:
            return trio.SocketStream(sock), host_and_port(*address[:2])
        await trio.sleep(SHORTAGE_SLEEP)
