"""What a test module says about its peer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import attrs

from tests.support import VERSIONS

from .endings import Ending, Saw
from .situations import ANSWER, SITUATIONS

Role: TypeAlias = Literal["client", "server"]
ROLES: Final[Sequence[Role]] = ("client", "server")


class Key(NamedTuple):
    """One connection."""

    situation: str

    version: str
    """The TLS version."""

    role: Role
    """The peer's."""


def _known(_: object, __: object, situations: Sequence[str]) -> None:
    assert set(situations) <= set(SITUATIONS), f"one is unknown: {situations}"


def a_link(_: object, __: object, link: str) -> None:
    assert link.startswith("https://"), "a reason needs a link"


@attrs.frozen(kw_only=True)
class Where:
    """Some situations, and a link to what the peer's authors say about them."""

    situations: Sequence[str] = attrs.field(validator=_known)
    link: str = attrs.field(validator=a_link)
    """To the documentation or the source."""

    versions: Sequence[str] = tuple(VERSIONS)
    roles: Sequence[Role] = ROLES

    def covers(self, key: Key) -> bool:
        return (
            key.situation in self.situations
            and key.version in self.versions
            and key.role in self.roles
        )


@attrs.frozen(kw_only=True)
class Cannot(Where):
    """Why the peer cannot play its part."""

    why: str


@attrs.frozen(kw_only=True)
class Deviation(Where):
    """Where the peer does not do what the RFC says."""

    does: str
    """What it does instead."""

    changes: dict[str, Any]
    """How the ending differs: fields of `Ending`."""

    sometimes: bool = False
    """Whether it may also do what the RFC says, depending on timing or its version."""


def rule(key: Key) -> Ending:
    """How it has to end according to the RFC of that version."""
    situation = SITUATIONS[key.situation]
    return situation.ending_in_tls12 if key.version == "TLSv1.2" else situation.ending


@attrs.frozen(kw_only=True)
class Peer:
    """A TLS implementation, and how it differs."""

    name: str

    command: Callable[[Path], Sequence[str]]
    """Returns the command of its lab. It is given a folder that is kept between runs, to
    compile in, and skips the test if something is missing."""

    versions: Sequence[str] = tuple(VERSIONS)
    roles: Sequence[Role] = ROLES
    cannot: Sequence[Cannot] = ()
    deviations: Sequence[Deviation] = ()

    def keys(self) -> list[Key]:
        """Each situation in each version and role."""
        return [
            Key(situation, version, role)
            for situation, version, role in product(
                SITUATIONS, self.versions, self.roles
            )
        ]

    def plays(self) -> list[Key]:
        """The connections that it can play."""
        return [key for key in self.keys() if self.reason(key) is None]

    def reason(self, key: Key) -> Cannot | None:
        """Why it cannot play this."""
        return next((each for each in self.cannot if each.covers(key)), None)

    def deviations_in(self, key: Key) -> list[Deviation]:
        return [each for each in self.deviations if each.covers(key)]

    def endings(self, key: Key) -> list[Ending]:
        """How it has to end, or does where the peer deviates. More than one, if that
        happens only now and then."""
        endings = [rule(key)]
        for deviation in self.deviations_in(key):
            changed = [attrs.evolve(each, **deviation.changes) for each in endings]
            endings = [*endings * deviation.sometimes, *changed]
        return endings

    def is_captured(self, key: Key) -> bool:
        """Whether it is captured: always, where the peer deviates."""
        return SITUATIONS[key.situation].witnessed or bool(self.deviations_in(key))


def answers_in_tls12(link: str) -> Deviation:
    """On TLS 1.2 it does what only TLS 1.3 allows: nothing is lost."""
    return Deviation(
        situations=["half-close A"],
        versions=["TLSv1.2"],
        does="sends on after a close_notify, where TLS 1.2 tells it to discard",
        link=link,
        changes={"received": ANSWER},
    )


def takes_cuts_for_ends(link: str, *situations: str) -> Deviation:
    """Its application cannot tell that something may be missing."""
    return Deviation(
        situations=situations,
        does="takes a FIN without close_notify for a clean end",
        link=link,
        changes={"peer_saw": Saw.CLOSE_NOTIFY},
    )


# Where each party has to send a close_notify before it closes (RFC 9846 section 6.1,
# RFC 5246 section 7.2.1), unless it has sent an error alert.
AFTER_A_CUT: Final = ("1B", "cut A", "cut inside A")


def does_not_answer_a_cut(
    does: str,
    link: str,
    *situations: str,
    instead: str = "",
    closes: bool = False,
) -> Deviation:
    """It ends its own side without close_notify when the other has done so.

    Args:
      does: What the peer does.
      link: To the source.
      situations: Which ones, if not all.
      instead: The alert that it sends.
      closes: Whether its application is told that closing succeeded.
    """
    changes: dict[str, Any] = {"crossed": f"< {instead}" if instead else ""}
    if not closes:
        changes["closes"] = False
    return Deviation(
        situations=situations or AFTER_A_CUT, does=does, link=link, changes=changes
    )


def sends_decode_error(link: str) -> Deviation:
    """What OpenSSL does unless its caller prevents it."""
    return does_not_answer_a_cut(
        "sends a fatal decode_error when it reads a FIN without close_notify; then its"
        " shutdown fails",
        link,
        instead="decode_error",
    )
