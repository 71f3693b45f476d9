"""What a hostile peer can make us spend: bounded memory, bounded time.

What TLS 1.3 allows without a byte of data, the ssl module cannot send: it is
forged.
"""

from __future__ import annotations

import gc
import itertools
import socket
import ssl
import tracemalloc
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from tests.core.session import session
from tests.servers import until
from tests.stream.tickets import NEW_SESSION_TICKET, session_ticket, ticket_body
from tests.support import (
    CA,
    CERT,
    NAME,
    TLS13_FIRST,
    Maker,
    client_context,
    collect,
    server_context,
    tcp_transports,
)
from trio_tlsdown import (
    PeerState,
    ShutdownOutcome,
    ShutdownPolicy,
    TLSFailedError,
    TLSStream,
    TraceEvent,
    TraceKind,
)
from trio_tlsdown._core.engine import MIN_CHUNK
from trio_tlsdown._stream.connection import MAX_ANSWERS, MAX_NOWAIT_READS
from trio_tlsdown._stream.transport import (
    MAX_RECORDS_PER_READ,
    RECEIVE_SIZE,
    NonBlockingSocket,
)
from trio_tlsdown.testing import ScriptedPeer

MockClock = trio.testing.MockClock


# Memory:


def test_tiny_records_cost_little_more_than_their_bytes(tls: Maker) -> None:
    made = session(tls.version)
    records = [made.say(b"xy") for _ in range(5000)]
    tracemalloc.start()
    try:
        for record in records:
            made.engine.feed(record)
        cost, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert made.engine.unread == 10_000
    assert cost < 3 * 10_000
    assert made.engine.take(20_000) == b"xy" * 5000


def test_putting_tiny_records_together_does_not_copy_all_that_came_before(
    tls: Maker,
) -> None:
    made = session(tls.version)
    for _ in range(5000):
        made.engine.feed(made.say(b"xy"))
    assert max(map(len, made.engine._plaintext)) <= MIN_CHUNK


