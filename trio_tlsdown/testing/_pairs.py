"""Two TLSStreams that are connected."""

from __future__ import annotations

import ssl
from types import TracebackType
from typing import Generic, NamedTuple, Self, TypeAlias, TypeVar, Unpack

import trio

from trio_tlsdown import ShutdownPolicy, TLSStream

from ._certificates import (
    NAME,
    ContextOptions,
    check_context_options,
    client_context,
    server_context,
)
from ._endings import watch
from ._transports import MemoryTransport, abort, memory_transports, tcp_transports

T_Transport = TypeVar("T_Transport", bound=trio.abc.Stream)

Contexts: TypeAlias = tuple[ssl.SSLContext, ssl.SSLContext]


class TLSPair(NamedTuple, Generic[T_Transport]):
    """Two ends of one TLS connection.

    Unpack it, or use it as an async context manager, which aborts both ends if they are
    still open when the block is left::

        async with await memory_tls_pair() as (client, server):
            ...
    """

    client: TLSStream[T_Transport]
    server: TLSStream[T_Transport]

    async def __aenter__(self) -> Self:
        """Do nothing: the two are connected already."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Abort both ends, unless they are closed."""
        await abort(*self)  # noqa: ASYNC102  (shielded, and it does not wait)


async def memory_tls_pair(
    *,
    policy: ShutdownPolicy = ShutdownPolicy(),
    handshake: bool = True,
    **options: Unpack[ContextOptions],
) -> TLSPair[MemoryTransport]:
    """Create two TLSStreams, connected in memory.

    Args:
      policy: The policy of both streams.
      handshake: Do the handshake before returning. Default: True.
      **options: *version*, *alpn*, *client_certificate* and *ca*: see
        `ContextOptions`.

    Cancellation:
      Both are closed.

    Raises:
      TypeError: an argument has the wrong type, or an option is unknown.
      ValueError: *version* is unknown.
    """
    # Options that are wrong are so before anything is open.
    check_context_options(memory_tls_pair, options)
    contexts = client_context(**options), server_context(**options)
    transports = memory_transports()
    return await wrap_pair(transports, contexts, policy, handshake=handshake)


async def tcp_tls_pair(
    host: str = "127.0.0.1",
    *,
    policy: ShutdownPolicy = ShutdownPolicy(),
    handshake: bool = True,
    **options: Unpack[ContextOptions],
) -> TLSPair[trio.SocketStream]:
    """Create two TLSStreams, connected over TCP on this machine.

    Args:
      host: ``"127.0.0.1"`` or ``"::1"``.
      policy: The policy of both streams.
      handshake: Do the handshake before returning. Default: True.
      **options: *version*, *alpn*, *client_certificate* and *ca*: see
        `ContextOptions`.

    Cancellation:
      Both are closed.

    Raises:
      TypeError: an argument has the wrong type, or an option is unknown.
      ValueError: *version* is unknown.
      OSError: this machine has no such address.
    """
    check_context_options(tcp_tls_pair, options)
    contexts = client_context(**options), server_context(**options)
    transports = await tcp_transports(host)
    return await wrap_pair(transports, contexts, policy, handshake=handshake)


async def wrap_pair(
    transports: tuple[T_Transport, T_Transport],
    contexts: Contexts,
    policy: ShutdownPolicy = ShutdownPolicy(),
    *,
    handshake: bool = True,
) -> TLSPair[T_Transport]:
    """Create two TLSStreams over connected transports: client, then server.

    Args:
      transports: The client's, then the server's.
      contexts: The same for SSL contexts. The client asks for ``"localhost"``.
      policy: The policy of both streams.
      handshake: Do the handshake before returning. Default: True.

    Cancellation:
      The transports are closed.

    Raises:
      ExceptionGroup: the handshake failed; it has the errors of both ends. The
        transports are closed.
    """
    ours, theirs = transports
    try:
        pair = TLSPair(
            TLSStream(ours, contexts[0], server_hostname=NAME, policy=policy),
            TLSStream(theirs, contexts[1], server_side=True, policy=policy),
        )
        watch(*pair)
        if handshake:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pair.client.do_handshake)
                nursery.start_soon(pair.server.do_handshake)
    except BaseException:
        await abort(ours, theirs)  # noqa: ASYNC102  (likewise)
        raise
    return pair
