"""The standard library's blocking ssl.SSLSocket.

Coroutines that never wait wrap its calls, so that the workloads are the same.
"""

from __future__ import annotations

import platform
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

from .interface import DEFAULT_READ, Connection, PythonPeer, T


async def connect(
    host: str,
    port: int,
    context: ssl.SSLContext,
    session: ssl.SSLSession | None = None,
) -> Connection:
    raw = socket.create_connection((host, port))
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock = context.wrap_socket(raw, server_hostname=host, session=session)

    async def send(data: bytes) -> None:
        sock.sendall(data)

    async def receive() -> bytes:
        return sock.recv(DEFAULT_READ)

    async def receive_at_most(size: int) -> bytes:
        return sock.recv(size)

    async def shut_down() -> None:
        sock.unwrap().close()

    async def close() -> None:
        sock.close()

    return Connection(
        send=send,
        receive=receive,
        receive_at_most=receive_at_most,
        shutdown=shut_down,
        close=close,
        abort=close,  # it sends no close_notify
        session=lambda: sock.session,
    )


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    coroutine = main()
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("a call that blocks has awaited")  # pragma: no cover


PEER = PythonPeer(
    version=f"Python {platform.python_version()}, {ssl.OPENSSL_VERSION}",
    run=run,
    connect=connect,
    cannot={
        "half-close": "unwrap() waits for the peer's close_notify, and reads no data",
        "server": "a blocking server needs a thread for each connection",
    },
)
