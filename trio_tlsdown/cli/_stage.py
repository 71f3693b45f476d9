"""Two parties, connected over TCP on this machine, and what they see."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final, Literal, TypeAlias, get_args

import attrs
import trio

from trio_tlsdown import ShutdownPolicy, TLSStream, TraceKind
from trio_tlsdown.testing import NAME, client_context, server_context

from ._options import KEY_LOG, check_key_log
from ._record import Record, Side
from ._tls_words import words_of

Version: TypeAlias = Literal["1.2", "1.3"]
Party: TypeAlias = Literal["A", "B"]

VERSIONS: Final[tuple[Version, ...]] = get_args(Version)
SIDES: Final[dict[Party, Side]] = {"A": "client", "B": "server"}

LOOPBACK: Final = "127.0.0.1"

# Who closes only the transport does so as most stacks do: with a FIN.
POLICY: Final = ShutdownPolicy(reset_on_abort=False)


class CannotPlayError(Exception):
    """There is no stage on this machine: no TCP, or no such TLS version."""


@attrs.define(eq=False)
class Stage:
    """A connection that a scenario is played on, the handshake done.

    A is the client, B the server.
    """

    a: TLSStream[trio.SocketStream]
    b: TLSStream[trio.SocketStream]
    record: Record
    began: float
    """Seconds on Trio's clock: TCP stood, and the handshake began."""

    ports: dict[Party, int]
    surprises: list[str] = attrs.field(factory=list[str])
    """What went otherwise than the scenario has it."""

    def check(self, what: str, seen: object, wanted: object) -> None:
        """Note it if something is not what the scenario needs."""
        if seen != wanted:
            self.surprises.append(f"{what}: {seen!r}, not {wanted!r}")

    async def unwrap(self, party: Party) -> ClearParty:
        """Have a party take its transport back; its TLS is shut down already.

        Cancellation:
          As of `TLSStream.unwrap`.
        """
        stream, side = self.a if party == "A" else self.b, SIDES[party]
        transport, trailing = await stream.unwrap()
        self.check(f"what {party} received behind close_notify", trailing, b"")
        return ClearParty(transport, side, self.record)


@attrs.frozen
class ClearParty:
    """A party that goes on without TLS, on the TCP connection that it has."""

    transport: trio.SocketStream
    side: Side
    record: Record

    async def send(self, line: bytes) -> None:
        """Send a line.

        Cancellation:
          A part of it may have left.
        """
        await self.transport.send_all(line)
        self.record.note(self.side, TraceKind.BYTES_SENT, len(line))

    async def receive_line(self) -> bytes:
        r"""Receive up to the end of a line, or of the stream.

        Returns:
          The line, with its ``\n`` unless the stream ended; ``b""`` at the end.

        Cancellation:
          What came already is lost.
        """
        line = b""
        while not line.endswith(b"\n"):
            # A byte at a time: what follows the line is not ours to take.
            byte = await self.transport.receive_some(1)
            if not byte:
                self.record.note(self.side, TraceKind.FIN_RECEIVED)
                return line
            line += byte
        self.record.note(self.side, TraceKind.BYTES_RECEIVED, len(line))
        return line

    async def close(self) -> None:
        """Close TCP.

        Cancellation:
          It is closed all the same.
        """
        self.record.note(self.side, TraceKind.TRANSPORT_CLOSED)
        await self.transport.aclose()


@asynccontextmanager
async def open_stage(version: Version) -> AsyncGenerator[Stage, None]:
    """Connect A and B, and shake hands.

    Leaving closes what the scenario has left open.

    Args:
      version: The TLS version that both parties insist on.

    Raises:
      CannotPlayError: there is no TCP on the loopback interface, or no such TLS
        version in this OpenSSL.
    """
    try:
        client, server = _contexts(version)
        ours, theirs = await _connect()
    except (OSError, ValueError) as exc:
        raise CannotPlayError(exc) from exc
    record = Record()
    async with ours, theirs:
        stage = Stage(
            a=TLSStream(
                ours,
                client,
                server_hostname=NAME,
                policy=POLICY,
                trace=record.add,
            ),
            b=TLSStream(
                theirs, server, server_side=True, policy=POLICY, trace=record.add
            ),
            record=record,
            began=trio.current_time(),
            ports={
                "A": ours.socket.getsockname()[1],
                "B": theirs.socket.getsockname()[1],
            },
        )
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stage.a.do_handshake)
                nursery.start_soon(stage.b.do_handshake)
        except ExceptionGroup as exc:
            raise CannotPlayError(
                f"TLS {version}: {words_of(exc.exceptions[0])}"
            ) from exc
        stage.check("the TLS version", stage.a.version(), f"TLSv{version}")
        yield stage


def _contexts(version: Version) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    only = f"TLSv{version}"
    client = client_context(version=only)
    check_key_log()
    if log := os.environ.get(KEY_LOG):  # as ssl.create_default_context() does
        client.keylog_filename = log
    return client, server_context(version=only)


async def _connect() -> tuple[trio.SocketStream, trio.SocketStream]:
    [listener] = await trio.open_tcp_listeners(0, host=LOOPBACK)
    async with listener:
        port: int = listener.socket.getsockname()[1]
        client = await trio.open_tcp_stream(LOOPBACK, port)
        return client, await listener.accept()
