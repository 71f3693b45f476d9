"""A lab: Twisted's protocols over TLS, on pyOpenSSL."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import twisted
from OpenSSL import SSL
from twisted.internet import ssl, task, threads
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.endpoints import (
    SSL4ClientEndpoint,
    SSL4ServerEndpoint,
    connectProtocol,
)
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from . import lines


@implementer(IHandshakeListener)
class Connection(Protocol):
    """What has come and was not read yet, and how it ended."""

    transport: Any

    def __init__(self, shaken: DeferredQueue[Connection]) -> None:
        self.data = bytearray()
        self.end: BaseException | None = None
        self._shaken = shaken
        self._happened: Deferred[None] = Deferred()

    def handshakeCompleted(self) -> None:  # noqa: N802 (Twisted's name)
        self._shaken.put(self)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self.data += data
        self._tell()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        self.end = reason.value
        self._tell()

    def _tell(self) -> None:
        happened, self._happened = self._happened, Deferred()
        happened.callback(None)

    async def take(self, size: int) -> bytes:
        """Receive some data; no bytes at the end."""
        while not self.data and not self.end:
            await self._happened
        data = bytes(self.data[:size])
        del self.data[:size]
        return data

    async def lost(self) -> None:
        while not self.end:
            await self._happened

    @property
    def error(self) -> BaseException | None:
        """The error that it ended with, if any."""
        if isinstance(self.end, ConnectionLost):
            return EOFError(*self.end.args)
        return None if isinstance(self.end, ConnectionDone) else self.end


class Lab:
    """One connection at a time; what a method returns is the answer."""

    it: Connection

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        certificate, key, ca = (Path(name).read_bytes() for name in sys.argv[-3:])
        self.server = ssl.PrivateCertificate.loadPEM(certificate + key).options()
        self.client = ssl.optionsForClientTLS(
            lines.SERVER_NAME, trustRoot=ssl.Certificate.loadPEM(ca)
        )
        self.shaken: DeferredQueue[Connection] = DeferredQueue()

    async def listen(self) -> int:
        endpoint = SSL4ServerEndpoint(
            self.reactor, 0, self.server, interface=lines.HOST
        )
        factory = Factory.forProtocol(partial(Connection, self.shaken))
        port: int = (await endpoint.listen(factory)).getHost().port
        return port

    async def accept(self) -> str:
        self.it = await self.shaken.get()
        self.count = lines.Count()
        version = self.it.transport.getHandle().get_protocol_version_name()
        return f"handshaken {version}"

    async def connect(self, port: str) -> str:
        endpoint = SSL4ClientEndpoint(self.reactor, lines.HOST, int(port), self.client)
        await connectProtocol(endpoint, Connection(self.shaken))
        return await self.accept()

    async def send(self, size: str) -> str:
        self.it.transport.write(self.count.stretch(size))
        return "sent"

    async def receive(self, size: str | None = None) -> str:
        self.count.expect(size)
        while self.count.left:
            self.count.came(await self.it.take(self.count.left))
        return self.count.answer(self.it.error)

    async def shutdown(self) -> str:
        """Twisted's close, which waits for the other's close_notify."""
        self.it.transport.loseConnection()
        await self.it.lost()
        return lines.end(0, self.it.error)

    async def close(self) -> str:
        await self.shutdown()
        return "done"

    async def close_transport(self) -> str:
        self.it.transport.transport.loseConnection()
        await self.it.lost()
        return "done"

    async def cut_inside(self) -> str:
        self.it.transport.transport.write(lines.PART_OF_A_RECORD)
        return await self.close_transport()

    async def reset(self) -> str:
        """Twisted has a call for it, which sends no close_notify."""
        self.it.transport.abortConnection()
        await self.it.lost()
        return "done"


async def main(reactor: Any) -> None:
    lab = Lab(reactor)
    openssl = SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode()
    lines.say(
        *("listening", await lab.listen()),
        *("Twisted", twisted.__version__, "with", openssl),
    )
    await lines.obey(lab, threads.deferToThread)


task.react(main)
