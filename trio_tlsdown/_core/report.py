"""How a connection ended: the policy, the outcome, the report, and the trace."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Literal

import attrs

from trio_tlsdown._util import check_seconds, check_type

if TYPE_CHECKING:
    from typing import Any


class ShutdownOutcome(enum.Enum):
    """How a TLS connection ended, or stands so far.

    Derived from facts only: which close_notify alerts crossed, and what the
    transport and the TLS layer did.
    """

    OPEN = "open"
    """The connection is open."""

    COMPLETE = "complete"
    """Both close_notify alerts crossed. Final, secure."""

    SENT = "sent"
    """Our close_notify was sent; we did not wait for the peer's. Secure.

    Until the stream is closed, another `TLSStream.shutdown` resumes the exchange.
    """

    ABORTED = "aborted"
    """Closed, cancelled, or out of time or ``max_unread``, before both alerts crossed.

    Secure only if ours was sent. Until the stream is closed, another
    `TLSStream.shutdown` resumes the exchange.
    """

    TRUNCATED = "truncated"
    """The transport ended without the peer's close_notify. Final.

    Data may be missing: the peer vanished, or an attacker cut the connection.
    """

    RESET = "reset"
    """The transport failed (ECONNRESET, EPIPE, ...). Final.

    If `ShutdownReport.peer_data_complete` holds, all of the peer's data had arrived
    before; only the peer may be missing some of ours.
    """

    FAILED = "failed"
    """TLS itself failed: fatal alert, bad record, handshake refused. Final."""

    @property
    def broken(self) -> bool:
        """Whether something failed; the report then has an error."""
        return (
            self is ShutdownOutcome.TRUNCATED
            or self is ShutdownOutcome.RESET
            or self is ShutdownOutcome.FAILED
        )

    @property
    def final(self) -> bool:
        """Whether nothing can change it, even while the stream is open."""
        return self is ShutdownOutcome.COMPLETE or self.broken


def _seconds(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    check_seconds(attribute.name, value)


def _flag(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    check_type(attribute.name, value, bool)


def _bytes(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{attribute.name} must be a number of bytes, not {value!r}")
    if value < 0:
        raise ValueError(f"{attribute.name} must be >= 0 bytes, not {value!r}")


@attrs.frozen(kw_only=True)
class ShutdownPolicy:
    """Limits on ending a connection, given once to a stream or a nursery.

    For any other deadline, use a cancel scope.

    Raises:
      TypeError: a field has the wrong type.
      ValueError: a field is negative or NaN.
    """

    timeout: float = attrs.field(default=5.0, validator=_seconds)
    """Seconds for the whole exchange: sending our close_notify (after the handshake, if
    there was none yet), then waiting for the peer's. `math.inf` waits forever; 0
    sends only what can be sent without waiting. Default: 5."""

    linger_timeout: float = attrs.field(default=2.0, validator=_seconds)
    """Seconds that closing may wait for the peer's kernel to acknowledge what was
    sent. 0 does not wait. Default: 2."""

    max_unread: int = attrs.field(default=2**20, validator=_bytes)
    """How much unread application data, in bytes, a shutdown may keep while no task
    receives. One read may overshoot it, by up to 512 KiB. Default: 1 MiB."""

    reset_on_abort: bool = attrs.field(default=True, validator=_flag)
    """Whether an abort resets a TCP connection whose close_notify was not sent. Many
    clients take a FIN without close_notify for the end of the data: curl 7.88, Java 17,
    Go 1.27 and Node.js 20 did (see ``docs/probe-clients.md``). The first three report a
    reset as an error. Default: True."""


@attrs.frozen(kw_only=True)
class ShutdownReport:
    """How a connection ended, as of the moment the report was made."""

    outcome: ShutdownOutcome
    """How it ended, in one word."""

    close_notify_sent: bool
    """Whether our close_notify was sent: the transport accepted all of it."""

    close_notify_received: bool
    """Whether the peer's close_notify arrived, authenticated."""

    first: Literal["local", "peer"] | None
    """Whose close_notify was first; None if there was none."""

    discarded: int
    """Bytes of application data that arrived and were never read. Until the stream is
    closed they can still be read."""

    elapsed: float
    """Seconds from the first sign of an ending (ours or the peer's) until this
    stream closed, or until now."""

    error: BaseException | None
    """What broke the connection, for TRUNCATED, RESET and FAILED."""

    @property
    def secure(self) -> bool:
        """Whether this side ended as TLS requires.

        True if the peer can know that it has everything we sent. Derived from the
        alerts that crossed, never from an error's category: `RFC 9846 section 6.1
        <https://www.rfc-editor.org/rfc/rfc9846#section-6.1>`__. It says nothing about
        encryption.
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
        """Whether the peer confirmed, by close_notify, that we have all of its data."""
        return self.close_notify_received


class PeerState(enum.Enum):
    """What `TLSStream.peer_state_nowait` returns."""

    IDLE = "idle"
    """The connection is open and nothing is unread."""

    DATA_WAITING = "data waiting"
    """Application data has arrived: `TLSStream.receive_some` returns at once. On a
    pool's idle connection it answers no request: do not reuse the connection."""

    CLOSED = "closed"
    """The peer has sent close_notify, and everything before it was read."""

    BROKEN = "broken"
    """The transport ended without close_notify, or failed; or TLS failed; or a send of
    ours was cancelled half-way, so that nothing more can be sent."""

    UNKNOWN = "unknown"
    """Not known without waiting: the transport is not a socket and has no
    ``receive_some_nowait``, or the peer keeps sending records without data."""


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

    @property
    def ends_connection(self) -> bool:
        """Whether it is the last event of its connection."""
        return self is TraceKind.TRANSPORT_CLOSED or self is TraceKind.UNWRAPPED


@attrs.frozen
class TraceEvent:
    """Something that happened on a connection."""

    time: float
    """Seconds on Trio's clock."""

    side: Literal["client", "server"]
    """The role of the stream that is traced."""

    kind: TraceKind
    """What happened."""

    size: int = 0
    """Bytes on the transport, for BYTES_SENT and BYTES_RECEIVED; else 0."""
