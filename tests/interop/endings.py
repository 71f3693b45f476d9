"""How the four scenarios have to end, for us and for the peer.

It follows from

- RFC 9846 section 6.1: each party sends a close_notify before it closes its
  write side; a transport that ends without one may have been cut, and that
  must not pass for the end of the data; nobody has to wait for the other's;
- RFC 5246 section 7.2.1, for TLS 1.2: the same, and the other party answers
  with a close_notify of its own;
- TCP: who closes a socket with unread input sends a RST and no FIN;
- what `ShutdownOutcome` and `ShutdownReport` promise.
"""

from __future__ import annotations

import enum

import attrs

from trio_tlsdown import (
    ShutdownOutcome as Outcome,
    ShutdownReport,
    TransportBrokenError,
    TruncatedError,
)


class Saw(enum.Enum):
    """How the connection ended for the peer's application."""

    NOTHING = "it did not look"
    CLOSE_NOTIFY = "a clean end"
    CUT = "a FIN without close_notify"
    RESET = "a RST"
    FAILED = "an error"


SECURE, INSECURE = True, False


@attrs.frozen
class Ending:
    """Our report, and what the peer saw.

    ``>`` is a close_notify sent, ``<`` one received, from that party's point of view,
    in order.
    """

    outcome: Outcome
    our_alerts: str
    secure: bool
    peer_saw: Saw
    program_alerts: str = attrs.field(default="", eq=False)
    """What the peer has to report, if it reports alerts."""

    received: int = 0
    """Bytes of application data that we received."""

    whole: bool = True
    """Whether the peer's application received all that we had sent."""

    closes: bool = True
    """Whether the peer's application is told that its graceful close went well."""

    crossed: str = attrs.field()
    """The names of the alerts on the wire, in order: ``>`` is ours."""

    @crossed.default
    def _crossed(self) -> str:
        unheard = ">" in self.program_alerts and "<" not in self.our_alerts
        whose = self.our_alerts + "<" * unheard
        return ", ".join(f"{who} close_notify" for who in whose)


# The number is the scenario, the letter is *our* part: A shuts down, B is the
# other. In 1 and 2 B closes the transport without close_notify.
# fmt: off
TABLE = {
    # 1: B closes the transport, then A shuts down.
    "1A":       Ending(Outcome.TRUNCATED, ">",  INSECURE, Saw.NOTHING),
    "1A reset": Ending(Outcome.RESET,     "",   INSECURE, Saw.NOTHING),
    "1B":       Ending(Outcome.ABORTED,   "",   INSECURE, Saw.CUT,   ">"),
    "1B reset": Ending(Outcome.ABORTED,   "",   INSECURE, Saw.RESET),
    # 2: A shuts down and waits; B closes the transport instead of answering:
    #    after it has read A's close_notify, or (reset) without.
    "2A":       Ending(Outcome.TRUNCATED, ">",  INSECURE, Saw.CLOSE_NOTIFY),
    "2A reset": Ending(Outcome.RESET,     ">",  INSECURE, Saw.NOTHING),
    "2B":       Ending(Outcome.ABORTED,   "<",  INSECURE, Saw.CUT,   ">"),
    "2B reset": Ending(Outcome.ABORTED,   "",   INSECURE, Saw.RESET, ">"),
    # 3: both shut down.
    "3A":       Ending(Outcome.COMPLETE,  "><", SECURE,   Saw.CLOSE_NOTIFY, "<>"),
    "3B":       Ending(Outcome.COMPLETE,  "<>", SECURE,   Saw.CLOSE_NOTIFY, "><"),
    # 4: A sends close_notify and closes without waiting; B shuts down.
    "4A":       Ending(Outcome.SENT,      ">",  SECURE,   Saw.CLOSE_NOTIFY, "<>"),
    "4B":       Ending(Outcome.COMPLETE,  "<>", SECURE,   Saw.NOTHING, ">"),
}
# fmt: on


def as_told(report: ShutdownReport, saw: Saw = Saw.NOTHING) -> Ending:
    """The same from a report, which does not know what the peer saw."""
    facts = {">": report.close_notify_sent, "<": report.close_notify_received}
    alerts = [who for who, there in facts.items() if there]
    return Ending(
        outcome=report.outcome,
        our_alerts="".join(alerts[:: -1 if report.first == "peer" else 1]),
        secure=report.secure,
        peer_saw=saw,
    )


FIRST = {"": None, ">": "local", "<": "peer"}
ERRORS = {Outcome.TRUNCATED: TruncatedError, Outcome.RESET: TransportBrokenError}


def check(report: ShutdownReport, cell: str) -> None:
    check_report(report, TABLE[cell])


def check_report(report: ShutdownReport, expected: Ending) -> None:
    assert report.outcome is expected.outcome
    assert report.close_notify_sent is (">" in expected.our_alerts)
    assert report.close_notify_received is ("<" in expected.our_alerts)
    assert report.first == FIRST[expected.our_alerts[:1]]
    assert report.secure is expected.secure
    assert type(report.error) is ERRORS.get(expected.outcome, type(None))
