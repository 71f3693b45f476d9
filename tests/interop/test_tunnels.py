"""TLS that nginx, HAProxy or stunnel terminates in front of a plain server.

Ours is the client.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

import pytest
import trio
import trio.testing

from harness.process import stop
from tests.support import VERSIONS, Maker
from trio_tlsdown import TruncatedError
from trio_tlsdown._stream.linger import unacknowledged, unread

from . import haproxy, nginx, stunnel, we
from .capture import CLOSE_NOTIFY, Connections, witness
from .data import DATA, digest
from .endings import TABLE, Saw, check
from .tunnels import ASKED, ENDINGS, Event, Kind, Tunnel, all_from, tunnel

KINDS = [*nginx.KINDS, *haproxy.KINDS, *stunnel.KINDS]
MUCH = DATA * 8


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    result: Kind = request.param
    return result


@pytest.fixture
async def through(kind: Kind, tls: Maker, tmp_path: Path) -> AsyncIterator[Tunnel]:
    """A connection through a program to the plain server behind it."""
    async with tunnel(kind, tls.version, tmp_path) as result:
        yield result


SEEN = {"FIN": Saw.CLOSE_NOTIFY, "RST": Saw.RESET}


async def end_of(server: trio.SocketStream) -> str:
    """How the connection ended for the plain server."""
    try:
        assert await server.receive_some() == b""
    except trio.BrokenResourceError:
        return "RST"
    return "FIN"


def test_a_deviation_is_none_that_is_asked_for(kind: Kind) -> None:
    for event, deviation in kind.deviations.items():
        assert deviation.ending != ASKED[event]


@pytest.mark.parametrize("event", ENDINGS)
async def test_a_tunnel_and_we_agree_how_it_ended(
    kind: Kind, tls: Maker, through: Tunnel, event: Event
) -> None:
    await ENDINGS[event](through)
    check(through.ours.report, kind.ending(event))
    await through.ours.aclose()
    check(through.ours.report, kind.ending(event))
    kind.ended(tls.version, event, through.ours.report)


# We end:


async def test_the_server_behind_a_tunnel_sees_the_end_when_we_close_without_waiting(
    kind: Kind, tls: Maker, through: Tunnel
) -> None:
    await through.ours.shutdown(wait=False)
    await through.ours.aclose()
    check(through.ours.report, "4A")
    end = await end_of(through.server)
    assert end == "FIN"
    kind.ended(
        tls.version,
        "we close without waiting",
        through.ours.report,
        SEEN[end],
    )


async def test_the_server_behind_a_tunnel_answers_after_our_half_close(
    kind: Kind, through: Tunnel
) -> None:
    await through.ours.send_all(b"question")
    await through.ours.send_eof(allow_tls12=True)
    assert await all_from(through.server) == b"question"
    with suppress(trio.BrokenResourceError):
        await through.server.send_all(b"answer")
    await through.server.aclose()
    answer = await all_from(through.ours)
    assert answer == (b"answer" if kind.half_closes else b"")
    await through.ours.shutdown()
    check(through.ours.report, kind.ending("we half-close"))


BREAKS: Final[Mapping[Event, we.Part]] = {
    "we cut": we.close_the_transport,
    "we cut a record": we.cut_a_record,
    "we reset": we.reset_it,
}


@pytest.mark.parametrize("event", BREAKS)
async def test_the_server_behind_a_tunnel_sees_that_we_abort(
    kind: Kind, tls: Maker, through: Tunnel, event: Event
) -> None:
    await BREAKS[event](through.ours, through.program)
    check(through.ours.report, "1B")
    end = await end_of(through.server)
    assert end == kind.ending(event)
    kind.ended(tls.version, event, through.ours.report, SEEN[end])


# The program ends:

says_goodbye = pytest.mark.parametrize(
    "kind",
    [kind for kind in KINDS if kind.ending("the server behind closes") == "3B"],
    ids=lambda kind: kind.name,
)


@says_goodbye
async def test_a_tunnel_shuts_down_and_we_cut(
    kind: Kind, tls: Maker, through: Tunnel
) -> None:
    await through.server.aclose()
    await we.read_and_close_the_transport(through.ours, through.program)
    check(through.ours.report, "2B")
    kind.ended(tls.version, "it shuts down, we cut", through.ours.report)


@says_goodbye
async def test_we_answer_after_the_server_behind_a_tunnel_has_half_closed(
    kind: Kind, tls: Maker, through: Tunnel
) -> None:
    await through.server.send_eof()
    assert await through.ours.receive_some() == b""
    with suppress(trio.BrokenResourceError):
        await through.ours.send_all(b"answer")
    await through.ours.shutdown()
    check(through.ours.report, "3B")
    answer = await all_from(through.server)
    assert answer == (b"" if kind.drops_an_answer else b"answer")
    kind.program.ended(
        tls.version, "it half-closes", through.ours.report, remark=kind.drops_an_answer
    )


async def test_a_tunnel_is_killed(kind: Kind, tls: Maker, through: Tunnel) -> None:
    through.program.process.kill()
    await through.program.ended.wait()
    await through.ours.shutdown()
    check(through.ours.report, "1A")
    assert isinstance(through.ours.report.error, TruncatedError)
    assert not through.ours.report.error.mid_record
    kind.ended(tls.version, "it is killed", through.ours.report)


async def test_a_tunnel_is_killed_before_it_reads_our_close_notify(
    kind: Kind, tls: Maker, through: Tunnel
) -> None:
    stop(through.program)
    await through.ours.shutdown(wait=False)
    through.program.process.kill()
    await through.ours.shutdown()
    check(through.ours.report, "2A reset")
    kind.ended(tls.version, "it is killed before it reads", through.ours.report)


async def all_buffers_full(through: Tunnel) -> None:
    """Nothing has moved, neither here nor there, since the last look."""
    before: object = None
    while True:
        await trio.testing.wait_all_tasks_blocked(0.05)
        now = (
            unread(through.ours.transport_stream.socket),
            unacknowledged(through.server.socket),
        )
        if now == before:
            return
        before = now


async def test_a_tunnel_is_killed_while_much_data_is_on_its_way(
    kind: Kind, tls: Maker, through: Tunnel
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(through.server.send_all, MUCH)
        await all_buffers_full(through)
        nursery.cancel_scope.cancel()
    through.program.process.kill()
    received = await all_from(through.ours)
    assert len(received) < len(MUCH)
    assert MUCH.startswith(received)
    await through.ours.shutdown()
    check(through.ours.report, "1A")
    assert isinstance(through.ours.report.error, TruncatedError)
    assert through.ours.report.error.mid_record is kind.stalls_in_a_record
    if kind.stalls_in_a_record:
        kind.ended(tls.version, "it is killed inside a record", through.ours.report)


# Much data:


async def test_what_we_sent_right_before_shutting_down_arrives_behind_a_tunnel(
    kind: Kind, tls: Maker, through: Tunnel
) -> None:
    async def send_and_shut_down() -> None:
        await through.ours.send_all(MUCH)
        await through.ours.shutdown()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_and_shut_down)
        assert digest(await all_from(through.server)) == digest(MUCH)
        await through.server.aclose()
    check(through.ours.report, kind.ending("8 MiB to it"))
    kind.ended(tls.version, "8 MiB to it", through.ours.report, Saw.CLOSE_NOTIFY)


async def test_what_we_sent_right_before_closing_arrives_behind_a_tunnel(
    through: Tunnel,
) -> None:
    async def send_and_close() -> None:
        await through.ours.send_all(MUCH)
        await we.shut_down_and_close_at_once(through.ours, through.program)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_and_close)
        assert digest(await all_from(through.server)) == digest(MUCH)
    check(through.ours.report, "4A")


async def test_what_the_server_behind_a_tunnel_sent_right_before_closing_arrives(
    kind: Kind, tls: Maker, through: Tunnel
) -> None:
    async def send_and_close() -> None:
        await through.server.send_all(MUCH)
        await through.server.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_and_close)
        assert digest(await all_from(through.ours)) == digest(MUCH)
    await through.ours.shutdown()
    check(through.ours.report, kind.ending("8 MiB from it"))
    kind.ended(tls.version, "8 MiB from it", through.ours.report)


# What went over the wire:

CLIENT: Final = "127.1.0.3"  # an address of our own address

Key: TypeAlias = tuple[Kind, str, Event]
Alerts: TypeAlias = Mapping[Key, str]
KEYS: Final[list[Key]] = [
    (kind, version, event)
    for kind in KINDS
    for version in VERSIONS
    for event in ENDINGS
]


async def play_and_capture(folder: Path) -> Alerts:
    """The close_notify alerts on the wire, in order; ``>`` is ours."""
    connections: dict[Key, tuple[int, int]] = {}

    async def play_all(secrets: Path) -> Connections:
        for key in KEYS:
            kind, version, event = key
            place = folder / str(len(connections))
            place.mkdir()
            async with tunnel(kind, version, place, secrets, CLIENT) as through:
                socket = through.ours.transport_stream.socket
                connections[key] = socket.getsockname()[1], socket.getpeername()[1]
                await ENDINGS[event](through)
        return connections.values()

    packets = await witness(folder, play_all, only=f"host {CLIENT}")
    return {
        key: "".join(
            ">" if packet.source == ports[0] else "<"
            for packet in seen
            for record in packet.records
            if record == CLOSE_NOTIFY
        )
        for (key, ports), seen in zip(connections.items(), packets, strict=True)
    }


@pytest.fixture(scope="module")
def alerts(tmp_path_factory: pytest.TempPathFactory) -> Alerts:
    return trio.run(play_and_capture, tmp_path_factory.mktemp("capture"))


@pytest.mark.parametrize("key", KEYS, ids=lambda key: "-".join([key[0].name, *key[1:]]))
def test_the_wire_shows_the_alerts_that_our_report_tells_of(
    alerts: Alerts, key: Key
) -> None:
    kind, _, event = key
    assert alerts[key] == TABLE[kind.ending(event)].our_alerts
