"""Programs that terminate TLS in front of a plain TCP server, which a test plays."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, Literal, TypeAlias

import attrs
import trio

from harness.process import Program, running
from tests.support import NAME, client_context
from trio_tlsdown import ShutdownReport, TLSStream
from trio_tlsdown.testing._transports import reset_when_closed

from . import we
from .endings import Saw
from .rows import RealProgram, Remark
from .servers import HOST, connect, key_and_certificate, reserved_port

Event: TypeAlias = Literal[
    "the server behind closes",
    "the server behind resets",
    "we shut down",
    "we half-close",
    "we cut",
    "we cut a record",
    "we reset",
    "we close without waiting",
    "it shuts down, we cut",
    "it half-closes",
    "8 MiB to it",
    "8 MiB from it",
    "it is killed",
    "it is killed inside a record",
    "it is killed before it reads",
]

# How each has to end: a cell of `endings.TABLE` for us; FIN or RST for the server behind,
# which knows only TCP. It follows from
#
# - RFC 9846 section 6.1 and RFC 5246 section 7.2.1: each party sends a close_notify
#   before it closes its write side;
# - RFC 9846 section 6.1: that does not end the other direction;
# - the purpose of close_notify (the same sections): a cut must not pass for the end
#   of the data. So a connection that breaks on one side has to break on the other:
#   a FIN says "that is all", a RST does not.
ASKED: Final[Mapping[Event, str]] = {
    "the server behind closes": "3B",
    "the server behind resets": "1A reset",
    "we shut down": "3A",
    "we half-close": "3A",
    "we cut": "RST",
    "we cut a record": "RST",
    "we reset": "RST",
    "we close without waiting": "4A",
    "it shuts down, we cut": "2B",
    "it half-closes": "3B",
    "8 MiB to it": "3A",
    "8 MiB from it": "3B",
    "it is killed": "1A",
    "it is killed inside a record": "1A",
    "it is killed before it reads": "2A reset",
}

# These end alike, whatever came before.
ALIKE: Final[Mapping[Event, Event]] = {
    "8 MiB to it": "we shut down",
    "8 MiB from it": "the server behind closes",
}

NOWHERE: Final = Path(os.devnull)
GREETING: Final = b"220 ready"


@attrs.frozen
class Deviation:
    """What a program does instead, and a link to its documentation or source."""

    ending: str
    remark: Remark


@attrs.frozen
class Site:
    """What a program's configuration needs."""

    folder: Path
    """For its files."""

    pem: Path
    """Its key and certificate."""

    port: int
    """Where it listens for TLS."""

    behind: int
    """The port of the plain server."""


@attrs.frozen(eq=False)
class Kind:
    """A program, and how it was set up."""

    program: RealProgram
    command: Callable[[Site], tuple[str, ...]]
    """Write its configuration; return the command that runs it as one process."""

    deviations: Mapping[Event, Deviation]
    """Where it differs from what is `ASKED`."""

    half_closes: bool = True
    """Whether the answer of the server behind to a half-close arrives."""

    drops_an_answer: Remark | None = None
    """Why our answer to a half-close does not arrive."""

    stalls_in_a_record: bool = True
    """Whether it writes until the kernel takes no more, in the middle of a record, too."""

    @property
    def name(self) -> str:
        return self.program.name

    def ended(
        self, tls: str, event: Event, report: ShutdownReport, saw: Saw = Saw.NOTHING
    ) -> None:
        """Record it."""
        deviation = self.deviation(event)
        remark = deviation.remark if deviation else None
        self.program.ended(tls, event, report, saw, remark)

    def deviation(self, event: Event) -> Deviation | None:
        alike = ALIKE.get(event, event)
        return self.deviations.get(event) or self.deviations.get(alike)

    def ending(self, event: Event) -> str:
        deviation = self.deviation(event)
        return deviation.ending if deviation else ASKED[event]


@attrs.frozen
class Front:
    """A connection to the program, past the handshake."""

    ours: we.Stream
    program: Program
    behind: trio.SocketListener
    """Where the plain server accepts."""


@asynccontextmanager
async def front(
    command: Callable[[Site], tuple[str, ...]],
    version: str,
    folder: Path,
    secrets: Path = NOWHERE,
    client: str = HOST,
) -> AsyncIterator[Front]:
    """Start the program, and connect to it.

    Args:
      command: That of a `Kind`.
      version: The TLS version.
      folder: For its files.
      secrets: A key log, for a capture.
      client: Our address, for a capture, too.
    """
    context = client_context(version)
    context.keylog_filename = str(secrets)
    [listener] = await trio.open_tcp_listeners(0, host=HOST)
    with reserved_port() as port:
        behind = listener.socket.getsockname()[1]
        site = Site(folder, key_and_certificate(folder), port, behind)
        async with (
            listener,
            running(*command(site)) as program,
            TLSStream(
                await connect(port, program, client), context, server_hostname=NAME
            ) as ours,
        ):
            await ours.do_handshake()
            yield Front(ours, program, listener)


@attrs.frozen
class Tunnel:
    """A connection through the program to the plain server."""

    ours: we.Stream
    program: Program
    server: trio.SocketStream
    """The plain server's end."""


@asynccontextmanager
async def tunnel(
    kind: Kind,
    version: str,
    folder: Path,
    secrets: Path = NOWHERE,
    client: str = HOST,
) -> AsyncIterator[Tunnel]:
    async with (
        front(kind.command, version, folder, secrets, client) as result,
        await result.behind.accept() as server,
    ):
        # A client that closes with unread session tickets, which come before all data,
        # sends a RST, even where a FIN is meant.
        await server.send_all(GREETING)
        assert await result.ours.receive_some() == GREETING
        yield Tunnel(result.ours, result.program, server)


async def all_from(stream: trio.abc.ReceiveStream) -> bytes:
    """Receive everything before the end, however it ends."""
    data = bytearray()
    with suppress(trio.BrokenResourceError):
        async for chunk in stream:
            data += chunk
    return bytes(data)


async def the_server_closes(through: Tunnel) -> None:
    await through.server.aclose()
    assert await all_from(through.ours) == b""
    await through.ours.shutdown()


async def the_server_resets(through: Tunnel) -> None:
    reset_when_closed(through.server)
    await the_server_closes(through)


async def we_shut_down(through: Tunnel) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(through.ours.shutdown)
        assert await all_from(through.server) == b""
        await through.server.aclose()


async def we_half_close(through: Tunnel) -> None:
    """Every program can do that on both versions of TLS, or on neither."""
    await through.ours.send_eof(allow_tls12=True)
    assert await all_from(through.server) == b""
    await through.server.aclose()
    await through.ours.shutdown()


ENDINGS: Final[Mapping[Event, Callable[[Tunnel], Awaitable[None]]]] = {
    "the server behind closes": the_server_closes,
    "the server behind resets": the_server_resets,
    "we shut down": we_shut_down,
    "we half-close": we_half_close,
}
