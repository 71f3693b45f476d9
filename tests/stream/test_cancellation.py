"""What a cancellation leaves behind, wherever it strikes."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeAlias

import attrs
import pytest
import trio
import trio.testing

from tests.support import (
    TLS13_FIRST,
    Maker,
    cancel_when_blocked,
    must_raise,
    shake_hands,
)
from trio_tlsdown import ShutdownOutcome, ShutdownPolicy, TLSFailedError, TLSStream
from trio_tlsdown.testing import Cancellation, cancel_everywhere

MemoryTransport: TypeAlias = trio.StapledStream[
    trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream
]

# Application data under keys that nobody has.
NO_RECORD = b"\x17\x03\x03\x00\x20" + bytes(32)


class Steps(trio.abc.Stream):
    """A transport that takes steps before and after it passes something on."""

    def __init__(self, inner: MemoryTransport) -> None:
        self.inner = inner
        self.slow = False
        self.stuck = False
        self.unstick = trio.Event()
        self.closed_at_once = False

    async def _step(self) -> None:
        if self.slow:
            for _ in range(3):
                await trio.lowlevel.checkpoint()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.slow:  # then nobody knows any more whether a part of it left
            assert trio.current_effective_deadline() > -math.inf, "sent too late"
        await self._step()
        if self.stuck:
            await self.unstick.wait()
        await self.inner.send_all(data)
        if self.slow:
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        await self.unstick.wait()
        await self._step()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        await self._step()
        data = await self.inner.receive_some(max_bytes)
        if self.stuck:
            await self.unstick.wait()
        return data

    async def aclose(self) -> None:
        self.closed_at_once = trio.current_effective_deadline() == -math.inf
        # No checkpoint, as Trio's rules would have it: who relies on one?
        self.inner.send_stream.close()
        self.inner.receive_stream.close()


@attrs.frozen
class Stepped:
    stream: TLSStream[Steps]
    peer: TLSStream[Any]

    async def hold_the_turn_to_send(self) -> None:
        """As a task does that answers a KeyUpdate.

        The transport's `unstick` ends it some steps later.
        """
        lock = self.stream._connection.records.lock
        await lock.acquire()
        try:
            await self.stream.transport_stream.wait_send_all_might_not_block()
        finally:
            lock.release()


@asynccontextmanager
async def stepped(tls: Maker) -> AsyncIterator[Stepped]:
    ours, theirs = trio.testing.memory_stream_pair()
    steps = Steps(ours)
    stream, peer = tls.wrap((steps, theirs))
    await shake_hands(stream, peer)
    steps.slow = True
    yield Stepped(stream, peer)
    steps.slow = False
    await trio.aclose_forcefully(stream)
    await trio.aclose_forcefully(peer)


async def peer_saw_close_notify(peer: TLSStream[Any]) -> bool:
    """What has arrived at the peer by now."""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                with suppress(trio.BrokenResourceError):
                    await peer.receive_some()

            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    return peer.report.close_notify_received


ENDINGS: dict[str, Callable[[TLSStream[Any]], Awaitable[object]]] = {
    "send_eof": lambda stream: stream.send_eof(allow_tls12=True),
    "shutdown": lambda stream: stream.shutdown(wait=False),
    "aclose": lambda stream: stream.aclose(),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("lock_is_held", [False, True])
async def test_a_close_notify_is_reported_sent_only_if_the_peer_gets_it(
    tls: Maker, ending: str, *, lock_is_held: bool
) -> None:
    """Cancelled at every point, also while another task has its turn to send."""

    async def scenario(cancellation: Cancellation) -> None:
        async with stepped(tls) as pair:
            async with trio.open_nursery() as nursery:
                if lock_is_held:
                    nursery.start_soon(pair.hold_the_turn_to_send)
                    await trio.testing.wait_all_tasks_blocked()
                    pair.stream.transport_stream.unstick.set()
                with cancellation:
                    await ENDINGS[ending](pair.stream)
                nursery.cancel_scope.cancel()
            saw = await peer_saw_close_notify(pair.peer)
            assert pair.stream.report.close_notify_sent is saw
            assert saw or cancellation.cancelled

    assert await cancel_everywhere(scenario) >= 3


async def test_a_second_half_close_does_not_pretend(tls: Maker) -> None:
    """Either it sends what the first could not, or it says that this is broken."""
    outcomes = set()

    async def scenario(cancellation: Cancellation) -> None:
        async with stepped(tls) as pair:
            stream = pair.stream
            with cancellation:
                await stream.send_eof(allow_tls12=True)
            try:
                await stream.send_eof(allow_tls12=True)
            except trio.BrokenResourceError:
                outcomes.add("broken")
                assert not await peer_saw_close_notify(pair.peer)
                assert stream.report.outcome is ShutdownOutcome.ABORTED
                with pytest.raises(trio.BrokenResourceError):
                    await stream.send_all(b"x")
                assert not (await stream.shutdown()).close_notify_sent
            else:
                outcomes.add("sent")
                assert await peer_saw_close_notify(pair.peer)

    assert await cancel_everywhere(scenario) >= 3
    assert outcomes == {"broken", "sent"}


@pytest.mark.parametrize("ending", ["send_eof", "shutdown"])
async def test_an_ending_that_is_cancelled_before_it_began_leaves_sending_alone(
    tls: Maker, ending: str
) -> None:
    async with stepped(tls) as pair:
        with trio.CancelScope() as scope:
            scope.cancel()
            await ENDINGS[ending](pair.stream)
        assert scope.cancelled_caught
        await pair.stream.send_all(b"on and on")
        assert await pair.peer.receive_some() == b"on and on"
        assert not await peer_saw_close_notify(pair.peer)


async def test_a_half_close_that_is_cancelled_before_its_turn_is_sent_by_the_next(
    tls: Maker,
) -> None:
    async with stepped(tls) as pair, trio.open_nursery() as nursery:
        nursery.start_soon(pair.hold_the_turn_to_send)
        await trio.testing.wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_when_blocked, scope)
            await pair.stream.send_eof(allow_tls12=True)
        assert scope.cancelled_caught
        assert pair.stream.report.outcome is ShutdownOutcome.OPEN
        pair.stream.transport_stream.unstick.set()
        await pair.stream.send_eof(allow_tls12=True)
        assert pair.stream.report.close_notify_sent
        assert await peer_saw_close_notify(pair.peer)


async def test_what_another_task_has_sent_is_not_taken_for_our_close_notify(
    tls: Maker,
) -> None:
    """It was on its way when send_eof() was called, which waits behind it."""
    async with stepped(tls) as pair, trio.open_nursery() as nursery:
        pair.stream.transport_stream.stuck = True
        pair.stream._engine.encrypt(b"an answer of TLS")
        nursery.start_soon(pair.stream._connection.flush)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(partial(pair.stream.send_eof, allow_tls12=True))
        await trio.testing.wait_all_tasks_blocked()
        first = pair.stream.transport_stream.unstick
        pair.stream.transport_stream.unstick = trio.Event()
        first.set()
        assert await pair.peer.receive_some() == b"an answer of TLS"
        await trio.testing.wait_all_tasks_blocked()
        assert not await peer_saw_close_notify(pair.peer)
        assert pair.stream.report.outcome is ShutdownOutcome.OPEN
        pair.stream.transport_stream.unstick.set()
        await trio.testing.wait_all_tasks_blocked()
        assert await peer_saw_close_notify(pair.peer)
        assert pair.stream.report.close_notify_sent


async def test_a_close_notify_on_its_way_leaves_although_tls_fails(
    tls: Maker,
) -> None:
    """And is reported: the peer gets it, and no alert behind it."""
    async with stepped(tls) as pair, trio.open_nursery() as nursery:
        pair.stream.transport_stream.stuck = True
        nursery.start_soon(partial(pair.stream.send_eof, allow_tls12=True))
        await trio.testing.wait_all_tasks_blocked()
        pair.stream.transport_stream.unstick.set()
        pair.stream.transport_stream.stuck = False
        await pair.peer.transport_stream.send_all(NO_RECORD)
        with pytest.raises(TLSFailedError):
            await pair.stream.receive_some()
        assert await peer_saw_close_notify(pair.peer)
        assert pair.stream.report.close_notify_sent
        assert pair.stream.report.outcome is ShutdownOutcome.FAILED


@pytest.mark.parametrize("call", ["send_all", "send_eof"])
async def test_what_waits_for_its_turn_is_not_sent_if_tls_fails(
    tls: Maker, call: str
) -> None:
    """The fatal alert takes its place: RFC 9846 section 6.2."""
    async with stepped(tls) as pair, trio.open_nursery() as nursery:
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "send_all": partial(pair.stream.send_all, b"never sent"),
            "send_eof": partial(pair.stream.send_eof, allow_tls12=True),
        }

        async def send() -> None:
            with pytest.raises(TLSFailedError):
                await calls[call]()

        nursery.start_soon(pair.hold_the_turn_to_send)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        await pair.peer.transport_stream.send_all(NO_RECORD)
        with pytest.raises(TLSFailedError):
            await pair.stream.receive_some()
        pair.stream.transport_stream.unstick.set()
        with pytest.raises(TLSFailedError):
            await pair.peer.receive_some()
        assert not pair.stream.report.close_notify_sent


@pytest.mark.parametrize("fails_first", [False, True])
@pytest.mark.parametrize("ending", ["shutdown", "aclose"])
async def test_nothing_follows_a_record_that_was_cut(
    tls: Maker,
    autojump_clock: trio.testing.MockClock,
    ending: str,
    *,
    fails_first: bool,
) -> None:
    """Neither an alert nor a close_notify: the peer would take them for its rest."""
    autojump_clock.autojump_threshold = 0.05
    fin = ShutdownPolicy(reset_on_abort=False)  # so that all that left arrives
    a, b = await tls.pair("tcp", client={"policy": fin})
    theirs = b.transport_stream
    async with trio.open_nursery() as nursery:

        async def fail() -> None:
            await theirs.send_all(NO_RECORD)
            with pytest.raises(TLSFailedError):
                await a.receive_some()

        with trio.CancelScope() as scope:
            async with trio.open_nursery() as cancelled:
                cancelled.start_soon(a.send_all, bytes(20_000_000))
                await trio.sleep(1)
                if fails_first:
                    await fail()
                scope.cancel()
        with trio.move_on_after(1):  # the kernel's buffers are emptied
            while True:
                await theirs.receive_some()
        if not fails_first:
            await fail()
        await ENDINGS[ending](a)
        await trio.aclose_forcefully(a)
        nursery.cancel_scope.cancel()
    follows = await theirs.receive_some()
    await trio.aclose_forcefully(b)
    assert follows == b""
    assert a.report.outcome is ShutdownOutcome.FAILED
    assert not a.report.close_notify_sent


async def test_a_goodbye_on_tcp_waits_for_its_turn_too(tls: Maker) -> None:
    a, b = await tls.pair("tcp")
    lock = a._connection.records.lock
    await lock.acquire()
    assert not a._connection.send_close_notify_nowait()
    assert a.report.outcome is ShutdownOutcome.OPEN
    lock.release()
    await a.aclose()
    assert a.report.close_notify_sent
    assert await b.receive_some() == b""
    await b.aclose()


async def test_a_cancelled_receive_loses_nothing(tls: Maker) -> None:
    async def scenario(cancellation: Cancellation) -> None:
        async with stepped(tls) as pair:
            received = bytearray()

            async def receive() -> None:
                received.extend(await pair.stream.receive_some(7))

            await pair.peer.send_all(b"every byte ")
            with cancellation:
                await receive()
            await pair.peer.send_all(b"counts")
            while len(received) < len(b"every byte counts"):
                await receive()
            assert received == b"every byte counts"

    assert await cancel_everywhere(scenario) >= 3


async def test_a_cancelled_shutdown_is_aborted_and_can_go_on(tls: Maker) -> None:
    async def scenario(cancellation: Cancellation) -> None:
        async with stepped(tls) as pair:
            await pair.peer.send_all(b"for later")
            await pair.peer.shutdown(wait=False)
            with cancellation:
                await pair.stream.shutdown()
            if cancellation.cancelled:
                before = pair.stream.report
                assert before.outcome is ShutdownOutcome.ABORTED
                assert before.secure is before.close_notify_sent
            report = await pair.stream.shutdown()
            received = b""
            async for chunk in pair.stream:
                received += chunk
            assert received == b"for later"
            if report.close_notify_sent:
                assert pair.stream.report.outcome is ShutdownOutcome.COMPLETE
            else:
                assert pair.stream.report.outcome is ShutdownOutcome.ABORTED

    assert await cancel_everywhere(scenario) >= 6


@pytest.mark.parametrize("version", TLS13_FIRST)
async def test_a_cancelled_send_never_looks_whole(tls: Maker) -> None:
    """What the peer reads before a clean end is all or nothing."""
    data = b"x" * 600_000  # more than one slice

    async def scenario(cancellation: Cancellation) -> None:
        async with stepped(tls) as pair:
            with cancellation:
                await pair.stream.send_all(data)
            await pair.stream.shutdown(wait=False)
            await pair.stream.aclose()
            received = b""
            try:
                async for chunk in pair.peer:
                    received += chunk
            except trio.BrokenResourceError:
                assert cancellation.cancelled
            else:
                assert received in {b"", data}

    assert await cancel_everywhere(scenario) >= 9


@pytest.mark.parametrize("size", [5, 600_000])
async def test_a_send_that_is_cancelled_before_its_turn_has_not_happened(
    tls: Maker, size: int
) -> None:
    async with stepped(tls) as pair, trio.open_nursery() as nursery:
        nursery.start_soon(pair.hold_the_turn_to_send)
        await trio.testing.wait_all_tasks_blocked()
        pair.stream.transport_stream.unstick.set()
        with Cancellation(2) as cancellation:  # 1: it waits; 2: it goes on
            await pair.stream.send_all(b"x" * size)
        assert cancellation.cancelled
        nursery.start_soon(pair.stream.aclose)
        assert await pair.peer.receive_some() == b""
    assert pair.stream.report.outcome is ShutdownOutcome.SENT


async def test_a_shutdown_behind_a_record_that_was_cut_waits_for_nothing(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    async with stepped(tls) as pair, trio.open_nursery() as nursery:
        pair.stream.transport_stream.stuck = True
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_when_blocked, scope)
            await pair.stream.send_all(b"never whole")
        assert scope.cancelled_caught
        report = await pair.stream.shutdown()
        assert trio.current_time() == 0
        assert report.outcome is ShutdownOutcome.ABORTED
        assert not report.secure


async def test_receiving_goes_on_after_a_send_was_cut(tls: Maker) -> None:
    a, b = await tls.pair("lockstep")
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(0) as scope:
            await a.send_all(b"")
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_when_blocked, scope)
            await a.send_all(b"x" * 100)
        assert scope.cancelled_caught
        with pytest.raises(trio.BrokenResourceError, match="cancelled half-way"):
            await a.send_all(b"x")
        nursery.start_soon(b.send_all, b"still to be had")
        assert await a.receive_some() == b"still to be had"
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


async def test_a_cancelled_handshake_breaks_the_stream_for_all_who_wait(
    tls: Maker,
) -> None:
    a, b = tls.wrap(trio.testing.memory_stream_pair())

    async def wait() -> None:
        with pytest.raises(trio.BrokenResourceError, match="cut short"):
            await a.receive_some()

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as cancelled:
                cancelled.start_soon(a.do_handshake)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
    assert a.report.outcome is ShutdownOutcome.ABORTED
    with pytest.raises(trio.BrokenResourceError):
        await a.send_all(b"x")
    await a.aclose()
    await trio.aclose_forcefully(b)


async def test_a_cancelled_aclose_has_closed(tls: Maker) -> None:
    async def scenario(cancellation: Cancellation) -> None:
        async with stepped(tls) as pair:
            with cancellation:
                await pair.stream.aclose()
            with pytest.raises(trio.ClosedResourceError):
                await pair.stream.receive_some()
            with pytest.raises(trio.ClosedResourceError):
                await pair.stream.transport_stream.inner.receive_some()
            assert pair.stream.report.outcome in {
                ShutdownOutcome.SENT,
                ShutdownOutcome.ABORTED,
            }

    assert await cancel_everywhere(scenario) >= 3


async def test_a_transport_that_took_no_goodbye_is_closed_at_once(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    """It may be a stream that would say goodbye itself, to the same deaf peer."""
    async with stepped(tls) as pair:
        await pair.stream.aclose()
        assert not pair.stream.transport_stream.closed_at_once
    async with stepped(tls) as pair:
        pair.stream.transport_stream.stuck = True
        await pair.stream.aclose()
        assert trio.current_time() == 5
        assert pair.stream.transport_stream.closed_at_once


async def test_a_stream_that_is_closed_while_a_reader_is_about_to_take_gives_nothing(
    tls: Maker,
) -> None:
    """So that what the report says is discarded stays so."""
    a, b = await tls.pair()
    await b.send_all(b"data")
    await a.receive_some(1)

    class CloseAtSecondStep(trio.abc.Instrument):
        steps = 0

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            self.steps += 1
            if self.steps == 2:
                a._connection.mark_closed()

    instrument = CloseAtSecondStep()
    trio.lowlevel.add_instrument(instrument)
    await trio.lowlevel.checkpoint()
    with pytest.raises(trio.ClosedResourceError):
        await a.receive_some()
    trio.lowlevel.remove_instrument(instrument)
    assert a.report.discarded == len(b"ata")
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


async def test_what_arrives_while_we_close_is_not_taken_in(tls: Maker) -> None:
    async with stepped(tls) as pair, trio.open_nursery() as nursery:
        pair.stream.transport_stream.stuck = True
        await pair.peer.send_all(b"too late")
        nursery.start_soon(
            must_raise, trio.ClosedResourceError, pair.stream.receive_some
        )
        await trio.testing.wait_all_tasks_blocked()
        await trio.aclose_forcefully(pair.stream)
        pair.stream.transport_stream.unstick.set()
    assert pair.stream.report.discarded == 0


async def test_what_was_reported_as_discarded_is_not_read_afterwards(
    tls: Maker,
) -> None:
    """The reader is woken by the data, and the stream is closed before it runs."""
    async with stepped(tls) as pair:
        pair.stream.transport_stream.slow = False
        received: list[bytes] = []
        discarded: list[int] = []

        async def end() -> None:
            await pair.stream.shutdown()
            await pair.stream.aclose()
            discarded.append(pair.stream.report.discarded)

        async def read() -> None:
            with suppress(trio.ClosedResourceError):
                received.append(await pair.stream.receive_some())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(end)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            pair.peer._engine.encrypt(b"data")
            pair.peer._engine.encrypt_close_notify()
            await pair.peer._connection.flush()
        assert len(b"".join(received)) + discarded[0] == len(b"data")
        assert discarded == [pair.stream.report.discarded]


async def test_a_second_aclose_that_is_cancelled_ends_the_first(tls: Maker) -> None:
    async with stepped(tls) as pair, trio.open_nursery() as nursery:
        pair.stream.transport_stream.stuck = True
        nursery.start_soon(pair.stream.aclose)
        await trio.testing.wait_all_tasks_blocked()
        await trio.aclose_forcefully(pair.stream)
        pair.stream.transport_stream.unstick.set()
    assert pair.stream.report.outcome is ShutdownOutcome.ABORTED
    assert not pair.stream.report.close_notify_sent


async def test_a_handshake_that_is_cancelled_before_its_last_flight_breaks_nothing(
    tls13: Maker,
) -> None:
    """While another task has the turn to send; the flight leaves with what comes."""
    client, server = tls13.wrap(trio.testing.memory_stream_pair())
    lock = client._connection.records.lock
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as opening:
                opening.start_soon(client.do_handshake)
                await trio.testing.wait_all_tasks_blocked()
                await lock.acquire()  # as wait_send_all_might_not_block() does
                nursery.start_soon(server.do_handshake)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(client.aclose)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        lock.release()
        assert await server.receive_some() == b""
    assert client.report.outcome is ShutdownOutcome.SENT
    await server.aclose()
