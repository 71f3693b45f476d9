"""`openssl s_server` and `openssl s_client` as peers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, TypeAlias

import attrs
import trio

from harness.process import Program, running
from tests.support import NAME, client_context, server_context
from trio_tlsdown import TLSStream

from .servers import certificate_authority, connect, key_and_certificate, reserved_port

Name: TypeAlias = Literal["s_server", "s_client"]

# What -msg prints of an alert, such as
# "<<< TLS 1.3, Alert [length 0002], warning close_notify".
ALERT = re.compile(
    rb"^(<<<|>>>) TLS 1\.[23], Alert \[length 0002\], \w+ (\w+)", re.MULTILINE
)


def alerts(program: Program) -> list[str]:
    """The alerts that it sent (``>>>``) and received (``<<<``), in order."""
    return [
        f"{way.decode()} {what.decode()}" for way, what in ALERT.findall(program.log)
    ]


@attrs.frozen
class OpenSSL:
    """Starts ``openssl`` as a peer.

    Attributes:
      path: The program.
      folder: For the PEM files that it needs.
    """

    path: str
    folder: Path

    @asynccontextmanager
    async def peer(
        self, name: Name, version: str, *options: str
    ) -> AsyncIterator[tuple[TLSStream[trio.SocketStream], Program]]:
        """A TLSStream and the program, once both have finished the handshake."""
        start = self._s_server if name == "s_server" else self._s_client
        flags = (
            {"TLSv1.2": "-tls1_2", "TLSv1.3": "-tls1_3"}[version],
            # Not mixed with the data on standard output.
            *("-msg", "-msgfile", "/dev/stderr"),
            *options,
        )
        async with start(version, flags) as (stream, program), stream:
            await stream.do_handshake()
            await program.says("<<< .* Finished", ">>> .* Finished")
            yield stream, program

    @asynccontextmanager
    async def _s_server(
        self, version: str, flags: tuple[str, ...]
    ) -> AsyncIterator[tuple[TLSStream[trio.SocketStream], Program]]:
        pem = key_and_certificate(self.folder)
        with reserved_port() as port:
            async with running(
                *(self.path, "s_server", "-accept", f"127.0.0.1:{port}"),
                *("-naccept", "1", "-cert", str(pem), *flags),
            ) as program:
                # It prints its port only without -quiet.
                transport = await connect(port, program)
                yield (
                    TLSStream(transport, client_context(version), server_hostname=NAME),
                    program,
                )

    @asynccontextmanager
    async def _s_client(
        self, version: str, flags: tuple[str, ...]
    ) -> AsyncIterator[tuple[TLSStream[trio.SocketStream], Program]]:
        pem = certificate_authority(self.folder)
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        async with (
            listener,
            running(
                *(self.path, "s_client", "-connect", f"127.0.0.1:{port}"),
                *("-CAfile", str(pem), "-verify_return_error"),
                *("-servername", NAME, "-verify_hostname", NAME, *flags),
            ) as program,
        ):
            transport = await listener.accept()
            yield (
                TLSStream(transport, server_context(version), server_side=True),
                program,
            )