def test_many_small_reads_of_a_big_record_do_not_copy_its_rest_each_time(
    tls: Maker,
) -> None:
    made = session(tls.version)
    made.engine.feed(made.say(b"x" * 16_000))
    made.engine.take(1)
    tracemalloc.start()
    try:
        made.engine.take(1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8000


async def test_what_comes_at_once_from_the_transport_is_bounded(tls: Maker) -> None:
    a, b = await tls.pair()
    for _ in range(2 * RECEIVE_SIZE // 16_000):
        await b.send_all(b"x" * 16_000)
    assert len(await a.receive_some()) <= RECEIVE_SIZE
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


async def test_endless_session_tickets_leave_nothing_behind(tls13: Maker) -> None:
    async with tls13.client_and_bare_server() as (client, server):
        for number in range(2000):
            await server.send(session_ticket(server, number))
        await server.send(server.encrypt(b"at last"))
        assert await client.receive_some() == b"at last"
        assert not client._engine._incoming.pending
        assert not client._engine.output.pending
        assert client.report.outcome is ShutdownOutcome.OPEN


@pytest.mark.parametrize("call", ["send_all", "send_eof", "shutdown", "aclose"])
async def test_half_a_session_ticket_is_waited_for(tls13: Maker, call: str) -> None:
    """OpenSSL neither encrypts nor says goodbye in the middle of a message."""
    body = ticket_body(1)
    message = bytes([NEW_SESSION_TICKET]) + len(body).to_bytes(3, "big") + body
    async with tls13.client_and_bare_server() as (client, server):
        await server.send(server.record(22, message[:20]))
        with trio.move_on_after(0.01):
            await client.receive_some()

        async def say_the_rest() -> None:
            await trio.testing.wait_all_tasks_blocked()
            await server.send(server.record(22, message[20:]))
            await server.send(server.close_notify())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(say_the_rest)
            method = getattr(client, call)
            await (method(b"data") if call == "send_all" else method())
        assert client.report.close_notify_sent is (call != "send_all")


async def test_endless_empty_records_are_refused(tls: Maker) -> None:
    """OpenSSL counts them, so that they cannot keep it busy within one call."""
    async with tls.client_and_bare_server() as (client, server):
        empty = b"".join(server.record(23, b"") for _ in range(100))
        await server.send(empty)
        with pytest.raises(TLSFailedError):
            await client.receive_some()
        assert client.report.outcome is ShutdownOutcome.FAILED
        assert client.report.discarded == 0


async def test_a_few_empty_records_are_no_end(tls13: Maker) -> None:
    """RFC 9846 section 5.1: they may be sent against traffic analysis."""
    async with tls13.client_and_bare_server() as (client, server):
        for _ in range(3):
            await server.send(server.record(23, b""))
        await server.send(server.encrypt(b"data"))
        assert await client.receive_some() == b"data"
        await server.send(server.close_notify())
        assert await client.receive_some() == b""


async def test_who_asks_for_new_keys_and_takes_no_answer_is_not_heard_for_ever(
    tls13: Maker, autojump_clock: MockClock
) -> None:
    """The answers do not pile up: we stop to receive."""
    events: list[TraceEvent] = []
    policy = ShutdownPolicy(timeout=3)
    async with tls13.client_and_bare_server(policy=policy, trace=events.append) as (
        client,
        server,
    ):
        client.transport_stream.send_stream.send_all_hook = trio.sleep_forever
        for _ in range(20_000):
            update = server.key_update(asks_for_ours=True)
            await server.send(update)
        events.clear()
        with trio.move_on_after(1) as scope:
            await client.receive_some()
        assert scope.cancelled_caught
        received = [e.size for e in events if e.kind is TraceKind.BYTES_RECEIVED]
        assert sum(received) <= RECEIVE_SIZE
        assert client._engine.output.pending <= RECEIVE_SIZE


# Time:


def tickets(server: ScriptedPeer) -> Iterator[bytes]:
    return (session_ticket(server, number) for number in itertools.count())


def key_updates(server: ScriptedPeer) -> Iterator[bytes]:
    while True:
        yield server.key_update(asks_for_ours=True)


def a_dripping_record(server: ScriptedPeer) -> Iterator[bytes]:
    return map(bytes, zip(server.encrypt(b"x" * 16_000), strict=True))


def tiny_data(server: ScriptedPeer) -> Iterator[bytes]:
    return map(server.encrypt, itertools.repeat(b"x"))


@pytest.mark.parametrize("noise", [tickets, key_updates, a_dripping_record, tiny_data])
async def test_no_noise_holds_a_shutdown_beyond_its_timeout(
    tls13: Maker, autojump_clock: MockClock, noise: Any
) -> None:
    policy = ShutdownPolicy(timeout=5)
    async with tls13.client_and_bare_server(policy=policy) as (client, server):
        async with trio.open_nursery() as nursery:

            async def make_noise() -> None:
                pieces = noise(server)
                while True:
                    await server.send(next(pieces))
                    await trio.sleep(0.01)

            nursery.start_soon(make_noise)
            report = await client.shutdown()
            nursery.cancel_scope.cancel()
        assert trio.current_time() == pytest.approx(5)
        assert report.outcome is ShutdownOutcome.ABORTED
        assert report.secure
        assert bool(report.discarded) is (noise is tiny_data)


@pytest.mark.parametrize("end", ["aclose", "shutdown"])
async def test_a_handshake_that_drips_does_not_hold_an_ending_beyond_its_timeout(
    tls: Maker, autojump_clock: MockClock, end: str
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    a = TLSStream(
        ours,
        client_context(tls.version),
        server_hostname=NAME,
        policy=ShutdownPolicy(timeout=5),
    )
    async with trio.open_nursery() as nursery:

        async def drip() -> None:
            await theirs.send_all(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc")
            while True:
                await theirs.send_all(b"\x00")
                await trio.sleep(0.1)

        nursery.start_soon(drip)
        await getattr(a, end)()
        assert trio.current_time() == pytest.approx(5)
        nursery.cancel_scope.cancel()
    assert a.report.outcome is ShutdownOutcome.ABORTED
    assert not a.report.secure
    await trio.aclose_forcefully(a)


async def test_a_reader_gets_its_data_although_an_answer_of_tls_cannot_leave(
    tls13: Maker, autojump_clock: MockClock
) -> None:
    """Else a peer that first writes all, then reads, would wait for us for ever."""
    async with tls13.client_and_bare_server() as (client, server):
        client.transport_stream.send_stream.send_all_hook = trio.sleep_forever
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, b"nobody takes this yet")
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(2):
                update = server.key_update(asks_for_ours=True)
                await server.send(update)
            await server.send(server.encrypt(b"all I have to say"))
            with trio.move_on_after(1) as scope:
                assert await client.receive_some() == b"all I have to say"
            nursery.cancel_scope.cancel()
        assert not scope.cancelled_caught


# Records that are no data:

# A renegotiation that OpenSSL refuses, with an alert each time.
CLIENT_HELLO = b"\x03\x03" + bytes(32) + b"\0" + b"\0\2\xc0\x2f" + b"\1\0"


def storm(peer: ScriptedPeer, records: int) -> bytes:
    """Records that ask for an answer each."""
    if peer.tls.version() == "TLSv1.3":
        return b"".join(peer.key_update(asks_for_ours=True) for _ in range(records))
    return b"".join(peer.handshake_message(1, CLIENT_HELLO) for _ in range(records))


@pytest.mark.parametrize("version", TLS13_FIRST)
async def test_answers_are_bounded_while_a_send_is_stuck(tls: Maker) -> None:
    """As trio.SSLStream is: reading stops until they can leave."""
    async with tls.server_and_bare_client() as (server, client):
        pump = server.transport_stream.send_stream.send_all_hook
        gate = trio.Event()

        async def wait_and_pump() -> None:
            await gate.wait()
            await pump()

        server.transport_stream.send_stream.send_all_hook = wait_and_pump
        output = server._engine.output
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_all, b"stuck")
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(server.receive_some)
            for _ in range(10):
                await client.send(storm(client, 1000))
                await trio.testing.wait_all_tasks_blocked()
            assert 2**16 < output.pending < 2**16 + 10_000
            await client.send(client.encrypt(b"and on"))
            gate.set()  # and everything moves again
        assert server._engine.unread == 0
        assert output.pending < 1000


async def test_answers_are_bounded_while_a_pool_looks(tls13: Maker) -> None:
    async with tls13.server_and_bare_client("tcp") as (server, client):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, storm(client, 30_000))
            await trio.testing.wait_all_tasks_blocked(0.01)
            states = set[PeerState]()
            for _ in range(300):
                states.add(server.peer_state_nowait())
                await trio.lowlevel.checkpoint()
            # The client takes none of them; first its kernel does, and then ours.
            assert server._engine.output.pending < 2**16 + 10_000
            assert states <= {PeerState.IDLE, PeerState.UNKNOWN}
            assert server.peer_state_nowait() is PeerState.UNKNOWN
            with trio.fail_after(5):
                while server.peer_state_nowait() is not PeerState.IDLE:
                    await client.receive_ciphertext()  # and everything moves again


@asynccontextmanager
async def another_task() -> AsyncIterator[list[float]]:
    """A task beside, and when it had its turns."""
    turns: list[float] = []

    async def take_turns() -> None:
        while True:
            await trio.lowlevel.checkpoint()
            turns.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_turns)
        yield turns
        nursery.cancel_scope.cancel()


