"""The standard library's blocking ssl.SSLSocket.

Its calls are in coroutines that never wait, so that the workloads are the same.
"""

from __future__ import annotations

import platform
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

from .interface import DEFAULT_READ, Connection, Laps, PythonPeer


async def connect(host: str, port: int, context: ssl.SSLContext) -> Connection:
    raw = socket.create_connection((host, port))
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock = context.wrap_socket(raw, server_hostname=host)

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
    )


def run(main: Callable[[], Coroutine[Any, Any, Laps]]) -> Laps:
    coroutine = main()
    try:
        coroutine.send(None)
    except StopIteration as end:
        laps: Laps = end.value
        return laps
    raise AssertionError("a blocking call does not wait for a loop")


PEER = PythonPeer(
    version=f"Python {platform.python_version()}, {ssl.OPENSSL_VERSION}",
    run=run,
    connect=connect,
    cannot={
        "half-close": "unwrap() waits for the peer's close_notify, and reads no data",
        "hold": "a blocking server needs a thread for each connection",
    },
)
