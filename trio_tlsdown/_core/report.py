"""How a connection ended: the policy, the outcome, the report, and the trace."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Literal

import attrs

from trio_tlsdown._util import check_seconds

if TYPE_CHECKING:
    from typing import Any


class ShutdownOutcome(enum.Enum):
    """How a TLS connection ended, or has ended so far.

    Only facts decide it: which close_notify alerts crossed, and what the
    transport and the TLS layer did.
    """

    OPEN = "open"
    """Nothing of ours has ended yet."""

    COMPLETE = "complete"
    """Both close_notify alerts crossed. Final, secure."""

    SENT = "sent"
    """Ours went out and we did not wait for the peer's. Secure.

    A later `TLSStream.shutdown` takes the exchange up again, until the stream
    is closed.
    """

    ABORTED = "aborted"
    """Closed, cancelled, or out of time or space, before both alerts crossed.

    Secure only if ours was sent. A later `TLSStream.shutdown` takes the
    exchange up again, until the stream is closed.
    """

    TRUNCATED = "truncated"
    """The transport ended without the peer's close_notify. Final.

    Data may be missing: the peer vanished, or an attacker cut the connection.
    """

    RESET = "reset"
    """The transport failed (ECONNRESET, EPIPE, ...). Final.

    With `ShutdownReport.peer_data_complete` all of the peer's data was there before:
    what may be missing is only at the peer, of ours.
    """

    FAILED = "failed"
    """TLS itself failed: fatal alert, bad record, handshake refused. Final."""

    @property
    def broken(self) -> bool:
        """Whether something failed, so that the report has an error."""
        return (
            self is ShutdownOutcome.TRUNCATED
            or self is ShutdownOutcome.RESET
            or self is ShutdownOutcome.FAILED
        )

    @property
    def final(self) -> bool:
        """Whether nothing can change it any more, even while the stream is open."""
        return self is ShutdownOutcome.COMPLETE or self.broken


def _seconds(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    check_seconds(attribute.name, value)


def _bytes(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{attribute.name} must be a number of bytes, not {value!r}")
    if value < 0:
        raise ValueError(f"{attribute.name} must be >= 0 bytes, not {value!r}")


@attrs.frozen(kw_only=True)
class ShutdownPolicy:
    """How much an ending may cost, given once to a stream.

    Any other deadline is a cancel scope of the caller's.

    Raises:
      TypeError: a field is not a number.
      ValueError: a field is negative or NaN.
    """

    timeout: float = attrs.field(default=5.0, validator=_seconds)
    """Seconds for the whole exchange: sending our close_notify (and the
    handshake, if there was none yet), then waiting for the peer's. `math.inf`
    waits for ever; 0 sends only what closing can send without waiting. The default
    is that of Go (sending) and swift-nio-ssl (both)."""

    linger_timeout: float = attrs.field(default=2.0, validator=_seconds)
    """Seconds that closing may wait until the peer's kernel has what was sent.
    0: do not wait."""

    max_unread: int = attrs.field(default=2**20, validator=_bytes)
    """How much unread application data, in bytes, a shutdown may keep while no task
    receives. One read may overshoot it, by up to 512 KiB. Default: 1 MiB."""

    reset_on_abort: bool = attrs.field(
        default=True, validator=attrs.validators.instance_of(bool)
    )
    """Whether an abort resets a TCP connection, if our close_notify has not left. To
    many peers, curl, Java, Go and Node.js among them, a FIN without close_notify is
    the end, and a part looks whole; a reset does not. Default: True."""


@attrs.frozen(kw_only=True)
class ShutdownReport:
    """How a connection ended, as of the moment it was asked for."""

    outcome: ShutdownOutcome
    """The ending in one word."""

    close_notify_sent: bool
    """Our close_notify left: the transport took all of it."""

    close_notify_received: bool
    """The peer's close_notify arrived, authenticated."""

    first: Literal["local", "peer"] | None
    """Whose close_notify came first; None while there was none."""

    discarded: int
    """Bytes of plaintext that arrived and were never read. While the stream is
    not closed they can still be read."""

    elapsed: float
    """Seconds from the first sign of an ending (ours or the peer's) until this
    stream closed, or until now."""

    error: BaseException | None
    """What broke the connection, for TRUNCATED, RESET and FAILED."""

    @property
    def secure(self) -> bool:
        """Whether our side ended as TLS asks.

        True if the peer can know that it has everything we sent. It rests on
        facts, never on the category of an error: `RFC 9846 section 6.1
        <https://www.rfc-editor.org/rfc/rfc9846#section-6.1>`__.
        """
        match self.outcome:
            case ShutdownOutcome.COMPLETE | ShutdownOutcome.SENT:
                return True
            case ShutdownOutcome.ABORTED:
                return self.close_notify_sent
            case _:
                return False

    @property
    def peer_data_complete(self) -> bool:
        """Whether the peer said that we have all of its data."""
        return self.close_notify_received


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