async def test_tiny_records_do_not_keep_other_tasks_waiting(tls: Maker) -> None:
    """However many come at once: a checkpoint after so many of them."""
    async with tls.server_and_bare_client() as (server, client):
        await client.send(storm(client, 10 * MAX_RECORDS_PER_READ))
        await client.send(client.encrypt(b"at last"))
        async with another_task() as steps:
            assert await server.receive_some() == b"at last"
        assert len(steps) >= 10


async def test_a_look_takes_in_only_so_many_records(tls: Maker) -> None:
    ours, theirs = await tcp_transports()
    stream = TLSStream(ours, server_context(tls.version), server_side=True)
    client = tls.peer(theirs, server_side=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.handshake)
        await stream.do_handshake()
    await client.send(
        storm(client, MAX_NOWAIT_READS * MAX_RECORDS_PER_READ) + client.encrypt(b"data")
    )
    await trio.testing.wait_all_tasks_blocked()
    assert stream.peer_state_nowait() is PeerState.UNKNOWN
    assert stream.peer_state_nowait() is PeerState.DATA_WAITING
    await trio.aclose_forcefully(stream)
    await trio.aclose_forcefully(theirs)


async def test_a_reader_gets_its_data_before_it_answers(tls13: Maker) -> None:
    """Nobody is sending, but there is no room to send."""
    async with tls13.client_and_bare_server() as (client, server):
        client.transport_stream.send_stream.send_all_hook = trio.sleep_forever
        await server.send(storm(server, 2) + server.encrypt(b"data"))
        with trio.fail_after(1):
            assert await client.receive_some() == b"data"
        assert client._engine.output.pending


