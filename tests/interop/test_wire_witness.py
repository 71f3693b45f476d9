"""The trace compared with what dumpcap and tshark saw.

The four scenarios are those of ``trio-tlsdown demo``: its pictures are drawn
from these traces.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeAlias

import attrs
import pytest
import trio

from trio_tlsdown import TraceEvent, TraceKind
from trio_tlsdown.cli import _stage
from trio_tlsdown.cli._scenarios import SCENARIOS, run
from trio_tlsdown.cli._stage import SIDES, VERSIONS, Party, Version, open_stage

from .capture import CLOSE_NOTIFY, Connections, Packet, witness

HOST: Final = "127.1.0.2"  # an address of our own


class Sign(enum.Enum):
    """What ends a direction, or a connection."""

    CLOSE_NOTIFY = "close_notify"
    FIN = "FIN"
    RST = "RST"


Seen: TypeAlias = list[tuple[Party, Sign]]


@attrs.frozen
class Story:
    """The signs of a scenario."""

    sent: Seen
    """On the wire: every close_notify, and the first end of the transport. (After a reset
    there is no second.)"""

    heard: dict[Party, list[Sign]]
    """In the trace: what each party received before it closed."""


# From RFC 9846 section 6.1 and what the scenarios say.
STORIES: Final[dict[str, Story]] = {
    **dict.fromkeys(
        ("1a", "1b"),
        Story(
            [("B", Sign.FIN), ("A", Sign.CLOSE_NOTIFY)],
            {"A": [Sign.FIN], "B": []},
        ),
    ),
    "2": Story(
        [("A", Sign.CLOSE_NOTIFY), ("B", Sign.FIN)],
        {"A": [Sign.FIN], "B": [Sign.CLOSE_NOTIFY]},
    ),
    # B closes without having read A's close_notify.
    "2 reset": Story(
        [("A", Sign.CLOSE_NOTIFY), ("B", Sign.RST)],
        {"A": [Sign.RST], "B": []},
    ),
    "3": Story(
        [("A", Sign.CLOSE_NOTIFY), ("B", Sign.CLOSE_NOTIFY), ("A", Sign.FIN)],
        {"A": [Sign.CLOSE_NOTIFY], "B": [Sign.CLOSE_NOTIFY, Sign.FIN]},
    ),
    **dict.fromkeys(
        ("4a", "4b"),
        Story(
            [("A", Sign.CLOSE_NOTIFY), ("A", Sign.FIN), ("B", Sign.CLOSE_NOTIFY)],
            {"A": [], "B": [Sign.CLOSE_NOTIFY]},
        ),
    ),
}

RECEIVED: Final = {
    TraceKind.CLOSE_NOTIFY_RECEIVED: Sign.CLOSE_NOTIFY,
    TraceKind.FIN_RECEIVED: Sign.FIN,
    TraceKind.RESET_RECEIVED: Sign.RST,
}
PARTIES: Final[dict[str, Party]] = {side: party for party, side in SIDES.items()}


@attrs.frozen
class Witnessed:
    """One connection: what both parties traced, and what went over the wire."""

    events: Sequence[TraceEvent]
    ports: dict[Party, int]
    packets: Sequence[Packet] = ()

    def told(self) -> list[tuple[Party, bool]]:
        """What each party did, according to the trace: close_notify, or the end."""
        return [
            (PARTIES[event.side], event.kind is TraceKind.CLOSE_NOTIFY_SENT)
            for event in self.events
            if event.kind is TraceKind.CLOSE_NOTIFY_SENT
            or event is self._first(TraceKind.TRANSPORT_CLOSED)
        ]

    def _first(self, kind: TraceKind) -> TraceEvent:
        return next(event for event in self.events if event.kind is kind)

    def heard(self, party: Party) -> list[Sign]:
        """What this party received, according to the trace."""
        return [
            sign
            for event in self.events
            for kind, sign in RECEIVED.items()
            if event.side == SIDES[party] and event.kind is kind
        ]

    def signs(self) -> Seen:
        """What went over the wire, in order."""
        seen: Seen = []
        for packet in self.packets:
            party = self._sender(packet)
            alerts = [record for record in packet.records if "alert" in record]
            assert set(alerts) <= {CLOSE_NOTIFY}, "an alert that is not close_notify"
            seen += [(party, Sign.CLOSE_NOTIFY)] * len(alerts)
            seen += [(party, Sign.FIN)] * packet.fin
            seen += [(party, Sign.RST)] * packet.reset
        return seen

    def bytes_told(self, party: Party) -> int:
        """How many bytes this party sent, according to its trace."""
        return sum(
            event.size
            for event in self.events
            if event.side == SIDES[party] and event.kind is TraceKind.BYTES_SENT
        )

    def bytes_seen(self, party: Party) -> int:
        """How many bytes this party sent, each counted once."""
        return sum(
            packet.size for packet in self.packets if self._sender(packet) == party
        )

    def _sender(self, packet: Packet) -> Party:
        return "A" if packet.source == self.ports["A"] else "B"


async def play(scenario: str, version: Version) -> Witnessed:
    if scenario == "2 reset":
        return await play_2_reset(version)
    played = await run(scenario, version)
    assert not played.surprises
    return Witnessed(played.events, played.ports)


async def play_2_reset(version: Version) -> Witnessed:
    """Scenario 2, in which B closes without having read A's close_notify."""
    async with open_stage(version) as stage:
        await stage.a.shutdown(wait=False)
        await trio.lowlevel.wait_readable(stage.b.transport_stream.socket)
        await trio.aclose_forcefully(stage.b)
        await stage.a.shutdown()
        await stage.a.aclose()
        return Witnessed(stage.record.events, stage.ports)


