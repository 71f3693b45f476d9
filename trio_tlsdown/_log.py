"""What is logged, by the name that users filter by."""

from __future__ import annotations

import logging
from typing import Final

import trio

LOGGER: Final = logging.getLogger("trio_tlsdown")


def peer_of(transport: trio.SocketStream) -> str:
    """The peer's address, for a log; ask while it is connected."""
    try:
        address = transport.socket.getpeername()
    except OSError:  # it has gone already
        return "somebody who has gone"
    if isinstance(address, tuple) and ":" in address[0]:
        return f"[{address[0]}]:{address[1]}"
    return f"{address[0]}:{address[1]}"
