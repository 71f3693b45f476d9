"""Accepting connections: TLSListener, the accept loop, and the end of the backlog."""

from __future__ import annotations

import errno
import math
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, TypeAlias, final

import trio

from trio_tlsdown._core.report import ShutdownPolicy
from trio_tlsdown._errors import host_and_port
from trio_tlsdown._stream.stream import T_Stream, TLSStream
from trio_tlsdown._util import LOGGER, check_context, check_type


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
        check_context(ssl_context, server_side=True)
        check_type("https_compatible", https_compatible, bool)
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
# The type of its transports is known to whoever opened a listener, not to us.
Handler: TypeAlias = Callable[[TLSStream[Any]], Awaitable[object]]
AnyListener: TypeAlias = trio.abc.Listener[Any]

# accept(2): the process or the system has too much open, or too little memory.
# These pass; trio.serve_listeners waits for the same ones.
SHORTAGE_ERRNOS: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
)
SHORTAGE_SLEEP: Final = 0.1  # seconds

# accept(2): "errors already pending on the new socket", to be taken for no connection.
# Trio's SocketListener skips the same ones; not every system has all of them.
PENDING_ERRNOS: Final = frozenset(
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

CLOSED_ERRNOS: Final = frozenset({errno.EBADF, errno.ENOTSOCK})  # the latter on Windows

# How long we take clients from the backlog of a listener that we did not open, in seconds:
# other processes may accept from the same socket, which is then never empty for long.
BACKLOG_TIME: Final = 0.5
# How long one accept() may take then. It returns at once, unless another process was
# faster, or the listener cannot tell whether a client is waiting.
ACCEPT_TIME: Final = 0.05


class Shortage:
    """Descriptors or memory have run out: one line in the log, until it has passed.

    Args:
      make_room: Called before each further try. Default: only wait until others have
        closed something.

    Attributes:
      lasts: Whether no client has been accepted since.
    """

    def __init__(self, make_room: Callable[[], object] | None = None) -> None:
        self._make_room = make_room
        self.lasts = False

    async def wait(self, number: int) -> None:
        """Make room, and wait for a while before the next try."""
        if not self.lasts:
            self.lasts = True
            LOGGER.error(
                "cannot accept connections: %s; retrying every %g s",
                os.strerror(number),
                SHORTAGE_SLEEP,
            )
        if self._make_room is not None:
            self._make_room()
        await trio.sleep(SHORTAGE_SLEEP)

    def over(self) -> None:
        """A client was accepted."""
        self.lasts = False


async def accept_connections(
    listener: AnyListener,
    start: Callable[[Any, str], object],
    *,
    wait_for_room: Callable[[AnyListener], Awaitable[object]] | None = None,
    shortage: Shortage | None = None,
) -> None:
    """Accept connections until cancelled; the listener stays open.

    Args:
      listener: Where they come from.
      start: Called with each transport and the name of its peer, for logs. It must
        return promptly; run the handshake in a separate task.
      wait_for_room: Awaited before each accept; meanwhile clients wait in the kernel's
        backlog. Default: accept without a limit.
      shortage: What to do when descriptors or memory have run out. Default: wait.

    Cancellation:
      No accepted connection is lost.

    Raises:
      trio.ClosedResourceError: another task has closed the listener.
      OSError: accepting failed for another reason than a temporary shortage.
    """
    shortage = shortage or Shortage()
    while True:
        if wait_for_room is not None:
            await wait_for_room(listener)
        await _accept(listener, start, shortage)


async def accept_backlog(
    listener: AnyListener,
    start: Callable[[Any, str], object],
    *,
    shortage: Shortage,
    exclusive: bool,
) -> None:
    """Accept all clients that are waiting; close the listener right afterwards.

    A client that came in between would be reset, so await nothing in between.

    Args:
      listener: Where they come from.
      start: As for `accept_connections`.
      shortage: As for `accept_connections`.
      exclusive: Whether no other process can accept from the same socket.

    Raises:
      trio.ClosedResourceError: somebody has closed the listener.
    """
    check_listening(listener)
    sock = listener.socket if isinstance(listener, trio.SocketListener) else None
    if exclusive and sock is not None:
        # From now on the kernel drops SYNs while clients wait, so this ends under any
        # load. Such a client tries again in a second, and is refused then.
        # Not for a shared socket: its processes share the backlog.
        sock.listen(0)
    with trio.move_on_after(math.inf if exclusive else BACKLOG_TIME):
        while sock is None or sock.is_readable():
            with trio.move_on_after(ACCEPT_TIME) as scope:
                await _accept(listener, start, shortage)
            if scope.cancelled_caught and sock is None and not shortage.lasts:
                return


async def wait_for_client(listener: AnyListener) -> None:
    """Wait until there is a client to accept, if the listener can tell."""
    check_listening(listener)  # it may have been closed since the last client came
    if isinstance(listener, trio.SocketListener):
        await trio.lowlevel.wait_readable(listener.socket)


def check_listening(listener: AnyListener) -> None:
    """Raise `trio.ClosedResourceError` if a listener is known to be closed."""
    if isinstance(listener, trio.SocketListener) and listener.socket.fileno() == -1:
        raise trio.ClosedResourceError(f"{listener!r} was closed")


def address_of(listener: AnyListener) -> object:
    """Where a listener listens; None if it is no `trio.SocketListener`."""
    if isinstance(listener, trio.SocketListener):
        address: object = listener.socket.getsockname()
        return address
    return None


async def _accept(
    listener: AnyListener, start: Callable[[Any, str], object], shortage: Shortage
) -> None:
    transport, peer = await _accept_one(listener, shortage)
    shortage.over()
    try:
        start(transport, peer)
    except BaseException:
        await trio.aclose_forcefully(transport)
        raise


async def _accept_one(
    listener: AnyListener, shortage: Shortage
) -> tuple[trio.abc.Stream, str]:
    while True:
        try:
            if not isinstance(listener, trio.SocketListener):
                transport = await listener.accept()
                return transport, _name_of_peer(transport)
            # Not SocketListener.accept(): it does not return the peer's address, and
            # getpeername() fails once the peer has sent RST.
            sock, address = await listener.socket.accept()
            return trio.SocketStream(sock), _name_of_address(sock, address)
        except OSError as exc:
            if exc.errno in PENDING_ERRNOS:
                continue
            if exc.errno in CLOSED_ERRNOS:
                raise trio.ClosedResourceError("this listener was closed") from None
            if exc.errno not in SHORTAGE_ERRNOS:
                raise
            number = exc.errno
        # Linux says so even if there is nobody to accept.
        await wait_for_client(listener)
        await shortage.wait(number)


def _name_of_peer(transport: trio.abc.Stream) -> str:
    if isinstance(transport, trio.SocketStream):
        with suppress(OSError):  # it has disconnected
            sock = transport.socket
            return _name_of_address(sock, sock.getpeername())
    return f"a client over {type(transport).__name__}"


def _name_of_address(sock: trio.socket.SocketType, address: Any) -> str:
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        return host_and_port(*address[:2])
    # Clients of a Unix socket seldom have an address. Use the server's, as nginx does.
    name = address or sock.getsockname()
    if isinstance(name, bytes):  # Linux: the abstract namespace
        name = os.fsdecode(name).replace("\0", "@")
    return (
        f"{socket.AddressFamily(sock.family).name.removeprefix('AF_').lower()}:{name}"
    )
