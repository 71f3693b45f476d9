"""The trace compared with what dumpcap and tshark saw.

The four scenarios are those of ``trio-tlsdown demo``: its pictures are drawn
from these traces.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

import attrs
import pytest
import trio

from trio_tlsdown import TraceEvent, TraceKind
from trio_tlsdown.cli import _stage
from trio_tlsdown.cli._scenarios import SCENARIOS, run
from trio_tlsdown.cli._stage import SIDES, VERSIONS, Party, Version, open_stage

from .capture import CLOSE_NOTIFY, Connections, Packet, witness
from .signs import Sign, by, bytes_sent, on_the_wire, told

HOST: Final = "127.1.0.2"  # an address of our own


@attrs.frozen
class Story:
    """The signs of a scenario."""

    sent: list[Sign]
    """On the wire: every close_notify, and the first end of the transport. (After a reset
    there is no second.) ``>`` is by A."""

    heard: dict[Party, list[str]]
    """In the trace: what each party received before it closed."""


# From RFC 9846 section 6.1 and what the scenarios say.
STORIES: Final[dict[str, Story]] = {
    **dict.fromkeys(
        ("1a", "1b"),
        Story([("<", "FIN"), (">", CLOSE_NOTIFY)], {"A": ["FIN"], "B": []}),
    ),
    "2": Story(
        [(">", CLOSE_NOTIFY), ("<", "FIN")], {"A": ["FIN"], "B": [CLOSE_NOTIFY]}
    ),
    # B closes without having read A's close_notify.
    "2 reset": Story([(">", CLOSE_NOTIFY), ("<", "RST")], {"A": ["RST"], "B": []}),
    "3": Story(
        [(">", CLOSE_NOTIFY), ("<", CLOSE_NOTIFY), (">", "FIN")],
        {"A": [CLOSE_NOTIFY], "B": [CLOSE_NOTIFY, "FIN"]},
    ),
    **dict.fromkeys(
        ("4a", "4b"),
        Story(
            [(">", CLOSE_NOTIFY), (">", "FIN"), ("<", CLOSE_NOTIFY)],
            {"A": [], "B": [CLOSE_NOTIFY]},
        ),
    ),
}


@attrs.frozen
class Witnessed:
    """One connection: what both parties traced, and what went over the wire."""

    events: Sequence[TraceEvent]
    ports: dict[Party, int]
    packets: Sequence[Packet] = ()

    def by(self, party: Party) -> list[TraceEvent]:
        """Its trace."""
        return [event for event in self.events if event.side == SIDES[party]]

    def signs(self) -> list[Sign]:
        """What went over the wire, in order; ``>`` is by A."""
        return on_the_wire(self.packets, self.ports["A"])

    def until_the_transport_ends(self) -> list[Sign]:
        """Every alert, and the first FIN or RST."""
        signs = self.signs()
        end = next(sign for sign in signs if "alert" not in sign[1])
        return [sign for sign in signs if "alert" in sign[1] or sign is end]


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


def test_every_scenario_of_the_demo_has_a_witness() -> None:
    assert set(SCENARIOS) | {"2 reset"} == set(STORIES)


def test_the_wire_shows_what_the_scenario_is_about(
    runs: Runs, key: tuple[str, Version]
) -> None:
    assert runs[key].until_the_transport_ends() == STORIES[key[0]].sent


def test_what_a_party_says_it_did_went_over_the_wire_in_that_order(
    runs: Runs, key: tuple[str, Version]
) -> None:
    closed = TraceKind.TRANSPORT_CLOSED
    first = next(event for event in runs[key].events if event.kind is closed)
    assert [
        (">" if event.side == SIDES["A"] else "<", event is not first)
        for event in runs[key].events
        if event.kind is TraceKind.CLOSE_NOTIFY_SENT or event is first
    ] == [
        (party, sign == CLOSE_NOTIFY)
        for party, sign in runs[key].until_the_transport_ends()
    ]


@pytest.mark.parametrize(("party", "other"), [("A", "<"), ("B", ">")])
def test_what_a_party_says_it_received_the_other_sent_in_that_order(
    runs: Runs, key: tuple[str, Version], party: Party, other: Literal["<", ">"]
) -> None:
    heard = by("<", told(runs[key].by(party)))
    assert heard == STORIES[key[0]].heard[party]
    assert heard == by(other, runs[key].signs())[: len(heard)]


@pytest.mark.parametrize("party", ["A", "B"])
def test_the_trace_counts_the_bytes_that_went_over_the_wire(
    runs: Runs, key: tuple[str, Version], party: Party
) -> None:
    count = sum(
        event.size
        for event in runs[key].by(party)
        if event.kind is TraceKind.BYTES_SENT
    )
    assert count == bytes_sent(runs[key].packets, runs[key].ports[party]) > 0


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
