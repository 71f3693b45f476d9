"""What came of each connection, for the table in the documentation.

If ``TLSDOWN_INTEROP_ROWS`` names a folder, each row goes there: a line of JSON in the
file of its peer. `table` makes the page from it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs

from .capture import CLOSE_NOTIFY
from .endings import ERRORS, Ending, Saw
from .peer import Key, Peer, Role, a_link, rule
from .playing import Runs
from .programs import version_of
from .signs import Sign, on_the_wire
from .situations import SITUATIONS

VARIABLE: Final = "TLSDOWN_INTEROP_ROWS"

# RFC 9846 section 6, RFC 5246 section 7.2: level and description.
ALERTS: Final = {
    CLOSE_NOTIFY: "close_notify",
    "alert 2/10": "unexpected_message",
    "alert 2/20": "bad_record_mac",
    "alert 2/50": "decode_error",
    "alert 2/80": "internal_error",
    "alert 1/90": "user_canceled",
}


@attrs.frozen(kw_only=True)
class Row:
    """One connection, or why there was none."""

    peer: str
    peer_version: str
    tls: str
    role: str
    """The peer's."""

    situation: str
    crossed: str = ""
    """The alerts, in order: ``>`` is ours."""

    outcome: str = ""
    secure: bool = False
    error: str = ""
    peer_saw: str = ""
    deviation: str = ""
    cannot: str = ""
    link: str = ""
    said: list[str] = attrs.field(factory=list)
    """What the peer's program answered."""

    real: bool = False
    """Whether that is a `RealProgram`, and no lab."""


@attrs.frozen
class Remark:
    """Where a program does not do what is asked of it."""

    does: str
    link: str = attrs.field(validator=a_link)


@attrs.frozen
class RealProgram:
    """A server or a client that people use, set up in some way."""

    name: str
    role: Role
    command: str
    version_option: str = "--version"

    def ended(
        self, tls: str, situation: str, ending: Ending, remark: Remark | None = None
    ) -> None:
        """Record it."""
        row = Row(
            peer=self.name,
            peer_version=version_of(self.command, self.version_option),
            tls=tls,
            role=self.role,
            situation=situation,
            deviation="" if remark is None else remark.does,
            link="" if remark is None else remark.link,
            real=True,
        )
        record(_with(row, ending, _alerts(ending)))


def row_of(peer: Peer, key: Key, runs: Runs) -> Row:
    row = Row(
        peer=peer.name,
        peer_version=runs.peer_version,
        tls=key.version,
        role=key.role,
        situation=key.situation,
    )
    reason = peer.reason(key)
    if reason is not None:
        return attrs.evolve(row, cannot=reason.why, link=reason.link)
    run, deviation = runs[key], peer.deviation(key)
    # What happens now and then only is left to the remark: the page must not depend on it.
    sometimes = deviation is not None and deviation.sometimes
    ending = rule(key) if sometimes else peer.ending(key)
    captured = SITUATIONS[key.situation].witnessed and not runs.no_witness
    signs: Sequence[Sign] = (
        on_the_wire(runs.packets[key], run) if captured else _alerts(ending)
    )
    row = attrs.evolve(
        row,
        deviation="" if deviation is None else deviation.does,
        link="" if deviation is None else deviation.link,
        said=list(run.said),
    )
    return _with(row, ending, signs)


def _alerts(ending: Ending) -> list[Sign]:
    return [(">" if who == ">" else "<", CLOSE_NOTIFY) for who in ending.our_alerts]


def _with(row: Row, ending: Ending, signs: Sequence[Sign]) -> Row:
    error = ERRORS.get(ending.outcome)
    return attrs.evolve(
        row,
        crossed=", ".join(
            f"{who} {ALERTS.get(sign, sign)}" for who, sign in signs if "alert" in sign
        ),
        outcome=ending.outcome.name,
        secure=ending.secure,
        error="" if error is None else error.__name__,
        peer_saw="" if ending.peer_saw is Saw.NOTHING else ending.peer_saw.value,
    )


def record(row: Row) -> None:
    """Keep it, if a folder is named."""
    folder = os.environ.get(VARIABLE)
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        name = "".join(letter for letter in row.peer.lower() if letter.isalnum())
        with (Path(folder) / f"{name}.jsonl").open("a") as file:
            print(json.dumps(attrs.asdict(row)), file=file)
