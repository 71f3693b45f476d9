"""Peers that end a connection badly, on purpose."""

from __future__ import annotations

import ssl
from types import TracebackType
from typing import Any, Final, Literal, NoReturn, TypeAlias, Unpack, get_args

import attrs
import trio

from trio_tlsdown import ShutdownPolicy, TLSStream

from ._behaviours import behaviour
from ._certificates import (
    NAME,
    ContextOptions,
    check_context_options,
    client_context,
    server_context,
)
from ._endings import watch
from ._options import check_choice, check_type
from ._scripted import ScriptedPeer
from ._transports import abort, memory_transports, tcp_transports

Transport: TypeAlias = Literal["memory", "tcp"]

FINISH_TIMEOUT: Final = 5.0  # seconds


class RoguePeer(ScriptedPeer):
    """A peer with one bad habit, as client or as server.

    Args:
      name: The habit: a key of `BEHAVIOURS`.
      transport: Any stream that can half-close.
      server_side: Whether this is the server. Default: True.
      hears: Number of bytes of plaintext to wait for before doing anything.
      says: Plaintext to send after that, before misbehaving.
      **options: *version*, *alpn*, *client_certificate* and *ca*: see
        `ContextOptions`.

    Raises:
      TypeError: an argument has the wrong type, or an option is unknown.
      ValueError: *name* or *version* is unknown; the message lists the known ones.
    """

    def __init__(
        self,
        name: str,
        transport: trio.abc.Stream,
        *,
        server_side: bool = True,
        hears: int = 0,
        says: bytes = b"",
        **options: Unpack[ContextOptions],
    ) -> None:
        self.behaviour: Final = behaviour(name)
        _check_words(hears, says)
        super().__init__(transport, server_side=server_side, **options)
        self._hears = hears
        self._says = says
        self._misbehaving = trio.CancelScope()
        self._finished = trio.Event()

    def __repr__(self) -> str:
        """Name the habit."""
        return f"{super().__repr__()[:-1]}, who does {self.behaviour.name}>"

    async def run(self) -> None:
        """Do the handshake, send *says*, misbehave, keep reading, close.

        It returns when the other end has gone or failed.

        Cancellation:
          The transport is closed at once.
        """
        try:
            with self._misbehaving:
                await self._misbehave()
            await self.hear_to_end()
        except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
            pass  # one of the ends went, or broke it off
        finally:
            self.forget_key_log()  # there may have been no handshake
            # ASYNC102: shielded, and it does not wait.
            await abort(self.transport)  # noqa: ASYNC102
            self._finished.set()

    async def finish(self) -> None:
        """Misbehave no more: read on until the other end has gone, as it must."""
        self._misbehaving.cancel()
        await self._finished.wait()

    async def _misbehave(self) -> None:
        if not self.behaviour.in_handshake:
            await self.handshake()
            await self.hear(self._hears)
            await self.send(self.encrypt(self._says))
        await self.behaviour.script(self)


def _check_words(hears: int, says: bytes) -> None:
    check_type("hears", hears, int)
    if hears < 0:
        raise ValueError(f"hears must be >= 0 bytes, not {hears!r}")
    check_type("says", says, bytes)


@attrs.frozen
class RogueConnection:
    """A `TLSStream` whose peer is a `RoguePeer`.

    As an async context manager it returns the stream, and ends it as
    ``async with stream:`` does. Afterwards the peer has seen everything, unless the
    stream was unwrapped: then the transport is yours to close.
    """

    stream: TLSStream[Any]
    peer: RoguePeer

    async def __aenter__(self) -> TLSStream[Any]:
        """Give the stream."""
        return self.stream

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the stream if the block ended normally, otherwise abort it."""
        try:
            # ASYNC102: it knows itself how to close when cancelled.
            await self.stream.__aexit__(  # noqa: ASYNC102
                exc_type, exc_value, traceback
            )
        finally:
            if self.stream.transport_stream is not None:
                # The stream is closed: what is left is short.
                with trio.move_on_after(FINISH_TIMEOUT, shield=True):
                    await self.peer.finish()


async def connect_rogue(
    nursery: trio.Nursery,
    name: str,
    *,
    server_side: bool = True,
    transport: Transport = "memory",
    hears: int = 0,
    says: bytes = b"",
    policy: ShutdownPolicy = ShutdownPolicy(),
    https_compatible: bool = False,
    context: ssl.SSLContext | None = None,
    **options: Unpack[ContextOptions],
) -> RogueConnection:
    """Connect a new TLSStream, before its handshake, to a rogue peer.

    Args:
      nursery: The nursery in which the peer runs.
      name: What it does: a key of `BEHAVIOURS`.
      server_side: Whether the peer is the server. Default: True.
      transport: ``"memory"`` or ``"tcp"``. Default: memory.
      hears: As for `RoguePeer`.
      says: As for `RoguePeer`.
      policy: The policy of the stream.
      https_compatible: As for `TLSStream`.
      context: The context of the stream. Default: one that fits the peer.
      **options: *version*, *alpn*, *client_certificate* and *ca*: see
        `ContextOptions`.

    Cancellation:
      Nothing is left open.

    Raises:
      TypeError: an argument has the wrong type, or an option is unknown.
      ValueError: *name*, *version* or *transport* is unknown; the message lists the
        known ones.
    """
    check_context_options(connect_rogue, options)
    check_type("nursery", nursery, trio.Nursery)
    check_choice("transport", transport, get_args(Transport))
    ours, theirs = (
        memory_transports() if transport == "memory" else await tcp_transports()
    )
    try:
        peer = RoguePeer(
            name, theirs, server_side=server_side, hears=hears, says=says, **options
        )
        if context is None:
            context = (client_context if server_side else server_context)(**options)
        stream = TLSStream[Any](
            ours,
            context,
            server_hostname=NAME if server_side else None,
            server_side=not server_side,
            policy=policy,
            https_compatible=https_compatible,
        )
    except BaseException:
        await abort(ours, theirs)  # noqa: ASYNC102  (likewise)
        raise
    watch(stream, peer)
    nursery.start_soon(peer.run)
    return RogueConnection(stream, peer)


async def serve_rogue(  # noqa: ASYNC114  (how flake8-async is to know it)
    name: str,
    *,
    port: int = 0,
    host: str = "127.0.0.1",
    hears: int = 0,
    says: bytes = b"",
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
    **options: Unpack[ContextOptions],
) -> NoReturn:
    """Run a rogue server, for clients of any kind, until cancelled.

    Args:
      name: What it does: a key of `BEHAVIOURS`.
      port: The TCP port. Default: any free one.
      host: The local address to listen on. Default: ``"127.0.0.1"``.
      hears: As for `RoguePeer`: wait for a request of at least this many bytes.
      says: As for `RoguePeer`: the answer to it.
      task_status: Is given ``(host, port)`` once it listens.
      **options: *version*, *alpn*, *client_certificate* and *ca*: see
        `ContextOptions`.

    Raises:
      TypeError: an argument has the wrong type, or an option is unknown.
      ValueError: *name* or *version* is unknown; the message lists the known ones.
      OSError: the address is in use or not permitted.
    """
    # What is wrong is told now, not at the first client.
    behaviour(name)
    _check_words(hears, says)
    check_context_options(serve_rogue, options)

    async def handle(transport: trio.SocketStream) -> None:
        await RoguePeer(name, transport, hears=hears, says=says, **options).run()

    listeners = await trio.open_tcp_listeners(port, host=host)
    task_status.started(listeners[0].socket.getsockname()[:2])
    await trio.serve_listeners(handle, listeners)
