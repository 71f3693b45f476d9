"""TLS streams from a listener of transports."""

from __future__ import annotations

import ssl
from typing import final

import trio

from ._check import check_type
from ._shutdown import ShutdownPolicy
from ._stream import T_Stream, TLSStream


@final
class TLSListener(trio.abc.Listener[TLSStream[T_Stream]]):
    """Wraps what another listener accepts in server-side `TLSStream`.

    Takes the place of `trio.SSLListener`. The handshake is not done in
    `accept`, but by the stream's first use.

    Args:
      transport_listener: Where connections come from.
      ssl_context: The server's context.
      https_compatible: As for `TLSStream`. Default: False.
      policy: As for `TLSStream`.
    """

    def __init__(
        self,
        transport_listener: trio.abc.Listener[T_Stream],
        ssl_context: ssl.SSLContext,
        *,
        https_compatible: bool = False,
        policy: ShutdownPolicy = ShutdownPolicy(),
    ) -> None:
        check_type("transport_listener", transport_listener, trio.abc.Listener)
        check_type("ssl_context", ssl_context, ssl.SSLContext)
        check_type("policy", policy, ShutdownPolicy)
        self.transport_listener = transport_listener
        self._ssl_context = ssl_context
        self._https_compatible = https_compatible
        self._policy = policy

    async def accept(self) -> TLSStream[T_Stream]:
        """Accept a connection.

        Cancellation:
          Nothing is lost.
        """
        return TLSStream(
            await self.transport_listener.accept(),
            self._ssl_context,
            server_side=True,
            https_compatible=self._https_compatible,
            policy=self._policy,
        )

    async def aclose(self) -> None:
        """Close the transport listener; accepted streams stay open."""
        await self.transport_listener.aclose()


# It has the whole interface, and programs ask by isinstance().
trio.SSLListener.register(TLSListener)
