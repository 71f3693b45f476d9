"""asyncio's protocols, which are called with the data, and told when to wait.

They are faster than its streams, which copy the data once more, and on uvloop allocate a
buffer for each read.
"""

from __future__ import annotations

import asyncio
import platform
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from .interface import Accept, Connection, Control, PythonPeer, T

BACKLOG: Final = 2**16  # the kernel has a limit of its own
BUFFER_SIZE: Final = 2**18  # bytes of one read, and bytes that wait to be read

CANNOT: Final = {
    "half-close": "can_write_eof() is False for TLS",
    "connect-resumed": "no call takes a session",
}

# One for all connections: each copies at once what was read for it.
_buffer = memoryview(bytearray(BUFFER_SIZE))


class Protocol(asyncio.BufferedProtocol):
    """What clients and servers have in common."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.closed: asyncio.Future[Exception | None] = (
            asyncio.get_running_loop().create_future()
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _buffer

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(exc)


class Client(Protocol):
    def __init__(self, opened: Callable[[Client], object] | None = None) -> None:
        super().__init__()
        self._opened = opened
        self._received: deque[memoryview] = deque()
        self._size = 0
        self._stopped = False
        self._ended = False
        self._failure: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._opened is not None:
            self._opened(self)

    def buffer_updated(self, nbytes: int) -> None:
        self._received.append(memoryview(bytes(_buffer[:nbytes])))
        self._size += nbytes
        if self._size >= BUFFER_SIZE and not self._stopped:
            self._stopped = True
            self.transport.pause_reading()
        self._wake_reader()

    def eof_received(self) -> None:
        self._ended = True
        self._wake_reader()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._failure = exc
        self.eof_received()
        self.resume_writing()

    def _wake_reader(self) -> None:
        if self._reader is not None:
            self._reader.set_result(None)
            self._reader = None

    def pause_writing(self) -> None:
        self._writer = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._writer is not None:
            self._writer.set_result(None)
            self._writer = None

    async def send(self, data: bytes) -> None:
        self.transport.write(data)
        if self._writer is not None:
            await self._writer

    async def receive(self, size: int = BUFFER_SIZE) -> memoryview:
        if not self._received and not self._ended:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        if not self._received:
            if self._failure is not None:
                raise self._failure
            return memoryview(b"")
        data = self._received.popleft()
        if len(data) > size:
            self._received.appendleft(data[size:])
            data = data[:size]
        self._size -= len(data)
        if self._stopped and self._size < BUFFER_SIZE:
            self._stopped = False
            self.transport.resume_reading()
        return data

    async def close(self) -> None:
        self.transport.close()
        if (failure := await self.closed) is not None:
            raise failure

    async def abort(self) -> None:
        self.transport.abort()
        await self.closed


def connection(client: Client) -> Connection:
    return Connection(
        send=client.send,
        receive=client.receive,
        receive_at_most=client.receive,
        shutdown=client.close,  # it waits for the peer's close_notify
        close=client.close,
        abort=client.abort,
        fileno=lambda: client.transport.get_extra_info("socket").fileno(),
        version=lambda: client.transport.get_extra_info("ssl_object").version(),
    )


async def connect(
    host: str, port: int, context: ssl.SSLContext, server_hostname: str | None = None
) -> Connection:
    _, client = await asyncio.get_running_loop().create_connection(
        Client, host, port, ssl=context, server_hostname=server_hostname
    )
    return connection(client)


@asynccontextmanager
async def listen(
    host: str, context: ssl.SSLContext
) -> AsyncIterator[tuple[int, Accept]]:
    opened: asyncio.Queue[Client] = asyncio.Queue()
    server = await asyncio.get_running_loop().create_server(
        lambda: Client(opened.put_nowait), host, 0, ssl=context
    )

    async def accept() -> Connection:
        return connection(await opened.get())

    yield server.sockets[0].getsockname()[1], accept
    server.close()


class Echo(Protocol):
    def __init__(self, connections: list[Echo]) -> None:
        super().__init__()
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connections.append(self)

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(_buffer[:nbytes]))

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


async def serve(host: str, context: ssl.SSLContext, control: Control) -> None:
    connections: list[Echo] = []
    server = await asyncio.get_running_loop().create_server(
        lambda: Echo(connections), host, 0, ssl=context, backlog=BACKLOG
    )
    control.listening(server.sockets[0].getsockname()[1])
    await asyncio.to_thread(control.wait_for_stop)
    server.close()
    for each in connections:
        each.transport.close()
    for each in connections:
        await each.closed
    await server.wait_closed()
    # wait_closed() returns one turn before the sockets are closed.
    await asyncio.sleep(0)


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return asyncio.run(main())


PEER = PythonPeer(
    version=f"asyncio {platform.python_version()}",
    run=run,
    connect=connect,
    listen=listen,
    serve=serve,
    in_thread=asyncio.to_thread,
    cannot=CANNOT,
)
