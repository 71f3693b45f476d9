"""A lab: one of `harness.peers`, which the first argument names."""

from __future__ import annotations

import os
import ssl
import sys

from harness.peers import load
from harness.peers.interface import Accept, Connection, PythonPeer

from . import lines


class Lab:
    """One connection at a time; what a method returns is the answer."""

    connection: Connection

    def __init__(
        self, peer: PythonPeer, context: ssl.SSLContext, accept: Accept
    ) -> None:
        self._peer = peer
        self._context = context
        self._accept = accept

    async def accept(self) -> str:
        return self.begin(await self._accept())

    async def connect(self, port: str) -> str:
        assert self._peer.connect is not None
        return self.begin(
            await self._peer.connect(
                *(lines.HOST, int(port), self._context),
                server_hostname=lines.SERVER_NAME,
            )
        )

    def begin(self, connection: Connection) -> str:
        self.connection = connection
        self.count = lines.Count()
        assert connection.version is not None
        return f"handshaken {connection.version()}"

    async def send(self, size: str) -> str:
        await self.connection.send(self.count.stretch(size))
        return "sent"

    async def receive(self, size: str | None = None) -> str:
        self.count.expect(size)
        while self.count.left:
            try:
                data = await self.connection.receive_at_most(self.count.left)
            except Exception as error:  # noqa: BLE001 (any error is an answer)
                if not isinstance(error, self._peer.end or ()):
                    return self.count.answer(cause(error))
                data = b""
            self.count.came(bytes(data))
        return self.count.answer()

    async def shutdown(self) -> str:
        try:
            await self.connection.shutdown()
        except Exception as error:  # noqa: BLE001 (any error is an answer)
            return lines.end(0, cause(error))
        return lines.end(0)

    async def close(self) -> str:
        await self.connection.close()
        return "done"

    async def close_transport(self) -> str:
        assert self.connection.abort is not None
        await self.connection.abort()
        return "done"

    async def cut_inside(self) -> str:
        os.write(self.fileno(), lines.PART_OF_A_RECORD)
        return await self.close_transport()

    async def reset(self) -> str:
        lines.reset_when_closed(self.fileno())
        return await self.close_transport()

    def fileno(self) -> int:
        assert self.connection.fileno is not None
        return self.connection.fileno()


def cause(error: Exception) -> BaseException:
    """The reason, where an error of the implementation's own has one."""
    return error.__cause__ or error


async def main() -> None:
    server, client = lines.contexts()
    assert peer.listen is not None
    assert peer.in_thread is not None
    async with peer.listen(lines.HOST, server) as (port, accept):
        lines.say("listening", port, peer.version, "with", ssl.OPENSSL_VERSION)
        await lines.obey(Lab(peer, client, accept), peer.in_thread)


peer = load(sys.argv[1])
peer.run(main)
