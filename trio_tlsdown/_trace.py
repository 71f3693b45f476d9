"""What happened on a connection, in order: for logs, and for drawing."""

from __future__ import annotations

import enum
from typing import Literal

import attrs


class TraceKind(enum.Enum):
    """The kinds of `TraceEvent`."""

    HANDSHAKE_DONE = "handshake done"
    BYTES_SENT = "bytes sent"
    BYTES_RECEIVED = "bytes received"
    CLOSE_NOTIFY_SENT = "close_notify sent"
    CLOSE_NOTIFY_RECEIVED = "close_notify received"
    FIN_RECEIVED = "FIN received"
    RESET_RECEIVED = "reset received"
    TLS_FAILED = "TLS failed"
    CANCELLED = "cancelled"
    UNWRAPPED = "unwrapped"
    TRANSPORT_CLOSED = "transport closed"


@attrs.frozen
class TraceEvent:
    """One thing that happened on a connection."""

    time: float
    """Seconds on Trio's clock."""

    side: Literal["client", "server"]
    """Which party saw it: the role of the stream that is traced."""

    kind: TraceKind
    """What it was."""

    size: int = 0
    """Bytes on the transport, for the two kinds that carry bytes."""