Runs: TypeAlias = dict[tuple[str, Version], Witnessed]


async def play_and_capture(folder: Path) -> Runs:
    """Play all scenarios under one capture."""
    runs: Runs = {}

    async def play_all(secrets: Path) -> Connections:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SSLKEYLOGFILE", os.fspath(secrets))
            patch.setattr(_stage, "LOOPBACK", HOST)
            for scenario in STORIES:
                for version in VERSIONS:
                    runs[scenario, version] = await play(scenario, version)
        return [(run.ports["A"], run.ports["B"]) for run in runs.values()]

    packets = await witness(folder, play_all, only=f"host {HOST}")
    return {
        key: attrs.evolve(run, packets=seen)
        for (key, run), seen in zip(runs.items(), packets, strict=True)
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return trio.run(play_and_capture, tmp_path_factory.mktemp("capture"))


@pytest.fixture(
    params=[(scenario, version) for scenario in STORIES for version in VERSIONS],
    ids="-".join,
)
def key(request: pytest.FixtureRequest) -> tuple[str, Version]:
    """Each scenario in each version of TLS."""
    result: tuple[str, Version] = request.param
    return result


def until_the_transport_ends(signs: Seen) -> Seen:
    """Every close_notify, and the first FIN or RST."""
    end = next(sign for sign in signs if sign[1] is not Sign.CLOSE_NOTIFY)
    return [sign for sign in signs if sign[1] is Sign.CLOSE_NOTIFY or sign is end]


def test_every_scenario_of_the_demo_has_a_witness() -> None:
    assert set(SCENARIOS) | {"2 reset"} == set(STORIES)


def test_the_wire_shows_what_the_scenario_is_about(
    runs: Runs, key: tuple[str, Version]
) -> None:
    assert until_the_transport_ends(runs[key].signs()) == STORIES[key[0]].sent


def test_what_a_party_says_it_did_went_over_the_wire_in_that_order(
    runs: Runs, key: tuple[str, Version]
) -> None:
    seen = until_the_transport_ends(runs[key].signs())
    assert runs[key].told() == [
        (party, sign is Sign.CLOSE_NOTIFY) for party, sign in seen
    ]


@pytest.mark.parametrize(("party", "other"), [("A", "B"), ("B", "A")])
def test_what_a_party_says_it_received_the_other_sent_in_that_order(
    runs: Runs, key: tuple[str, Version], party: Party, other: Party
) -> None:
    heard = runs[key].heard(party)
    assert heard == STORIES[key[0]].heard[party]
    sent = [sign for sender, sign in runs[key].signs() if sender == other]
    assert heard == sent[: len(heard)]


@pytest.mark.parametrize("party", ["A", "B"])
def test_the_trace_counts_the_bytes_that_went_over_the_wire(
    runs: Runs, key: tuple[str, Version], party: Party
) -> None:
    assert runs[key].bytes_told(party) == runs[key].bytes_seen(party) > 0


def test_a_capture_that_is_not_allowed_skips_the_test(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("dumpcap", "tshark"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho You may not. >&2\nexit 1\n")
        program.chmod(0o700)
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    monkeypatch.delenv("TLSDOWN_REQUIRE_PEERS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="You may not"):
        trio.run(play_and_capture, tmp_path)
