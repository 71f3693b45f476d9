"""The accept loop: of the drop-in helpers, and of `TLSServer`."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Final, NoReturn, TypeAlias

import trio

from ._listener import TLSListener
from ._log import LOGGER
from ._stream import TLSStream

SocketTLSStream: TypeAlias = TLSStream[trio.SocketStream]
SocketTLSListener: TypeAlias = TLSListener[trio.SocketStream]

# accept(2): the process or the system has too much open, or too little memory.
# These pass; trio.serve_listeners waits for the same ones.
SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
SHORTAGE_SLEEP: Final = 0.1  # seconds


async def accept_connections(
    listener: SocketTLSListener,
    start: Callable[[SocketTLSStream], object],
    slots: trio.Semaphore | None = None,
) -> NoReturn:
    """Accept connections until cancelled, and close the listener then.

    Args:
      listener: Where they come from. Other tasks may accept from other ones into
        the same *slots*.
      start: Called with each stream, which is its own from then on. It must not
        take long: the handshake, too, belongs into a task of its own.
      slots: One is acquired for each connection; *start* sees to it that it is
        released. While there is none, connections wait in the kernel's backlog.
        Default: no limit.

    Cancellation:
      No connection is lost that was accepted.

    Raises:
      trio.ClosedResourceError: another task has closed the listener.
      OSError: accepting failed, and not for a shortage that may pass.
    """
    async with listener:
        while True:
            if slots is not None:
                await _wait_for_client_and_slot(listener, slots)
            try:
                stream = await _accept(listener)
            except BaseException:
                if slots is not None:
                    slots.release()
                raise
            try:
                start(stream)
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise


async def _wait_for_client_and_slot(
    listener: SocketTLSListener, slots: trio.Semaphore
) -> None:
    # No listener keeps a slot while nobody comes to it: another one may need it.
    assert isinstance(listener.transport_listener, trio.SocketListener)
    sock = listener.transport_listener.socket
    while True:
        if sock.fileno() == -1:  # since the last client came
            raise trio.ClosedResourceError("this listener was closed")
        await trio.lowlevel.wait_readable(sock)
        await slots.acquire()
        if sock.fileno() == -1 or sock.is_readable():
            return
        slots.release()


async def _accept(listener: SocketTLSListener) -> SocketTLSStream:
    waiting = False
    while True:
        try:
            return await listener.accept()
        except OSError as exc:
            if exc.errno not in SHORTAGES:
                raise
            if not waiting:
                waiting = True  # one line is enough, until it has passed
                LOGGER.error(
                    "cannot accept connections: %s; retrying every %g s",
                    os.strerror(exc.errno),
                    SHORTAGE_SLEEP,
                )
        await trio.sleep(SHORTAGE_SLEEP)
