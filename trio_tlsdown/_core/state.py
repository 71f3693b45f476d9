"""The connection's state: every state, every legal transition, every outcome.

A TLS connection has two directions that end separately, and besides them this side
may give up or close. So there are three small state machines. An event moves each
machine that has a row for it in `TRANSITIONS`; nothing else assigns a state. The
outcome is looked up in `OUTCOMES`, unless something has broken the connection: what did
so first is the outcome for good.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from .report import ShutdownOutcome

if TYPE_CHECKING:
    from collections.abc import Callable


class _State(enum.Enum):
    # Enum's own hash is slow Python code, and these are looked up at every step.
    __hash__ = object.__hash__


class Sending(_State):
    """Our direction."""

    HANDSHAKING = enum.auto()
    OPEN = enum.auto()
    ENCRYPTED = enum.auto()  # our close_notify is queued, but not sent
    CLOSED = enum.auto()  # our close_notify was sent
    BROKEN = enum.auto()  # cancelled inside a record: nothing can follow
    RESET = enum.auto()
    FAILED = enum.auto()

    @property
    def broken(self) -> bool:
        """Whether sending is broken. What the peer sent can still be received."""
        return self is Sending.BROKEN or self is Sending.RESET or self is Sending.FAILED


class Receiving(_State):
    """The peer's direction."""

    HANDSHAKING = enum.auto()
    OPEN = enum.auto()
    CLOSED = enum.auto()  # the peer's close_notify arrived
    TRUNCATED = enum.auto()
    RESET = enum.auto()
    FAILED = enum.auto()


class LocalState(_State):
    """What this side has done, apart from sending and receiving."""

    LIVE = enum.auto()
    GIVEN_UP = enum.auto()  # a shutdown was cancelled, or ran out of time or space
    CLOSED = enum.auto()
    CLOSED_INCOMPLETE = enum.auto()  # closed after giving up

    @property
    def is_closed(self) -> bool:
        """Whether this side has closed the connection."""
        return self is LocalState.CLOSED or self is LocalState.CLOSED_INCOMPLETE


class Event(_State):
    """What can happen to a connection."""

    HANDSHAKE_DONE = enum.auto()
    CLOSE_NOTIFY_ENCRYPTED = enum.auto()
    CLOSE_NOTIFY_SENT = enum.auto()
    CLOSE_NOTIFY_RECEIVED = enum.auto()
    TRUNCATED = enum.auto()
    SENDING_BROKEN = enum.auto()
    SENDING_RESET = enum.auto()
    RECEIVING_RESET = enum.auto()
    FAILED = enum.auto()
    GIVEN_UP = enum.auto()
    RESUMED = enum.auto()
    UNWRAPPED = enum.auto()
    CLOSED = enum.auto()

    @property
    def begins_ending(self) -> bool:
        """Whether this starts the shutdown clock without a local call."""
        return self in BEGINNINGS


BEGINNINGS: Final = frozenset(
    {
        Event.CLOSE_NOTIFY_RECEIVED,
        Event.TRUNCATED,
        Event.SENDING_RESET,
        Event.RECEIVING_RESET,
        Event.FAILED,
    }
)


class Transitions(NamedTuple):
    """What one event does to each machine."""

    sending: Mapping[Sending, Sending] = {}
    receiving: Mapping[Receiving, Receiving] = {}
    local: Mapping[LocalState, LocalState] = {}


