"""The four scenarios with OpenSSL as the peer.

It comes as the standard library's blocking `ssl.SSLSocket`, which can play every
part, and as ``openssl s_server`` and ``openssl s_client``.

What has to come out was written before the first run, from

- RFC 9846 section 6.1: each party sends a close_notify before it closes its
  write side, unless it has sent a fatal alert; a transport that ends without one
  may have been cut, and that must not pass for an end of data; nobody has to
  wait for the other's alert before closing.
- RFC 5246 section 7.2.1, for TLS 1.2: the same, and the other party answers with
  a close_notify of its own.
- TCP: closing a socket with unread input sends a RST instead of a FIN.
- `ShutdownOutcome`.
"""

from __future__ import annotations

import enum
import hashlib
import random
import ssl
from collections.abc import Awaitable, Callable
from typing import Literal, TypeAlias

import attrs
import pytest
import trio

from tests.support import Maker
from trio_tlsdown import (
    ShutdownOutcome,
    ShutdownReport,
    TLSStream,
    TransportBrokenError,
)

from .blocking import (
    Thread,
    blocking_peer,
    receive_all,
    receive_exactly,
    reset,
    send_close_notify,
    wait_until_readable,
)
from .openssl import Name, OpenSSL, alerts, stop
from .programs import Program

Stream: TypeAlias = TLSStream[trio.SocketStream]

# What to expect:


class Saw(enum.Enum):
    """How the connection ended for an SSLSocket."""

    NOTHING = "it closed without looking"
    CLOSE_NOTIFY = "a clean end"
    CUT = "a FIN without close_notify"
    RESET = "a RST"


SENT = ">>> close_notify"
RECEIVED = "<<< close_notify"


@attrs.frozen
class Ending:
    """One row: our report, and what the peer saw."""

    outcome: ShutdownOutcome
    close_notify_sent: bool
    close_notify_received: bool
    first: Literal["local", "peer"] | None
    secure: bool
    peer_saw: Saw
    peer_alerts: list[str] | None  # of a program; None: none can play that part


O = ShutdownOutcome  # noqa: E741
