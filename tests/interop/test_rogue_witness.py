"""Whether a rogue does what its behaviour says, as dumpcap and tshark show.

The other party is OpenSSL alone, with the certificates of the test kit.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal, TypeAlias

import attrs
import pytest
import trio

from tests.support import VERSIONS
from trio_tlsdown.testing import (
    BEHAVIOURS,
    NAME,
    RoguePeer,
    _behaviours,
    client_context,
    server_context,
    tcp_transports,
)

from .capture import CLOSE_NOTIFY, UNREADABLE, Connections, Packet, witness
from .plain import Plain

# Shorter than the behaviours have them: seconds, seconds a byte, bytes.
LATE: Final = 0.1
DRIP: Final = 0.002
FLOOD: Final = 2**18

HOST: Final = "127.1.0.1"  # an address of our own

# Seconds that the other party goes on: exact where silence is the point; elsewhere more
# than needed, so that only a rogue that does less fails.
BEARS: Final = 0.1
WAITS: Final = 2

Party: TypeAlias = Literal["rogue", "other"]
Sign: TypeAlias = tuple[Party, str]


def rogue(*signs: str) -> list[Sign]:
    return [("rogue", sign) for sign in signs]


def other(*signs: str) -> list[Sign]:
    return [("other", sign) for sign in signs]


DATA: Final = "data 16384"
PART: Final = "part of a record"

HEADER: Final = struct.Struct(">BHH")  # RFC 9846 section 5.1: type, version, length
TYPES: Final = {22, 23}  # handshake, application_data
VERSIONS_OF_RECORDS: Final = {0x0301, 0x0303}

# What each party sends after the handshake, in order: every record that is not a
# handshake record; bytes that are no record; FIN; and the first RST. Written from the
# docstrings of the behaviours.
ANSWER: Final = [*other(CLOSE_NOTIFY, "FIN"), *rogue("FIN")]
LOOKS: Final[dict[str, list[Sign]]] = {
    "cut_in_handshake": [*rogue(PART, "FIN"), *other("FIN")],
    "stall_in_handshake": [*rogue(PART), *other("FIN"), *rogue("FIN")],
    "cut_before_close_notify": [*rogue("FIN"), *other("FIN")],
    "cut_after_close_notify": [*other(CLOSE_NOTIFY), *rogue("FIN"), *other("FIN")],
    "cut_inside_record": [*rogue(PART, "FIN"), *other("FIN")],
    "reset_before_close_notify": rogue("RST"),
    "reset_after_close_notify": [*other(CLOSE_NOTIFY), *rogue("RST")],
    "never_answer": [*other(CLOSE_NOTIFY, "FIN"), *rogue("FIN")],
    "answer_late": [
        *other(CLOSE_NOTIFY),
        *rogue(CLOSE_NOTIFY),
        *other("FIN"),
        *rogue("FIN"),
    ],
    "slow_drip": [*rogue("data 4", CLOSE_NOTIFY), *ANSWER],
    "keep_sending_after_close_notify": [
        *other(CLOSE_NOTIFY),
        *rogue(*[DATA] * 10, CLOSE_NOTIFY),
        *other("FIN"),
        *rogue("FIN"),
    ],
    "flood": [*rogue(*[DATA] * (FLOOD // 2**14), CLOSE_NOTIFY), *ANSWER],
    "close_without_waiting": [
        *rogue(CLOSE_NOTIFY, "FIN"),
        *other(CLOSE_NOTIFY),
        *rogue("RST"),
    ],
    "second_close_notify": [*rogue(CLOSE_NOTIFY, CLOSE_NOTIFY), *ANSWER],
    "data_after_close_notify": [*rogue(CLOSE_NOTIFY, "data 8"), *ANSWER],
    "cleartext_after_close_notify": [
        *rogue(CLOSE_NOTIFY, "220 clear text\r\n"),
        *ANSWER,
    ],
    "garbage_after_close_notify": [
        *rogue(CLOSE_NOTIFY, "100 bytes of no record"),
        *ANSWER,
    ],
    "fatal_alert": [*rogue("alert 2/80", "FIN"), *other("FIN")],
    # The other party answers with bad_record_mac.
    "bad_record": [*rogue(UNREADABLE), *other("alert 2/20", "FIN"), *rogue("FIN")],
    "fatal_close_notify": [*rogue("alert 2/0"), *ANSWER],
    "user_canceled_first": [*rogue("alert 1/90", CLOSE_NOTIFY), *ANSWER],
}

# OpenSSL understands it, and does not answer.
LOOKS_OF_TLS12: Final[dict[str, list[Sign]]] = {
    "fatal_close_notify": [*rogue("alert 2/0"), *other("FIN"), *rogue("FIN")],
}

# They wait for the other party to end.
SILENT: Final = {"never_answer", "stall_in_handshake"}


@attrs.frozen
class Witnessed:
    """What went over the wire between a rogue and another party."""

    port: int
    """The rogue's."""

    packets: list[Packet]

    def by(self, party: Party) -> list[Packet]:
        return [packet for packet in self.packets if self._sender(packet) == party]

    def signs(self) -> list[Sign]:
        signs: list[Sign] = []
        for packet in self.packets:
            party = self._sender(packet)
            signs += [(party, record) for record in packet.records]
            if packet.size and packet is self.last(party):
                signs += [(party, sign) for sign in self._rest(party)]
            signs += [(party, "FIN")] * packet.fin
            if packet.reset:
                return [*signs, (party, "RST")]
        return signs

    def last(self, party: Party) -> Packet:
        """The last packet that has a payload."""
        return [packet for packet in self.by(party) if packet.size][-1]

    def _rest(self, party: Party) -> list[str]:
        """What this party sent after the last whole record."""
        packets = self.by(party)
        sent = b"".join(packet.payload for packet in packets)
        rest = sent[sum(packet.in_records for packet in packets) :]
        if not rest:
            return []
        content_type, version, length = HEADER.unpack_from(rest)
        if content_type in TYPES and version in VERSIONS_OF_RECORDS:
            assert length > len(rest) - HEADER.size
            return [PART]
        text = rest.isascii()
        return [rest.decode() if text else f"{len(rest)} bytes of no record"]

    def when(self, party: Party, sign: str) -> float:
        """When a record was sent, in seconds, or ``FIN``."""
        return next(
            packet.time
            for packet in self.by(party)
            if sign in (*packet.records, "FIN" if packet.fin else "")
        )

    def _sender(self, packet: Packet) -> Party:
        return "rogue" if packet.source == self.port else "other"


