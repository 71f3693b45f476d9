"""The checks: what is asked, what the RFCs say of it, and what was seen.

A check is a row of `CHECKS`. Its verdict is a pure function of what was observed. It
never asks for more than the RFC: a *fail* is a MUST that was broken; a *warn* is
allowed, but clients pay for it.

The names of the certificate issuers that a server accepts, and whether it asks for a
client certificate at all, are not among the checks: Python's ssl module does not tell.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeAlias

import attrs

from ._observe import CUT, Ending, Experiment, Observation
from ._witness import Behind, TransportEnd

Version: TypeAlias = Literal["1.3", "1.2"]
Observations: TypeAlias = Mapping[Experiment, Observation]

LATE: Final = 1.0  # seconds; "immediately" in RFC 5246 section 7.2.1 has no number


class Verdict(enum.Enum):
    """What came of a check. The name is what programs call it."""

    PASS = "pass"  # noqa: S105 - no password
    WARN = "warn"
    FAIL = "fail"
    NOT_APPLICABLE = "n/a"


SEVERITY: Final = (Verdict.NOT_APPLICABLE, Verdict.PASS, Verdict.WARN, Verdict.FAIL)


@attrs.frozen
class Finding:
    """The verdict of a check, and what was seen."""

    verdict: Verdict
    seen: str


Judge: TypeAlias = Callable[[Version, Observations], Finding]


@attrs.frozen(kw_only=True)
class Check:
    """A question to a server."""

    id: str
    question: str
    rfc: Mapping[Version, str]
    """Where the answer is to be found."""

    meaning: str
    """Why it matters, if the answer is not the best one."""

    judge: Judge

    def rfc_link(self, version: Version) -> str:
        """Where the section can be read."""
        number, _, section = (
            self.rfc[version].removeprefix("RFC ").partition(" section ")
        )
        return f"https://www.rfc-editor.org/rfc/rfc{number}#section-{section}"


# What was seen, in words:


def milliseconds(seconds: float) -> str:
    """A duration, as a person would write it."""
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _how_it_ended(seen: Observation, since: float | None = None) -> str:
    when = ""
    if since is not None and seen.ended is not None:
        when = f" after {milliseconds(max(seen.ended - since, 0))}"
    match seen.ending:
        case Ending.CLOSE_NOTIFY:
            tcp = {TransportEnd.FIN: ", then FIN", TransportEnd.RESET: ", then reset"}
            how = seen.alert or "close_notify"
            return f"{how}{when}{tcp.get(seen.tcp, '; TCP stays open')}"
        case Ending.FIN:
            where = ", inside a record" if seen.mid_record else ""
            return f"FIN{when} without close_notify{where}"
        case Ending.RESET:
            return f"TCP reset{when} without close_notify"
        case Ending.ALERT:
            return f"fatal alert{when}: {seen.alert}"
        case Ending.BAD_RECORD:
            return f"a record that cannot be read{when}: {seen.alert}"
        case Ending.FLOOD:
            return f"data without end: {seen.data_before + seen.data_after} B so far"
        case _:  # OPEN
            return "nothing, and TCP stays open"


def _ended_first(seen: Observation) -> bool:
    """Whether the server ended before our close_notify left."""
    return seen.ended is not None and (seen.ours is None or seen.ended < seen.ours)


# A fatal alert needs no close_notify behind it (RFC 9846 section 6.2).
ENDED_WELL: Final = frozenset({Ending.CLOSE_NOTIFY, Ending.ALERT})


# The checks:


def _answers(version: Version, all_seen: Observations) -> Finding:
    seen = all_seen[Experiment.IDLE]
    if _ended_first(seen):
        return Finding(Verdict.NOT_APPLICABLE, f"it ended first: {_how_it_ended(seen)}")
    words = _how_it_ended(seen, seen.ours)
    if seen.data_after:
        words = f"{seen.data_after} B of data, then {words}"
    match seen.ending:
        case Ending.CLOSE_NOTIFY:
            return Finding(Verdict.PASS, words)
        case Ending.OPEN | Ending.FLOOD | Ending.ALERT if version == "1.3":
            return Finding(Verdict.WARN, words)
        case _:
            return Finding(Verdict.FAIL, words)


def _answers_promptly(version: Version, all_seen: Observations) -> Finding:
    seen = all_seen[Experiment.IDLE]
    if _ended_first(seen) or seen.ours is None or seen.theirs is None:
        return Finding(Verdict.NOT_APPLICABLE, "there was no answer")
    delay = max(seen.theirs - seen.ours, 0.0)
    late = version == "1.2" and delay > LATE
    return Finding(Verdict.WARN if late else Verdict.PASS, milliseconds(delay))


def _half_close(version: Version, all_seen: Observations) -> Finding:
    seen = all_seen.get(Experiment.HALF_CLOSE)
    if seen is None:
        return Finding(Verdict.NOT_APPLICABLE, "there was no request to send")
    size = seen.data_before + seen.data_after
    ended = _how_it_ended(seen, seen.ours)
    words = f"{'the whole answer' if seen.whole else f'{size} B'}, then {ended}"
    if not size:
        words = f"no answer; {ended}"
    if version == "1.2":
        return Finding(Verdict.NOT_APPLICABLE, f"{words} (TLS 1.2 has no half-close)")
    return Finding(Verdict.PASS if seen.whole and size else Verdict.WARN, words)


def _ends(experiment: Experiment) -> Judge:
    def judge(version: Version, all_seen: Observations) -> Finding:
        seen = all_seen.get(experiment)
        if seen is None:
            return Finding(Verdict.NOT_APPLICABLE, "there was no request to send")
        words = _how_it_ended(seen)
        if seen.ending in (Ending.OPEN, Ending.FLOOD):
            return Finding(Verdict.NOT_APPLICABLE, f"it did not end: {words}")
        good = seen.ending in ENDED_WELL
        return Finding(Verdict.PASS if good else Verdict.FAIL, words)

    return judge


def _whole(version: Version, all_seen: Observations) -> Finding:
    seen = all_seen.get(Experiment.GOODBYE)
    if seen is None or not seen.data_before + seen.data_after:
        return Finding(Verdict.NOT_APPLICABLE, "there was no answer")
    size = seen.data_before + seen.data_after
    if seen.whole:
        return Finding(Verdict.PASS, f"{size} B, to the last byte")
    words = f"{size} B, and its end cannot be told: {_how_it_ended(seen)}"
    if seen.ending in (Ending.OPEN, Ending.FLOOD):
        return Finding(Verdict.NOT_APPLICABLE, words)
    return Finding(Verdict.WARN if seen.ending in ENDED_WELL else Verdict.FAIL, words)


def _unread(version: Version, all_seen: Observations) -> Finding:
    seen, plain = all_seen.get(Experiment.UNREAD), all_seen.get(Experiment.GOODBYE)
    if seen is None or plain is None:
        return Finding(Verdict.NOT_APPLICABLE, "there was no request to send")
    if seen.ending in (Ending.OPEN, Ending.FLOOD):
        return Finding(Verdict.NOT_APPLICABLE, "it did not end the connection")
    answered = bool(seen.data_before + seen.data_after)
    words = "the whole answer" if seen.whole else "a part of the answer"
    words = f"{words if answered else 'no answer'}, then {_how_it_ended(seen)}"
    lost = plain.whole and not seen.whole
    cut = plain.ending in ENDED_WELL and seen.ending not in ENDED_WELL
    bad = lost or cut or seen.ending is Ending.RESET
    return Finding(Verdict.WARN if bad else Verdict.PASS, words)


def _behind(version: Version, all_seen: Observations) -> Finding:
    ended = [each for each in all_seen.values() if each.theirs is not None]
    if not ended:
        return Finding(Verdict.NOT_APPLICABLE, "there was no close_notify")
    for seen in ended:
        if seen.behind is not Behind.NOTHING:
            return Finding(
                Verdict.WARN, f"{seen.behind.value} ({seen.experiment.value})"
            )
    return Finding(Verdict.PASS, "nothing")


# The endings whose session is tried, and what such a connection did.
RESUMABLE: Final[Mapping[Experiment, tuple[frozenset[Ending], str]]] = {
    Experiment.RESUME: (frozenset({Ending.CLOSE_NOTIFY}), "ended with close_notify"),
    Experiment.RESUME_CUT: (CUT, "was cut"),
}
NOT_ASKED: Final = Finding(Verdict.NOT_APPLICABLE, "not asked (see --resumption)")


def _why_not_tried(experiment: Experiment, all_seen: Observations) -> str:
    endings, did = RESUMABLE[experiment]
    connections = all_seen.values()
    kept = [seen.session_kept for seen in connections if seen.ending in endings]
    if any(kept):
        return "no connection could be made to resume the session"
    if any(seen.session_kept for seen in connections):
        if kept:
            return f"the server issued no session on a connection that {did}"
    # Without a session to resume we cut no connection ourselves.
    elif kept or any(seen.ending is Ending.CLOSE_NOTIFY for seen in connections):
        return "the server issued no session"
    return f"no connection {did}"


def _resumes(experiment: Experiment) -> Judge:
    def judge(version: Version, all_seen: Observations) -> Finding:
        seen = all_seen.get(experiment)
        if seen is None:
            return Finding(Verdict.NOT_APPLICABLE, _why_not_tried(experiment, all_seen))
        if seen.resumed:
            return Finding(Verdict.PASS, "resumed")
        return Finding(Verdict.WARN, "not resumed: a full handshake")

    return judge


CLOSURE: Final[Mapping[Version, str]] = {
    "1.3": "RFC 9846 section 6.1",
    "1.2": "RFC 5246 section 7.2.1",
}

CHECKS: Final = (
    Check(
        id="answers-close-notify",
        question="Does it answer our close_notify on an idle connection?",
        rfc=CLOSURE,
        meaning=(
            "TLS 1.2 demands an answer. TLS 1.3 does not, but whoever closes must send "
            "close_notify first. A client that waits for the answer waits in vain, or "
            "takes the end for a truncation."
        ),
        judge=_answers,
    ),
    Check(
        id="answers-promptly",
        question="How long does that take?",
        rfc=CLOSURE,
        meaning=(
            "TLS 1.2 wants the answer at once; clients give up after some seconds."
        ),
        judge=_answers_promptly,
    ),
    Check(
        id="answers-after-half-close",
        question="Does the answer to a request still arrive after our close_notify?",
        rfc=CLOSURE,
        meaning=(
            "TLS 1.3 leaves the server's direction open, and a client may close its own "
            "direction once it has sent its request. The RFC allows it, but clients of "
            "this server must not do it."
        ),
        judge=_half_close,
    ),
    Check(
        id="ends-with-close-notify",
        question="When it ends the connection, does close_notify come before FIN?",
        rfc=CLOSURE,
        meaning=(
            "Both versions demand it. A client cannot tell this end from a cut: an "
            "attacker can end the connection early, and an answer that ends with the "
            "connection looks whole."
        ),
        judge=_ends(Experiment.GOODBYE),
    ),
    Check(
        id="answer-is-whole",
        question="Is the last byte of its answer there?",
        rfc=CLOSURE,
        meaning="The end of the answer was lost, or cannot be told from a cut.",
        judge=_whole,
    ),
    Check(
        id="bad-request-close-notify",
        question="And after a bad request?",
        rfc=CLOSURE,
        meaning=(
            "Both versions demand it. Error paths often close the socket under TLS; "
            "the client sees a cut instead of the error."
        ),
        judge=_ends(Experiment.BAD_REQUEST),
    ),
    Check(
        id="survives-unread-data",
        question="Does its answer arrive whole if it closes with our data unread?",
        rfc={"1.3": "RFC 9112 section 9.6", "1.2": "RFC 9112 section 9.6"},
        meaning=(
            "Closing a TCP socket with unread input makes the kernel send a reset, "
            "which can destroy the end of an answer. It is lost at random, more often "
            "on slow links."
        ),
        judge=_unread,
    ),
    Check(
        id="nothing-behind",
        question="Is its close_notify the last thing that it sends?",
        rfc=CLOSURE,
        meaning=(
            "A close_notify says that nothing follows, and clients must ignore what "
            "does: it is lost, or taken for clear text."
        ),
        judge=_behind,
    ),
    Check(
        id="resumes-after-end",
        question="Does it resume a session whose connection ended well?",
        rfc={"1.3": "RFC 9846 section 2.2", "1.2": "RFC 5246 section 7.3"},
        meaning="Nobody has to resume. Each connection costs a full handshake.",
        judge=_resumes(Experiment.RESUME),
    ),
    Check(
        id="resumes-after-cut",
        question="And one whose connection was cut?",
        rfc={"1.3": "RFC 9846 section 2.2", "1.2": "RFC 5246 section 7.2.1"},
        meaning=(
            "Since TLS 1.1 a missing close_notify does not forbid it. Clients that lose "
            "their connections pay with full handshakes."
        ),
        judge=_resumes(Experiment.RESUME_CUT),
    ),
)


def judge(
    version: Version, seen: Observations, *, resumes: bool = True
) -> dict[str, Finding]:
    """The verdict of each check, by its id.

    Args:
      version: The TLS version.
      seen: What was observed with it.
      resumes: Whether it was asked if sessions can be resumed. Default: True.
    """
    found = {check.id: check.judge(version, seen) for check in CHECKS}
    if not resumes:
        found |= dict.fromkeys(("resumes-after-end", "resumes-after-cut"), NOT_ASKED)
    return found


def worst(verdicts: set[Verdict]) -> Verdict:
    """The worst of some verdicts; n/a if there is none."""
    return max(verdicts, key=SEVERITY.index, default=Verdict.NOT_APPLICABLE)