async def test_endless_hello_requests_cost_no_memory_and_hold_no_task(
    tls12: Maker,
) -> None:
    async with tls12.client_and_bare_server() as (client, server):
        requests = b"".join(server.handshake_message(0, b"") for _ in range(1000))
        await server.send(requests)
        async with another_task() as steps:
            with trio.move_on_after(0.2):
                await client.receive_some()
        assert len(steps) >= 1000 // MAX_RECORDS_PER_READ
        assert client._engine.output.pending < MAX_ANSWERS
        assert not client._engine._incoming.pending


# Before anybody is known:


@pytest.mark.parametrize("liar", ["client", "server"])
async def test_a_chain_of_certificates_has_to_be_of_a_sane_size(
    tls: Maker, tmp_path: Path, liar: str
) -> None:
    """OpenSSL takes 100 KiB, and does not wait for what a message says it will have."""
    chain = tmp_path / "chain.pem"
    pem = CERT.private_key_and_cert_chain_pem.bytes()
    chain.write_bytes(pem + CA.cert_pem.bytes() * 500)
    contexts = {
        "client": client_context(tls.version),
        "server": server_context(tls.version),
    }
    contexts["server"].verify_mode = ssl.CERT_REQUIRED
    CA.configure_trust(contexts["server"])
    contexts[liar].load_cert_chain(chain)
    ours, theirs = await tcp_transports()
    streams = {
        "client": TLSStream(ours, contexts["client"], server_hostname=NAME),
        "server": TLSStream(theirs, contexts["server"], server_side=True),
    }

    async def lie() -> None:
        with suppress(trio.BrokenResourceError):
            await streams[liar].receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lie)
        [victim] = streams.keys() - {liar}
        with pytest.raises(TLSFailedError) as caught:
            await streams[victim].do_handshake()
        nursery.cancel_scope.cancel()
    assert isinstance(caught.value.__cause__, ssl.SSLError)
    assert caught.value.__cause__.reason == "EXCESSIVE_MESSAGE_SIZE"
    for stream in streams.values():
        await trio.aclose_forcefully(stream)


async def test_endless_warnings_before_the_handshake_are_refused(tls: Maker) -> None:
    """CVE-2016-8610: each of them is cheap to send, and may not be ignored for ever."""
    ours, theirs = trio.testing.memory_stream_pair()
    server = TLSStream(ours, server_context(tls.version), server_side=True)
    warning = b"\x15\x03\x01\x00\x02" + bytes([1, 90])
    await theirs.send_all(warning * 100)
    with pytest.raises(TLSFailedError), trio.fail_after(5):
        await server.do_handshake()
    await trio.aclose_forcefully(server)


@asynccontextmanager
async def answer_without_room(
    tls: Maker, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[TLSStream[trio.SocketStream], ScriptedPeer, Room]]:
    """A server over TCP that has to answer a KeyUpdate, and cannot yet."""
    ours, theirs = await tcp_transports()
    stream = TLSStream(ours, server_context(tls.version), server_side=True)
    peer = tls.peer(theirs, server_side=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.handshake)
        await stream.do_handshake()
    room = Room(NonBlockingSocket.send)
    room.fill(monkeypatch)
    await peer.send(storm(peer, 2))
    await trio.testing.wait_all_tasks_blocked()
    yield stream, peer, room
    await trio.aclose_forcefully(stream)
    await trio.aclose_forcefully(theirs)