Key: TypeAlias = tuple[str, str, str]
SIDES: Final = ("client", "server")
KEYS: Final[list[Key]] = [
    (name, version, side)
    for name in BEHAVIOURS
    for version in VERSIONS
    for side in SIDES
]


async def play(key: Key, secrets: Path) -> tuple[int, int]:
    """Run a rogue against the other party; return the ports of client and server."""
    name, version, side = key
    client, server = await tcp_transports(HOST)
    ports = client.socket.getsockname()[1], server.socket.getsockname()[1]
    if side == "client":
        peer = RoguePeer(name, client, server_side=False, version=version)
        context = server_context(version=version)
        # A client that closes with unread tickets resets the connection.
        context.num_tickets = 0
        party = Plain.server(server, context)
    else:
        peer = RoguePeer(name, server, version=version)
        context = client_context(version=version)
        party = Plain.client(client, context, NAME)
    context.keylog_filename = str(secrets)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.run)
        with trio.move_on_after(BEARS if name in SILENT else WAITS):
            await party.run(closes_first=LOOKS[name][0] == ("other", CLOSE_NOTIFY))
    return ports


async def play_and_capture(folder: Path) -> dict[Key, Witnessed]:
    """Play all behaviours under one capture."""
    ports: dict[Key, tuple[int, int]] = {}

    async def play_all(secrets: Path) -> Connections:
        for key in KEYS:
            with trio.fail_after(2 * WAITS):
                ports[key] = await play(key, secrets)
        return ports.values()

    packets = await witness(folder, play_all, only=f"host {HOST}")
    return {
        key: Witnessed(both[SIDES.index(key[2])], seen)
        for (key, both), seen in zip(ports.items(), packets, strict=True)
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[Key, Witnessed]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_behaviours, "LATE", LATE)
        patch.setattr(_behaviours, "DRIP", DRIP)
        patch.setattr(_behaviours, "FLOOD", FLOOD)
        return trio.run(play_and_capture, tmp_path_factory.mktemp("capture"))


def of(name: str) -> pytest.MarkDecorator:
    """Parametrise with each run of a behaviour."""
    keys = [key for key in KEYS if key[0] == name]
    return pytest.mark.parametrize("key", keys, ids="-".join)


def test_every_behaviour_has_a_witness() -> None:
    assert set(LOOKS) == set(BEHAVIOURS)


@pytest.mark.parametrize("key", KEYS, ids="-".join)
def test_the_wire_shows_what_the_behaviour_says(
    runs: dict[Key, Witnessed], key: Key
) -> None:
    name, version, _ = key
    looks = LOOKS | LOOKS_OF_TLS12 if version == "TLSv1.2" else LOOKS
    assert runs[key].signs() == looks[name]


def test_the_docstrings_tell_the_pauses_and_the_sizes() -> None:
    told = {name: BEHAVIOURS[name].description for name in BEHAVIOURS}
    assert f"after {_behaviours.LATE:g} s" in told["answer_late"]
    assert f"one byte every {_behaviours.DRIP * 1000:g} ms" in told["slow_drip"]
    assert f"{_behaviours.FLOOD // 2**20} MiB" in told["flood"]


@of("answer_late")
def test_a_late_answer_is_late(runs: dict[Key, Witnessed], key: Key) -> None:
    run = runs[key]
    assert run.when("rogue", CLOSE_NOTIFY) - run.when("other", CLOSE_NOTIFY) >= LATE


@of("slow_drip")
def test_each_packet_of_a_slow_drip_has_one_byte(
    runs: dict[Key, Witnessed], key: Key
) -> None:
    packets = runs[key].by("rogue")
    drops = [packet for packet in packets if packet.size == 1]
    assert all(p.size <= 1 for p in packets[packets.index(drops[0]) :])
    assert all(b.time - a.time >= DRIP for a, b in pairwise(drops))


@of("never_answer")
def test_a_rogue_that_never_answers_is_silent_until_the_other_party_closes(
    runs: dict[Key, Witnessed], key: Key
) -> None:
    run = runs[key]
    assert run.when("other", "FIN") - run.when("other", CLOSE_NOTIFY) >= BEARS / 2


@of("stall_in_handshake")
def test_a_rogue_that_stalls_in_the_handshake_is_silent_until_the_other_party_closes(
    runs: dict[Key, Witnessed], key: Key
) -> None:
    run = runs[key]
    assert run.when("other", "FIN") - run.last("rogue").time >= BEARS / 2