TRANSITIONS: Final[Mapping[Event, Transitions]] = {
    Event.HANDSHAKE_DONE: Transitions(
        sending={Sending.HANDSHAKING: Sending.OPEN},
        receiving={Receiving.HANDSHAKING: Receiving.OPEN},
    ),
    Event.CLOSE_NOTIFY_ENCRYPTED: Transitions(
        sending={Sending.OPEN: Sending.ENCRYPTED}
    ),
    Event.CLOSE_NOTIFY_SENT: Transitions(sending={Sending.ENCRYPTED: Sending.CLOSED}),
    Event.CLOSE_NOTIFY_RECEIVED: Transitions(
        receiving={Receiving.OPEN: Receiving.CLOSED}
    ),
    # The end of input does not affect our direction: our close_notify can still follow,
    # and RFC 9846 section 6.1 asks for it.
    Event.TRUNCATED: Transitions(
        receiving={
            Receiving.HANDSHAKING: Receiving.TRUNCATED,
            Receiving.OPEN: Receiving.TRUNCATED,
        },
    ),
    Event.SENDING_BROKEN: Transitions(
        sending={
            Sending.HANDSHAKING: Sending.BROKEN,
            Sending.OPEN: Sending.BROKEN,
            Sending.ENCRYPTED: Sending.BROKEN,
        },
    ),
    # A peer may answer and close while we are sending: EPIPE ends our direction, but its
    # answer can still be received.
    Event.SENDING_RESET: Transitions(
        sending={
            Sending.HANDSHAKING: Sending.RESET,
            Sending.OPEN: Sending.RESET,
            Sending.ENCRYPTED: Sending.RESET,
        },
    ),
    Event.RECEIVING_RESET: Transitions(
        receiving={
            Receiving.HANDSHAKING: Receiving.RESET,
            Receiving.OPEN: Receiving.RESET,
        },
    ),
    # RFC 9846 section 6.2: a fatal error ends both directions at once. A close_notify
    # that is already queued still leaves, ahead of the alert.
    Event.FAILED: Transitions(
        sending={
            Sending.HANDSHAKING: Sending.FAILED,
            Sending.OPEN: Sending.FAILED,
        },
        receiving={
            Receiving.HANDSHAKING: Receiving.FAILED,
            Receiving.OPEN: Receiving.FAILED,
        },
    ),
    Event.GIVEN_UP: Transitions(local={LocalState.LIVE: LocalState.GIVEN_UP}),
    Event.RESUMED: Transitions(local={LocalState.GIVEN_UP: LocalState.LIVE}),
    Event.UNWRAPPED: Transitions(
        local={
            LocalState.LIVE: LocalState.CLOSED,
            LocalState.GIVEN_UP: LocalState.CLOSED,
        }
    ),
    Event.CLOSED: Transitions(
        local={
            LocalState.LIVE: LocalState.CLOSED,
            LocalState.GIVEN_UP: LocalState.CLOSED_INCOMPLETE,
        },
    ),
}

# The states in which a direction is broken. The first that is reached names the outcome
# for good, whatever the other direction finds at its next use; but closing comes first,
# if it does.
BREAKS: Final[Mapping[_State, ShutdownOutcome]] = {
    Receiving.TRUNCATED: ShutdownOutcome.TRUNCATED,
    Receiving.RESET: ShutdownOutcome.RESET,
    Receiving.FAILED: ShutdownOutcome.FAILED,
    Sending.RESET: ShutdownOutcome.RESET,
    Sending.FAILED: ShutdownOutcome.FAILED,
}

# If nothing is broken, the first matching row wins; None matches every state. If none
# matches: OPEN.
OUTCOMES: Final[
    tuple[
        tuple[Sending | None, Receiving | None, LocalState | None, ShutdownOutcome], ...
    ]
] = (
    (Sending.CLOSED, Receiving.CLOSED, None, ShutdownOutcome.COMPLETE),
    (Sending.BROKEN, None, None, ShutdownOutcome.ABORTED),
    (None, None, LocalState.GIVEN_UP, ShutdownOutcome.ABORTED),
    (None, None, LocalState.CLOSED_INCOMPLETE, ShutdownOutcome.ABORTED),
    (Sending.CLOSED, None, None, ShutdownOutcome.SENT),
    (None, None, LocalState.CLOSED, ShutdownOutcome.ABORTED),
)


class IllegalTransitionError(RuntimeError):
    """No machine has a row for this event in its state: a bug in this package."""


def _ignore(_: Event) -> None:
    pass


