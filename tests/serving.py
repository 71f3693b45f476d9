"""Servers on this machine, clients of them, and what must not be left of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import trio
import trio.testing

from trio_tlsdown import (
    ShutdownPolicy,
    TLSListener,
    TLSNursery,
    TLSServer,
    TLSStream,
    open_tls_nursery,
)
from trio_tlsdown.testing import RoguePeer

from .support import CA, NAME, client_context, descriptors, server_context

HOST = "127.0.0.1"

Stream: TypeAlias = TLSStream[trio.SocketStream]
Handler: TypeAlias = Callable[[Stream], Any]


def tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """No descriptor and no task may outlive the block."""
    before = descriptors()
    running = tasks()
    yield
    assert descriptors() <= before
    assert tasks() == running


@asynccontextmanager
async def serving(
    version: str,
    handler: Handler,
    policy: ShutdownPolicy = ShutdownPolicy(),
    **options: Any,
) -> AsyncIterator[tuple[TLSNursery, TLSServer]]:
    """A nursery with a server in it; nothing is left of it afterwards."""
    async with nothing_left():
        async with open_tls_nursery(policy) as tls:
            server = await tls.start_server(
                handler, 0, server_context(version), host=HOST, **options
            )
            yield tls, server


def port_of(server: TLSServer | list[TLSListener[trio.SocketStream]]) -> int:
    if isinstance(server, TLSServer):
        [(_, port)] = server.addresses
    else:
        [listener] = server
        assert isinstance(listener.transport_listener, trio.SocketListener)
        _, port = listener.transport_listener.socket.getsockname()
    assert isinstance(port, int)
    return port


async def client_of(
    port: int, version: str, *, handshake: bool = True, **options: Any
) -> Stream:
    """A client, which has shaken hands."""
    transport = await trio.open_tcp_stream(HOST, port)
    stream = TLSStream(
        transport, client_context(version), server_hostname=NAME, **options
    )
    if handshake:
        await stream.do_handshake()
    return stream


async def rogue_of(
    port: int,
    nursery: trio.Nursery | TLSNursery,
    name: str,
    version: str,
) -> RoguePeer:
    """A client that misbehaves."""
    transport = await trio.open_tcp_stream(HOST, port)
    peer = RoguePeer(name, transport, server_side=False, version=version, ca=CA)
    nursery.start_soon(peer.run)
    return peer


async def what_it_sees(stream: TLSStream[Any]) -> str:
    """How a connection ended for one that reads it to its end."""
    try:
        async for _ in stream:
            pass
    except trio.BrokenResourceError:
        return stream.report.outcome.value
    finally:
        await trio.aclose_forcefully(stream)
    return "close_notify"


async def until(condition: Callable[[], object]) -> None:
    """Let the others run until it holds; for what is not announced."""
    with trio.fail_after(60):
        while not condition():  # noqa: ASYNC110 - there is no event for it
            await trio.sleep(0.01)
