"""What a peer has done, as far as it can be told without waiting."""

from __future__ import annotations

import enum


class PeerState(enum.Enum):
    """What `TLSStream.peer_state_nowait` tells."""

    IDLE = "idle"
    """It has sent nothing that was not read, and has not ended."""

    DATA_WAITING = "data waiting"
    """It has sent application data: `TLSStream.receive_some` returns at once. On an
    idle connection of a pool that is an answer to nothing: do not use it."""

    CLOSED = "closed"
    """It has sent close_notify, and all that it sent before was read."""

    BROKEN = "broken"
    """The transport ended without close_notify, or failed, or TLS failed; or it is silent,
    and a send of ours was cut: nothing can follow that."""

    UNKNOWN = "unknown"
    """It cannot be told without waiting: the transport is no socket and has no
    ``receive_some_nowait``, or the peer sends on and on what is no data."""
