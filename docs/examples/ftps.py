"""A small FTP server with TLS (RFC 4217) whose clients may leave TLS again.

They do so with CCC: after it, the control connection goes on in clear text, so that
firewalls can read it. The server sends close_notify and keeps the TCP connection. The
client should do the same, but some just go on in clear text, as ``curl --ftp-ssl-ccc``
(7.88.1) does by default. A server that waits for their close_notify would take ``PWD`` for
a TLS record, and lose it. So `Session.ccc` looks before it reads.

A file that is sent or received ends with close_notify, too: one that was cut is not stored.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, MutableMapping

import trio

from trio_tlsdown import ShutdownReport, TLSStream

# RFC 9846 section 5.1: an alert, which TLS 1.3 disguises as application data.
CLOSE_NOTIFY_BEGINS_WITH = {21, 23}


class Session:
    """The control connection of one client.

    Args:
      transport: The connection.
      context: Our certificate, for this connection and those of the data.
      files: What there is, by name.
      ended: Called with the report of each TLS session, and what it was for.
    """

    def __init__(
        self,
        transport: trio.SocketStream,
        context: ssl.SSLContext,
        files: MutableMapping[str, bytes],
        ended: Callable[[str, ShutdownReport], object],
    ) -> None:
        self.transport = transport
        self.context = context
        self.files = files
        self.ended = ended
        self.stream: trio.abc.Stream = transport
        self.unread = b""
        self.data: trio.SocketListener | None = None
        self.commands = {
            "AUTH": self.auth,
            "CCC": self.ccc,
            "EPSV": self.epsv,
            "NOOP": self.fine,
            "PASS": self.password,
            "PBSZ": self.fine,
            "PROT": self.fine,  # P is what it gets
            "PWD": self.pwd,
            "QUIT": self.quit,
            "RETR": self.retr,
            "SIZE": self.size,
            "STOR": self.stor,
            "TYPE": self.fine,
            "USER": self.user,
        }

    async def run(self) -> None:
        await self.reply("220 ready")
        line = await self.next_line()
        while line:
            name, _, argument = line.partition(" ")
            await self.commands.get(name.upper(), self.unknown)(argument)
            line = await self.next_line() if name.upper() != "QUIT" else ""

    async def next_line(self) -> str:
        while b"\n" not in self.unread:
            data = await self.stream.receive_some()
            if not data:
                return ""
            self.unread += data
        line, _, self.unread = self.unread.partition(b"\n")
        return line.decode("ascii").rstrip()

    async def reply(self, text: str) -> None:
        await self.stream.send_all(f"{text}\r\n".encode("ascii"))

    # Into TLS and out of it:

    async def auth(self, argument: str) -> None:
        if isinstance(self.stream, TLSStream):
            await self.reply("503 this is TLS already")
            return
        if self.unread:
            # It came in clear text, maybe from an attacker.
            raise ConnectionError(f"{len(self.unread)} bytes came ahead of TLS")
        await self.reply("234 go ahead")
        self.stream = TLSStream(self.transport, self.context, server_side=True)

    async def ccc(self, argument: str) -> None:
        if not isinstance(self.stream, TLSStream):
            await self.reply("533 this is clear text")
            return
        await self.reply("200 clear text from now on")
        await self.stream.shutdown(wait=False)  # SENT: ours has left
        next_one = await self.transport.socket.recv(1, socket.MSG_PEEK)
        if next_one and next_one[0] in CLOSE_NOTIFY_BEGINS_WITH:
            # It does as it should: take the exchange up again, to COMPLETE.
            _, self.unread = await self.stream.unwrap()
        self.ended("control", self.stream.report)
        self.stream = self.transport

    # Files:

    async def epsv(self, argument: str) -> None:
        host = self.transport.socket.getsockname()[0]
        [self.data] = await trio.open_tcp_listeners(0, host=host)
        port = self.data.socket.getsockname()[1]
        await self.reply(f"229 connect to (|||{port}|)")

    async def open_data(self) -> TLSStream[trio.SocketStream]:
        assert self.data is not None, "EPSV comes first"
        await self.reply("150 connect")
        async with self.data:
            transport = await self.data.accept()
        return TLSStream(transport, self.context, server_side=True)

    async def retr(self, name: str) -> None:
        async with await self.open_data() as data:
            await data.send_all(self.files[name])
            await data.shutdown()
        self.ended(name, data.report)
        await self.reply("226 sent")

    async def stor(self, name: str) -> None:
        content = bytearray()
        async with await self.open_data() as data:
            async for chunk in data:  # which raises if it was cut
                content += chunk
            await data.shutdown()
        self.ended(name, data.report)
        self.files[name] = bytes(content)
        await self.reply("226 stored")

    async def size(self, name: str) -> None:
        await self.reply(f"213 {len(self.files[name])}")

    # The rest:

    async def user(self, argument: str) -> None:
        await self.reply("331 and the password?")

    async def pwd(self, argument: str) -> None:
        await self.reply('257 "/"')

    async def fine(self, argument: str) -> None:
        await self.reply("200 fine")

    async def password(self, argument: str) -> None:
        await self.reply("230 welcome")

    async def quit(self, argument: str) -> None:
        await self.reply("221 goodbye")

    async def unknown(self, argument: str) -> None:
        await self.reply("502 not here")
