"""A lab: anyio's TLS streams, on asyncio."""

from __future__ import annotations

import ssl
from functools import partial
from importlib.metadata import version

import anyio
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSAttribute, TLSListener, TLSStream

from . import lines


class Lab:
    """One connection at a time; what a method returns is the answer."""

    stream: TLSStream

    def __init__(self) -> None:
        self.server, self.client = lines.contexts()
        self.accepted, self.arrived = anyio.create_memory_object_stream[TLSStream](1)

    async def accept(self) -> str:
        return self.begin(await self.arrived.receive())

    async def connect(self, port: str) -> str:
        return self.begin(
            await anyio.connect_tcp(
                lines.HOST,
                int(port),
                ssl_context=self.client,
                tls_hostname=lines.SERVER_NAME,
            )
        )

    def begin(self, stream: TLSStream) -> str:
        self.stream = stream
        self.count = lines.Count()
        return f"handshaken {stream.extra(TLSAttribute.tls_version)}"

    async def send(self, size: str) -> str:
        await self.stream.send(self.count.stretch(size))
        return "sent"

    async def receive(self, size: str | None = None) -> str:
        self.count.expect(size)
        try:
            while self.count.left:
                self.count.came(await self.stream.receive(self.count.left))
        except anyio.EndOfStream:
            self.count.came(b"")
        except anyio.BrokenResourceError as error:
            return self.count.answer(cause(error))
        return self.count.answer()

    async def shutdown(self) -> str:
        """anyio's close, which waits for the other's close_notify."""
        try:
            await self.stream.aclose()
        except anyio.BrokenResourceError as error:
            return lines.end(0, cause(error))
        return lines.end(0)

    async def close(self) -> str:
        await self.stream.aclose()
        return "done"

    async def close_transport(self) -> str:
        await self.stream.transport_stream.aclose()
        return "done"

    async def cut_inside(self) -> str:
        await self.stream.transport_stream.send(lines.PART_OF_A_RECORD)
        return await self.close_transport()

    async def reset(self) -> str:
        raw = self.stream.extra(SocketAttribute.raw_socket)
        lines.reset_when_closed(raw.fileno())
        return await self.close_transport()


def cause(error: anyio.BrokenResourceError) -> Exception:
    """The reason, which anyio puts there."""
    assert isinstance(error.__cause__, Exception)
    return error.__cause__


async def main() -> None:
    lab = Lab()
    listener = await anyio.create_tcp_listener(local_host=lines.HOST)
    port = listener.extra(SocketAttribute.local_port)
    lines.say(
        *("listening", port, "anyio", version("anyio"), "with", ssl.OPENSSL_VERSION)
    )
    serve = partial(TLSListener(listener, lab.server).serve, lab.accepted.send)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        await lines.obey(lab, anyio.to_thread.run_sync)
        tasks.cancel_scope.cancel()


anyio.run(main)
