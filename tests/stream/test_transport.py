"""Record boundaries, and turns to send."""

from __future__ import annotations

import socket
import ssl
from itertools import pairwise
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import example, given, strategies as st

from tests.support import Maker, reset
from trio_tlsdown import ShutdownOutcome, TransportBrokenError
from trio_tlsdown._core.state import ConnectionState
from trio_tlsdown._stream.transport import (
    RecordBoundary,
    RecordTransport,
    _most_important,
)


def record(size: int) -> bytes:
    return b"\x17\x03\x03" + size.to_bytes(2, "big") + bytes(size)


@given(
    sizes=st.lists(st.integers(0, 600), max_size=6),
    cuts=st.sets(st.integers(0, 2000)),
)
@example(sizes=[600, 1], cuts={4})  # between the two bytes of a length
def test_a_boundary_is_a_boundary_however_the_bytes_are_cut(
    sizes: list[int], cuts: set[int]
) -> None:
    data = b"".join(map(record, sizes))
    ends = {0}
    for size in sizes:
        ends.add(max(ends) + 5 + size)
    boundary = RecordBoundary()
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, end in pairwise(edges):
        assert boundary.feed(data[start:end]) == end - start
        assert boundary.inside is (end not in ends)
    assert not boundary.inside


def test_more_than_64_records_are_taken_in_parts() -> None:
    boundary = RecordBoundary()
    assert boundary.feed(record(0) * 100) == 64 * 5
    assert boundary.feed(record(0) * 36) == 36 * 5
    assert not boundary.inside


class Trickle:
    """A transport that has so many bytes of records at a time."""

    def __init__(self) -> None:
        self.room = 0
        self.asked: list[int] = []
        self._rest = record(16_000) * 200

    def receive_some_nowait(self, max_bytes: int) -> bytes:
        self.asked.append(max_bytes)
        size = min(max_bytes, self.room)
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


def test_reads_are_big_only_while_they_come_back_full() -> None:
    transport: Any = Trickle()
    state = ConnectionState(lambda event: None)
    records = RecordTransport(transport, b"", ssl.MemoryBIO(), state, None)
    small, big = 2**16, 2**19
    for transport.room in (small - 1, big, big, small, small - 1, 1):
        assert records.receive_nowait()
    assert transport.asked == [small, small, big, big, big, small]


async def test_what_went_wrong_counts_more_than_that_it_was_cancelled() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        with pytest.raises(trio.Cancelled) as caught:
            await trio.lowlevel.checkpoint()
    cancelled = caught.value
    wrong = ValueError()
    group = BaseExceptionGroup("", [cancelled, BaseExceptionGroup("", [wrong])])
    assert _most_important(group) is wrong
    assert _most_important(BaseExceptionGroup("", [cancelled])) is cancelled


async def test_nothing_goes_between_the_parts_of_what_another_task_sends(
    tls: Maker,
) -> None:
    a, b = await tls.pair("tcp")
    records = a._connection.records
    await records.lock.acquire()  # as a task that has sent the first part
    a._engine.encrypt(b"later")
    assert not records.flush_nowait()
    assert a._engine.output.pending
    records.lock.release()
    assert records.flush_nowait()
    assert await b.receive_some() == b"later"
    assert records.flush_nowait()  # there is nothing left
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


async def test_much_is_encrypted_by_256_kib_at_a_time(tls: Maker) -> None:
    a, b = await tls.pair("memory")
    sizes: list[int] = []
    lane = a.transport_stream.send_stream

    async def send_all(data: bytes) -> None:
        sizes.append(len(data))

    lane.send_all = send_all
    await a.send_all(bytes(2**19))
    assert [size // 2**18 for size in sizes] == [1, 1]
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


async def test_much_that_is_cancelled_between_two_parts_never_looks_whole(
    tls: Maker,
) -> None:
    a, b = await tls.pair("memory")
    with trio.CancelScope() as scope:

        async def send_all(data: bytes) -> None:
            scope.cancel()

        a.transport_stream.send_stream.send_all = send_all
        await a.send_all(bytes(2**19))
    assert scope.cancelled_caught
    with pytest.raises(trio.BrokenResourceError):
        await a.send_all(b"more")
    report = await a.shutdown(wait=False)
    assert report.outcome is ShutdownOutcome.ABORTED
    assert not report.close_notify_sent
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


async def test_who_waits_to_send_has_encrypted_nothing_yet(tls: Maker) -> None:
    """So a cancellation breaks nothing."""
    a, b = await tls.pair("tcp")
    lock = a._connection.records.lock
    await lock.acquire()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.send_all, b"later")
        await trio.testing.wait_all_tasks_blocked()
        assert not a._engine.output.pending
        nursery.cancel_scope.cancel()
    lock.release()
    await a.send_all(b"now")
    assert await b.receive_some() == b"now"
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


async def test_what_a_reset_connection_cannot_take_is_not_kept(tls: Maker) -> None:
    a, b = await tls.pair("tcp")
    reset(b)
    await trio.aclose_forcefully(b)
    a._engine.encrypt(b"too late")
    assert a._connection.records.flush_nowait()
    assert not a._engine.output.pending
    await trio.aclose_forcefully(a)


async def test_a_reset_that_a_reader_has_met_stays_one_when_a_sender_meets_epipe(
    tls: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel tells of a reset once, and the reader passes it on one step later."""
    a, b = await tls.pair("tcp")
    reset(b)
    await trio.aclose_forcefully(b)
    checkpoint = trio.lowlevel.cancel_shielded_checkpoint

    async def while_another_task_sends() -> None:
        a._engine.encrypt(b"too late")
        assert a._connection.records.flush_nowait()
        await checkpoint()

    with monkeypatch.context() as patched:
        patched.setattr(
            trio.lowlevel, "cancel_shielded_checkpoint", while_another_task_sends
        )
        with pytest.raises(TransportBrokenError):
            await a.receive_some()
    assert a.report.outcome is ShutdownOutcome.RESET
    await trio.aclose_forcefully(a)


async def test_a_close_notify_that_the_kernel_cannot_take_waits_for_it(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    """aclose() sends without waiting if it can; a full socket is bounded."""
    autojump_clock.autojump_threshold = 0.05
    a, b = await tls.pair("tcp")
    transport = a.transport_stream
    transport.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    with trio.move_on_after(1):
        while True:
            await transport.send_all(bytes(2**16))
    before = trio.current_time()
    await a.aclose()
    assert trio.current_time() - before == pytest.approx(5, abs=0.1)
    assert a.report.outcome is ShutdownOutcome.ABORTED
    assert not a.report.close_notify_sent
    await trio.aclose_forcefully(b)


async def test_aclose_of_a_reset_connection_is_quiet(tls: Maker) -> None:
    a, b = await tls.pair("tcp")
    b.transport_stream.socket.setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
    )
    await trio.aclose_forcefully(b)
    await a.aclose()
    assert a.report.outcome is ShutdownOutcome.RESET
    assert not a.report.close_notify_sent


async def test_who_waits_for_room_gives_way_to_who_has_something_to_send(
    tls: Maker,
) -> None:
    """Also if that one came later, while both waited for a third task."""
    a, b = await tls.pair()
    wire = a._connection.records
    a.transport_stream.send_stream.wait_send_all_might_not_block_hook = (
        trio.sleep_forever
    )
    await wire.lock.acquire()
    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.wait_send_all_might_not_block)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(a._connection.flush)
            await trio.testing.wait_all_tasks_blocked()
            wire.lock.release()
    await a.aclose()
    await b.aclose()
