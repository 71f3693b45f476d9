"""How each connection ended, for the tables in the documentation.

If ``TLSDOWN_INTEROP_ROWS`` names a folder, each row is written there: a line of JSON in
the file of its peer. `table` makes the page from them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from trio_tlsdown import ShutdownReport

from .endings import ERRORS, Ending, Saw, as_told
from .peer import Key, Peer, Role, a_link
from .playing import UNSEEN, Runs
from .programs import version_of

VARIABLE: Final = "TLSDOWN_INTEROP_ROWS"

VARIES: Final = "*varies*"
"""Where a race decides: the page must not depend on it."""


@attrs.frozen(kw_only=True)
class Row:
    """One connection, or why there was none."""

    peer: str
    peer_version: str
    tls: str
    role: str
    """The peer's."""

    situation: str
    played: bool = True
    crossed: str = ""
    """The alerts, in order: ``>`` is ours."""

    report: str = ""
    """Ours."""

    peer_saw: str = ""
    remarks: Sequence[Sequence[str]] = attrs.field(factory=list)
    """Where the peer deviates, or why it does not play; and a link."""

    said: Sequence[str] = attrs.field(factory=list)
    """What the peer's program answered."""

    real: bool = False
    """Whether the peer is a `RealProgram`, not a lab."""


@attrs.frozen
class Remark:
    """Where a program does not do what the RFC asks of it."""

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
        self,
        tls: str,
        situation: str,
        report: ShutdownReport,
        saw: Saw = Saw.NOTHING,
        remark: Remark | None = None,
        *,
        either: Sequence[Ending] = (),
    ) -> None:
        """Record it.

        Args:
          tls: The version.
          situation: What happened.
          report: Ours, which the test has checked.
          saw: How it ended for the program.
          remark: Where it does not do what the RFC asks.
          either: How it may end, where a race decides.
        """
        row = Row(
            peer=self.name,
            peer_version=version_of(self.command, self.version_option),
            tls=tls,
            role=self.role,
            situation=situation,
            remarks=[] if remark is None else [(remark.does, remark.link)],
            real=True,
        )
        others = [attrs.evolve(each, peer_saw=saw) for each in either]
        record(_with(row, as_told(report, saw), others))


def agreed(peer: Peer, runs: Runs, key: Key) -> Ending:
    """How it ended: as the RFC says, or else the peer's test module."""
    ending = runs.ending(key)
    right = peer.endings(key)
    if ending.crossed == UNSEEN:
        right = [attrs.evolve(each, crossed=UNSEEN) for each in right]
    assert ending in right
    return ending


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
        return attrs.evolve(row, played=False, remarks=[(reason.why, reason.link)])
    row = attrs.evolve(
        row,
        remarks=[(each.does, each.link) for each in peer.deviations_in(key)],
        said=runs[key].said,
    )
    return _with(row, agreed(peer, runs, key), peer.endings(key))


def _with(row: Row, ending: Ending, either: Sequence[Ending] = ()) -> Row:
    seen: dict[str, Any] = {**cells_of(ending)}
    for other in either:
        for name, cell in cells_of(other).items():
            if cell != seen[name] != UNSEEN:
                seen[name] = VARIES
    return attrs.evolve(row, **seen)


def cells_of(ending: Ending) -> dict[str, str]:
    """What the page says about it, by field."""
    error = ERRORS.get(ending.outcome)
    report = ending.outcome.name + ", secure" * ending.secure
    return {
        "crossed": ending.crossed,
        "report": report + (f", `{error.__name__}`" if error else ""),
        "peer_saw": "" if ending.peer_saw is Saw.NOTHING else ending.peer_saw.value,
    }


def record(row: Row) -> None:
    """Write it down, if a folder is named."""
    write("".join(filter(str.isalnum, row.peer.lower())), row)


def write(name: str, row: attrs.AttrsInstance) -> None:
    """Add a line to the file of this name."""
    folder = os.environ.get(VARIABLE)
    if folder:
        file = Path(folder, f"{name}.jsonl")
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as lines:
            print(json.dumps(attrs.asdict(row)), file=lines)
