"""A lab: asyncio's streams, on the loop that the first argument names."""

from __future__ import annotations

import asyncio
import importlib
import os
import platform
import ssl
import sys
from contextlib import suppress

from . import lines


class Lab:
    """One connection at a time; what a method returns is the answer."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def __init__(self) -> None:
        self.to_serve, self.to_ask = lines.contexts()
        self.accepted: asyncio.Queue[
            tuple[asyncio.StreamReader, asyncio.StreamWriter]
        ] = asyncio.Queue()

    async def listen(self) -> int:
        server = await asyncio.start_server(
            lambda *pair: self.accepted.put_nowait(pair),
            lines.HOST,
            0,
            ssl=self.to_serve,
        )
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def accept(self) -> str:
        return self.begin(*await self.accepted.get())

    async def connect(self, port: str) -> str:
        return self.begin(
            *await asyncio.open_connection(
                lines.HOST,
                int(port),
                ssl=self.to_ask,
                server_hostname=lines.SERVER_NAME,
            )
        )

    def begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        self.reader, self.writer = reader, writer
        self.count = lines.Count()
        return f"handshaken {writer.get_extra_info('ssl_object').version()}"

    async def send(self, size: str) -> str:
        self.writer.write(self.count.stretch(size))
        await self.writer.drain()
        return "sent"

    async def receive(self, size: str | None = None) -> str:
        self.count.expect(size)
        try:
            while self.count.left:
                self.count.came(await self.reader.read(self.count.left))
        except OSError as error:
            return self.count.answer(error)
        return self.count.answer()

    async def shutdown(self) -> str:
        """asyncio's close, which waits for the other's close_notify."""
        self.writer.close()
        closed = self.writer.wait_closed()
        [error] = await asyncio.gather(closed, return_exceptions=True)
        return lines.end(0, error)

    async def close(self) -> str:
        await self.shutdown()
        return "done"

    async def close_transport(self) -> str:
        self.writer.transport.abort()
        with suppress(OSError):
            await self.writer.wait_closed()
        return "done"

    async def cut_inside(self) -> str:
        os.write(self.fd(), lines.PART_OF_A_RECORD)
        return await self.close_transport()

    async def reset(self) -> str:
        lines.reset_when_closed(self.fd())
        return await self.close_transport()

    def fd(self) -> int:
        number: int = self.writer.get_extra_info("socket").fileno()
        return number


async def main(version: str) -> None:
    lab = Lab()
    lines.say("listening", await lab.listen(), version, "with", ssl.OPENSSL_VERSION)
    await lines.obey(lab)


loop = importlib.import_module(sys.argv[1])
version = getattr(loop, "__version__", platform.python_version())
loop.run(main(f"{sys.argv[1]} {version}"))
