"""The scenarios, live, as a program that imports them sees them."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from trio_tlsdown import ShutdownOutcome, TraceKind, TruncatedError
from trio_tlsdown.cli._expected import EXPECTED, differences
from trio_tlsdown.cli._marks import OTHER, marks_of
from trio_tlsdown.cli._record import Side
from trio_tlsdown.cli._rows import Shape, rows_of
from trio_tlsdown.cli._scenarios import SCENARIOS, ScenarioRun, run
from trio_tlsdown.cli._stage import SIDES, VERSIONS, Stage, Version, open_stage

HANDSHAKE = TraceKind.HANDSHAKE_DONE
SENT = TraceKind.CLOSE_NOTIFY_SENT
RECEIVED = TraceKind.CLOSE_NOTIFY_RECEIVED
FIN = TraceKind.FIN_RECEIVED
CLOSED = TraceKind.TRANSPORT_CLOSED

SEEN: dict[str, dict[Side, list[TraceKind]]] = {
    "1a": {
        "client": [HANDSHAKE, SENT, FIN, CLOSED],
        "server": [HANDSHAKE, CLOSED],
    },
    "1b": {
        "client": [HANDSHAKE, FIN, SENT, CLOSED],
        "server": [HANDSHAKE, CLOSED],
    },
    "2": {
        "client": [HANDSHAKE, SENT, FIN, CLOSED],
        "server": [HANDSHAKE, RECEIVED, CLOSED],
    },
    "3": {
        "client": [
            *(HANDSHAKE, SENT, RECEIVED, TraceKind.UNWRAPPED),
            *(TraceKind.BYTES_SENT, TraceKind.BYTES_RECEIVED, CLOSED),
        ],
        "server": [
            *(HANDSHAKE, RECEIVED, SENT, TraceKind.UNWRAPPED),
            *(TraceKind.BYTES_RECEIVED, TraceKind.BYTES_SENT, FIN, CLOSED),
        ],
    },
    "4a": {
        "client": [HANDSHAKE, SENT, CLOSED],
        "server": [HANDSHAKE, RECEIVED, SENT, CLOSED],
    },
    "4b": {
        "client": [HANDSHAKE, SENT, TraceKind.CANCELLED, CLOSED],
        "server": [HANDSHAKE, RECEIVED, SENT, CLOSED],
    },
}
every_scenario = pytest.mark.parametrize("scenario", list(SCENARIOS))
every_version = pytest.mark.parametrize("version", list(VERSIONS))


def alerts(played: ScenarioRun, shape: Shape) -> list[Side]:
    return [
        row.mark.side
        for row in rows_of(played.events)
        if row.shape is shape and row.mark.kind is SENT
    ]


@every_scenario
@every_version
async def test_each_scenario_ends_as_it_should(scenario: str, version: Version) -> None:
    played = await run(scenario, version)
    assert differences(played) == []
    assert {
        party: (report.outcome, report.secure)
        for party, report in played.reports.items()
    } == {
        party: (EXPECTED[scenario, party].outcome, EXPECTED[scenario, party].secure)
        for party in SIDES
    }


@every_scenario
@every_version
async def test_each_party_sees_the_scenario_in_order(
    scenario: str, version: Version
) -> None:
    played = await run(scenario, version)
    for side in SIDES.values():
        marks = marks_of(played.events)
        seen = [mark.kind for mark in marks if mark.side == side]
        assert seen == SEEN[scenario][side]


@every_scenario
@every_version
async def test_the_alerts_cross_in_order_or_are_lost(
    scenario: str, version: Version
) -> None:
    played = await run(scenario, version)
    senders = [side for side in SIDES.values() if SENT in SEEN[scenario][side]]
    arrived = [side for side in senders if RECEIVED in SEEN[scenario][OTHER[side]]]
    assert alerts(played, Shape.ARROW) == arrived
    assert alerts(played, Shape.LOST) == [s for s in senders if s not in arrived]
    for party, report in played.reports.items():
        seen = SEEN[scenario][SIDES[party]]
        assert report.close_notify_sent is (SENT in seen)
        assert report.close_notify_received is (RECEIVED in seen)


@every_version
async def test_a_cut_is_an_error_in_the_report(version: Version) -> None:
    for scenario in ("1a", "1b", "2"):
        played = await run(scenario, version)
        assert isinstance(played.reports["A"].error, TruncatedError)
        assert played.reports["B"].error is None


async def test_all_that_was_seen_was_seen_after_the_beginning() -> None:
    played = await run("3", "1.3")
    times = [event.time for event in played.events]
    assert played.began <= times[0]
    assert times == sorted(times)


async def test_the_ports_tell_which_connection_it_was() -> None:
    played = await run("2", "1.3")
    assert set(played.ports) == {"A", "B"}
    assert len(set(played.ports.values())) == 2


async def test_a_scenario_that_there_is_not_is_an_error() -> None:
    with pytest.raises(KeyError):
        await run("5", "1.3")


async def test_a_step_that_goes_otherwise_is_noted() -> None:
    async with open_stage("1.3") as stage:
        stage.check("what A reads", b"", b"")
        stage.check("what B reads", b"x", b"")
        assert stage.surprises == ["what B reads: b'x', not b''"]


async def test_a_party_that_reads_data_instead_of_the_end_is_a_surprise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    play = SCENARIOS["2"].play

    async def send_first(stage: Stage) -> None:
        await stage.a.send_all(b"data")
        await play(stage)

    data_first = attrs.evolve(SCENARIOS["2"], play=send_first)
    monkeypatch.setitem(SCENARIOS, "2", data_first)
    played = await run("2", "1.3")
    assert played.surprises == ("what B reads: b'data', not b''",)
    assert differences(played)[0] == "what B reads: b'data', not b''"


@every_version
async def test_the_secrets_of_the_sessions_can_be_logged(
    version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(log))
    played = await run("3", version)
    assert played.reports["A"].outcome is ShutdownOutcome.COMPLETE
    label = "CLIENT_RANDOM" if version == "1.2" else "CLIENT_TRAFFIC_SECRET_0"
    assert any(line.startswith(label) for line in log.read_text().splitlines())