@attrs.define
class Room:
    """Whether the kernel takes anything."""

    real_send: Callable[[NonBlockingSocket, bytes], int]
    free: bool = False

    def fill(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def send(sock: NonBlockingSocket, data: bytes) -> int:
            return self.real_send(sock, data) if self.free else 0

        monkeypatch.setattr(NonBlockingSocket, "send", send)


@pytest.mark.parametrize("beside", ["nobody", "a task that waits for room"])
@pytest.mark.parametrize("last", ["room", "data"])
async def test_an_answer_leaves_while_a_reader_waits_and_does_not_keep_it(
    tls13: Maker, monkeypatch: pytest.MonkeyPatch, last: str, beside: str
) -> None:
    received: list[bytes] = []
    async with answer_without_room(tls13, monkeypatch) as (stream, peer, room):
        output = stream._engine.output
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(collect, received, stream.receive_some)
                await until(lambda: output.pending)
                if beside != "nobody":
                    nursery.start_soon(stream.wait_send_all_might_not_block)
                if last == "data":
                    await peer.send(peer.encrypt(b"data"))
                else:
                    room.free = True
                    await until(lambda: not output.pending)
                    nursery.cancel_scope.cancel()
        assert received == ([b"data"] if last == "data" else [])
        assert stream._state.can_send  # no answer was cut


async def test_nobody_has_to_know_how_an_answer_is_waited_for(
    tls13: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is a nursery in it, and its groups stay there."""
    caught: list[BaseException] = []
    async with answer_without_room(tls13, monkeypatch) as (stream, _, _):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                async def receive() -> None:
                    try:
                        await stream.receive_some()
                    except BaseException as exc:
                        caught.append(exc)
                        raise

                nursery.start_soon(receive)
                await until(lambda: stream._engine.output.pending)
                scope.cancel()
    assert [type(error) for error in caught] == [trio.Cancelled]


async def test_a_reader_that_could_not_answer_leaves_nothing_to_the_garbage_collector(
    tls13: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    gc.collect()
    gc.disable()
    try:
        async with answer_without_room(tls13, monkeypatch) as (stream, _, _):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(stream.receive_some)
                    await until(partial(getattr, stream._records.lock, "locked"))
                    scope.cancel()
        session = weakref.ref(stream._engine.ssl_object)
        del stream, nursery
        await trio.lowlevel.checkpoint()
        assert session() is None
    finally:
        gc.enable()


async def test_an_answer_that_can_never_leave_is_dropped(
    tls13: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A send was cut: who receives must not try to send it on and on."""
    async with answer_without_room(tls13, monkeypatch) as (stream, _, room):
        monkeypatch.setattr(
            NonBlockingSocket,
            "wait_writable",
            lambda _: trio.sleep_forever(),  # noqa: ASYNC105
        )
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.send_all, bytes(20_000_000))
                await trio.testing.wait_all_tasks_blocked(0.01)
                assert stream.peer_state_nowait() is PeerState.IDLE
                scope.cancel()
        room.free = True
        assert not stream._state.can_send
        assert not stream._engine.output.pending


async def test_what_came_before_the_end_can_be_read_although_nothing_can_leave(
    tls: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = await tcp_transports()
    policy = ShutdownPolicy(timeout=0)
    stream = TLSStream(
        ours, server_context(tls.version), server_side=True, policy=policy
    )
    peer = tls.peer(theirs, server_side=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.handshake)
        await stream.do_handshake()
    await peer.send(peer.encrypt(b"hello") + peer.close_notify())
    await trio.testing.wait_all_tasks_blocked()
    assert stream.peer_state_nowait() is PeerState.DATA_WAITING
    Room(NonBlockingSocket.send).fill(monkeypatch)
    await stream.aclose()
    assert not stream.report.close_notify_sent
    assert await stream.receive_some() == b"hello"
    assert await stream.receive_some() == b""
    await trio.aclose_forcefully(theirs)


@pytest.mark.parametrize("waits", [False, True])
async def test_a_peer_that_reads_only_when_it_has_sent_all_is_served(
    tls13: Maker, *, waits: bool
) -> None:
    """It asks for new keys amid that, and a task of ours sends all the time.

    Whoever reads has data in hand, and must not wait for the turn to answer.
    """
    size = 5_000_000
    ours, theirs = await tcp_transports()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 50_000)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 50_000)
    stream = TLSStream(ours, server_context(tls13.version), server_side=True)
    peer = tls13.peer(theirs, server_side=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.handshake)
        await stream.do_handshake()
    received = 0
    reading = False

    async def send() -> None:
        while True:
            if waits:
                await stream.wait_send_all_might_not_block()
            await stream.send_all(bytes(3_000_000 if reading else 1000))

    async def receive() -> None:
        nonlocal received
        while received < size:
            received += len(await stream.receive_some())
        nursery.cancel_scope.cancel()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.sleep(0.1)  # until there is no more room to send
            nursery.start_soon(receive)
            reading = True
            await trio.testing.wait_all_tasks_blocked(0.01)
            await peer.send(peer.key_update() + peer.key_update())
            for _ in range(size // 10_000):
                await peer.send(peer.encrypt(bytes(10_000)))
    assert received == size
    await trio.aclose_forcefully(stream)
    await trio.aclose_forcefully(theirs)