class ConnectionState:
    """The three machines of one connection.

    Args:
      on_event: Called with each event after the machines have moved.

    Attributes:
      broken_by: What broke the connection first, before it was closed; None if nothing.
      can_receive: Whether the peer's direction is open.
      can_send: Whether our direction is open and this side has not closed.
      handshaken: Whether the handshake was done.
      closed: Whether this side has closed the connection.
      first: Whose close_notify came first.
    """

    __slots__ = (
        "_on_event",
        "broken_by",
        "can_receive",
        "can_send",
        "closed",
        "first",
        "handshaken",
        "local",
        "receiving",
        "sending",
    )

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        self.sending: Sending = Sending.HANDSHAKING
        self.receiving: Receiving = Receiving.HANDSHAKING
        self.local: LocalState = LocalState.LIVE
        self.broken_by: ShutdownOutcome | None = None
        # Kept as flags: they are read at every call, and enum lookups are slow.
        self.can_receive = False
        self.can_send = False
        self.handshaken = False
        self.closed = False
        self.first: Literal["local", "peer"] | None = None
        self._on_event = on_event

    def process_event(self, event: Event) -> None:
        """Move each machine that has a row for *event*.

        Raises:
          IllegalTransitionError: none has one. Nothing has moved.
        """
        if not self.process_event_if_legal(event):
            raise IllegalTransitionError(
                f"{event} in {self.sending}, {self.receiving}, {self.local}"
            )

    def process_event_if_legal(self, event: Event) -> bool:
        """`process_event` for an event that may come too late to matter.

        Returns:
          Whether a machine has moved.
        """
        moves = TRANSITIONS[event]
        sending = moves.sending.get(self.sending)
        receiving = moves.receiving.get(self.receiving)
        local = moves.local.get(self.local)
        if not (sending or receiving or local):
            return False
        was_closed = self.closed
        if sending:
            self.sending = sending
        if receiving:
            self.receiving = receiving
            self.can_receive = receiving is Receiving.OPEN
        if local:
            self.local = local
            self.closed = local.is_closed
        self.can_send = self.sending is Sending.OPEN and not self.closed
        if not was_closed:
            self.broken_by = self.broken_by or BREAKS.get(self.receiving)
            if self.closed or not self.can_receive:
                self.broken_by = self.broken_by or BREAKS.get(self.sending)
        if event is Event.HANDSHAKE_DONE:
            self.handshaken = True
        elif event is Event.CLOSE_NOTIFY_SENT:
            self.first = self.first or "local"
        elif event is Event.CLOSE_NOTIFY_RECEIVED:
            self.first = self.first or "peer"
        self._on_event(event)
        if self.closed:
            # Breaks a cycle, so that the session is freed without the collector.
            self._on_event = _ignore
        return True

    def settle(self) -> None:
        """A caller is told what has become of sending: if it is broken, that is final.

        Before, as when an answer to a KeyUpdate could not be sent, it is not while the
        input goes on: how that ends tells more.
        """
        if not self.closed:
            self.broken_by = self.broken_by or BREAKS.get(self.sending)

    @property
    def failed(self) -> bool:
        """Whether the TLS layer failed."""
        return self.sending is Sending.FAILED or self.receiving is Receiving.FAILED

    @property
    def last_word_made(self) -> bool:
        """Whether the pending ciphertext ends with our close_notify or a fatal alert."""
        return not self.can_send and (self.sending is Sending.ENCRYPTED or self.failed)

    @property
    def session_ended(self) -> bool:
        """Whether OpenSSL has seen an end, and so has decided about resumption."""
        return self.close_notify_sent or self.close_notify_received or self.failed

    @property
    def close_notify_sent(self) -> bool:
        """Whether our close_notify was sent."""
        return self.sending is Sending.CLOSED

    @property
    def close_notify_received(self) -> bool:
        """Whether the peer's close_notify arrived."""
        return self.receiving is Receiving.CLOSED

    @property
    def outcome(self) -> ShutdownOutcome:
        """How the connection ended, or stands so far."""
        if self.broken_by is not None:
            return self.broken_by
        for sending, receiving, local, outcome in OUTCOMES:
            if (
                (sending is None or sending is self.sending)
                and (receiving is None or receiving is self.receiving)
                and (local is None or local is self.local)
            ):
                return outcome
        return ShutdownOutcome.OPEN
