"""peer_state_nowait(): may a pool use this connection again?"""

from __future__ import annotations

import itertools
import os

import pytest
import trio
import trio.testing

from tests.support import NAME, Maker, client_context
from trio_tlsdown import PeerState, TLSStream
from trio_tlsdown.testing import BEHAVIOURS, connect_rogue, tcp_transports
from trio_tlsdown.testing._transports import reset

from .tickets import session_ticket


async def test_a_peer_that_says_nothing_is_idle(tls: Maker) -> None:
    a, b = await tls.pair("tcp")
    assert a.peer_state_nowait() is PeerState.IDLE
    assert b.peer_state_nowait() is PeerState.IDLE
    await a.aclose()
    await b.aclose()


async def test_data_that_wait_are_seen_and_not_lost(tls: Maker) -> None:
    a, b = await tls.pair("tcp")
    await b.send_all(b"an answer to nothing")
    for _ in range(2):
        assert a.peer_state_nowait() is PeerState.DATA_WAITING
    assert await a.receive_some() == b"an answer to nothing"
    assert a.peer_state_nowait() is PeerState.IDLE
    await a.aclose()
    await b.aclose()


async def test_session_tickets_are_no_data(tls13: Maker) -> None:
    """To a socket they are: that it is readable says nothing."""
    async with tls13.client_and_bare_server("tcp") as (a, _):
        assert a.transport_stream.socket.is_readable()
        assert a.peer_state_nowait() is PeerState.IDLE
        assert not a.transport_stream.socket.is_readable()
        assert a.session is not None
        assert a.session.has_ticket


