"""asyncio's streams."""

from __future__ import annotations

import asyncio
import platform
import ssl
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

from benchmarks.clock import Lap, Stopwatch

from .interface import DEFAULT_READ, Connection, Laps, Orders, PythonPeer

EVERY_CONNECTION: Final = 2**16  # of a backlog; the kernel has a limit of its own

CANNOT: Final = {"half-close": "can_write_eof() is False for TLS"}


async def shut_down(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


async def connect(host: str, port: int, context: ssl.SSLContext) -> Connection:
    reader, writer = await asyncio.open_connection(host, port, ssl=context)

    async def send(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    return Connection(
        send=send,
        receive=partial(reader.read, DEFAULT_READ),
        receive_at_most=reader.read,
        shutdown=lambda: shut_down(writer),
        close=lambda: shut_down(writer),
    )


async def hold(host: str, context: ssl.SSLContext, orders: Orders) -> Lap:
    writers: list[asyncio.StreamWriter] = []

    async def handler(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writers.append(writer)
        while data := await reader.read(DEFAULT_READ):
            writer.write(data)
            await writer.drain()

    server = await asyncio.start_server(
        handler, host, 0, ssl=context, backlog=EVERY_CONNECTION
    )
    orders.listening(server.sockets[0].getsockname()[1])
    await asyncio.to_thread(orders.wait_for_end)
    watch = Stopwatch()
    server.close()
    await asyncio.gather(*[shut_down(writer) for writer in writers])
    await server.wait_closed()
    await asyncio.sleep(0)  # wait_closed() ends a turn before sockets are closed
    return watch.lap()


def run(main: Callable[[], Coroutine[Any, Any, Laps]]) -> Laps:
    return asyncio.run(main())


PEER = PythonPeer(
    version=f"Python {platform.python_version()}",
    run=run,
    connect=connect,
    hold=hold,
    cannot=CANNOT,
)