async def test_tickets_without_end_do_not_keep_us(
    tls13: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "RECEIVE_SIZE", "SMALL_RECEIVE_SIZE":
        monkeypatch.setattr(f"trio_tlsdown._stream.transport.{name}", 1000)
    async with tls13.client_and_bare_server("tcp") as (a, server):
        for number in range(100):
            await server.send(session_ticket(server, number))
        assert a.peer_state_nowait() is PeerState.UNKNOWN


async def test_a_look_takes_four_reads_at_most(tls13: Maker) -> None:
    async with tls13.client_and_bare_server() as (a, server):
        await server.send(server.encrypt(b"behind its own tickets"))
        await a.receive_some()
        looks = itertools.count()

        def receive_some_nowait(_: int) -> bytes:
            return session_ticket(server, next(looks))

        a._records._receive_some_nowait = receive_some_nowait
        assert a.peer_state_nowait() is PeerState.UNKNOWN
        assert next(looks) == 4


async def test_a_look_takes_in_nothing_more_while_data_or_an_end_is_there(
    tls: Maker,
) -> None:
    for last in "data", "close_notify":
        async with tls.client_and_bare_server("tcp") as (a, server):
            await server.send(
                server.encrypt(b"x") if last == "data" else server.close_notify()
            )
            await trio.lowlevel.wait_readable(a.transport_stream.socket)
            while (seen := a.peer_state_nowait()) is PeerState.IDLE:
                # Only session tickets have come.
                await trio.lowlevel.checkpoint()  # pragma: no cover
            await server.send(b"more")
            await trio.lowlevel.wait_readable(a.transport_stream.socket)
            assert a.peer_state_nowait() is seen
            assert await a.transport_stream.receive_some() == b"more"


async def test_what_a_look_owes_to_the_peer_leaves_at_once(tls13: Maker) -> None:
    """The answer to a KeyUpdate; OpenSSL gives it when it reads the next."""
    async with tls13.client_and_bare_server("tcp") as (a, server):
        asked = server.key_update() + server.key_update()
        await server.send(asked + server.encrypt(b"x"))
        while a.peer_state_nowait() is PeerState.IDLE:
            # Only session tickets have come.
            await trio.lowlevel.checkpoint()  # pragma: no cover
        with trio.fail_after(5):
            assert await server.transport.receive_some()


async def test_a_peer_that_said_goodbye_has_closed(tls: Maker) -> None:
    a, b = await tls.pair("tcp")
    await b.send_all(b"and this")
    await b.shutdown(wait=False)
    assert a.peer_state_nowait() is PeerState.DATA_WAITING
    await a.receive_some()
    assert a.peer_state_nowait() is PeerState.CLOSED
    assert a.report.close_notify_received
    await a.aclose()
    await b.aclose()


@pytest.mark.parametrize("how", ["cut", "reset", "fatal alert"])
async def test_a_peer_that_has_gone_is_broken(tls: Maker, how: str) -> None:
    async with tls.client_and_bare_server("tcp") as (a, peer):
        assert a.peer_state_nowait() is PeerState.IDLE
        match how:
            case "cut":
                await peer.cut()
            case "reset":
                await reset(peer.transport)
            case _:
                await peer.send(peer.alert(2, 80))
        for _ in range(2):
            assert a.peer_state_nowait() is PeerState.BROKEN
        assert a.report.error is not None


async def test_a_connection_that_cannot_send_any_more_is_broken(tls: Maker) -> None:
    a, b = await tls.pair("tcp")
    with trio.move_on_after(0.01) as scope:
        await a.send_all(bytes(2**24))
    assert scope.cancelled_caught
    assert a.peer_state_nowait() is PeerState.BROKEN
    await b.send_all(b"this can be read")
    assert a.peer_state_nowait() is PeerState.DATA_WAITING
    assert await a.receive_some() == b"this can be read"
    await b.send_eof(allow_tls12=True)
    assert (await a.shutdown()).close_notify_received
    assert a.peer_state_nowait() is PeerState.CLOSED
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


async def test_beside_a_parked_reader_peer_state_is_what_is_known(tls: Maker) -> None:
    async with tls.client_and_bare_server("tcp") as (a, peer):
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                assert await a.receive_some() == b"for the reader"

            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            # Without a checkpoint: the reader shall not be faster.
            assert isinstance(peer.transport, trio.SocketStream)
            os.write(peer.transport.socket.fileno(), peer.encrypt(b"for the reader"))
            assert a.peer_state_nowait() is PeerState.IDLE
        assert a.peer_state_nowait() is PeerState.IDLE


IN_HANDSHAKE = [name for name, each in BEHAVIOURS.items() if each.in_handshake]
# What is told while our side has said nothing, and then behind our close_notify.
STATES = {
    "cut_before_close_notify": (PeerState.BROKEN, PeerState.BROKEN),
    "cut_after_close_notify": (PeerState.IDLE, PeerState.BROKEN),
    "cut_inside_record": (PeerState.BROKEN, PeerState.BROKEN),
    "reset_before_close_notify": (PeerState.BROKEN, PeerState.BROKEN),
    "reset_after_close_notify": (PeerState.IDLE, PeerState.BROKEN),
    "never_answer": (PeerState.IDLE, PeerState.IDLE),
    "answer_late": (PeerState.IDLE, PeerState.IDLE),
    "slow_drip": (PeerState.IDLE, PeerState.IDLE),  # the first byte of a record
    "keep_sending_after_close_notify": (PeerState.IDLE, PeerState.DATA_WAITING),
    "flood": (PeerState.DATA_WAITING, PeerState.DATA_WAITING),
    "close_without_waiting": (PeerState.CLOSED, PeerState.CLOSED),
    "second_close_notify": (PeerState.CLOSED, PeerState.CLOSED),
    "data_after_close_notify": (PeerState.CLOSED, PeerState.CLOSED),
    "cleartext_after_close_notify": (PeerState.CLOSED, PeerState.CLOSED),
    "garbage_after_close_notify": (PeerState.CLOSED, PeerState.CLOSED),
    "fatal_alert": (PeerState.BROKEN, PeerState.BROKEN),
    "bad_record": (PeerState.BROKEN, PeerState.BROKEN),
    "fatal_close_notify": (PeerState.CLOSED, PeerState.CLOSED),
    "user_canceled_first": (PeerState.CLOSED, PeerState.CLOSED),
}
# In TLS 1.2 a fatal level makes an error of it: RFC 5246 section 7.2.
STATES_TLS12 = STATES | {"fatal_close_notify": (PeerState.BROKEN, PeerState.BROKEN)}


@pytest.mark.parametrize("server_side", [True, False], ids=["server", "client"])
@pytest.mark.parametrize("name", STATES)
async def test_the_peer_state_of_every_rogue_in_memory_is_known(
    tls: Maker, nursery: trio.Nursery, name: str, server_side: bool
) -> None:
    connection = await connect_rogue(
        nursery, name, server_side=server_side, version=tls.version
    )
    stream = connection.stream
    await stream.do_handshake()
    await trio.testing.wait_all_tasks_blocked()
    idle, ended = (STATES_TLS12 if tls.version == "TLSv1.2" else STATES)[name]
    assert stream.peer_state_nowait() is idle
    await stream.shutdown(wait=False)
    await trio.testing.wait_all_tasks_blocked()
    assert stream.peer_state_nowait() is ended
    await trio.aclose_forcefully(stream)


def test_the_other_rogues_never_shake_hands() -> None:
    assert sorted([*STATES, *IN_HANDSHAKE]) == sorted(BEHAVIOURS)


async def test_over_a_transport_that_is_no_socket_peer_state_is_what_was_received(
    tls: Maker,
) -> None:
    a, b = await tls.pair()
    assert a.peer_state_nowait() is PeerState.UNKNOWN
    await b.send_all(b"ab")
    await a.receive_some(1)
    assert a.peer_state_nowait() is PeerState.DATA_WAITING
    await a.receive_some(1)
    await b.shutdown(wait=False)
    assert await a.receive_some() == b""
    assert a.peer_state_nowait() is PeerState.CLOSED
    await a.aclose()
    await b.aclose()


async def test_there_is_no_peer_state_before_the_handshake_or_after_closing(
    tls: Maker,
) -> None:
    transport, theirs = await tcp_transports()
    a = TLSStream(transport, client_context(tls.version), server_hostname=NAME)
    with pytest.raises(trio.NeedHandshakeError):
        a.peer_state_nowait()
    await trio.aclose_forcefully(a)
    with pytest.raises(trio.ClosedResourceError):
        a.peer_state_nowait()
    await theirs.aclose()
