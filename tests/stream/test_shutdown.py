"""shutdown(), send_eof() and unwrap() while data are still on their way."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings, strategies as st

from tests.support import VERSIONS, Maker, collect, must_raise
from trio_tlsdown import (
    HalfCloseUnsupportedError,
    ShutdownOutcome,
    ShutdownPolicy,
    ShutdownReport,
    TLSFailedError,
    TLSStream,
    TraceEvent,
    TraceKind,
    TransportBrokenError,
    TruncatedError,
    UnreadDataError,
)
from trio_tlsdown._stream.transport import MAX_RECORDS_PER_READ

MockClock = trio.testing.MockClock


async def read_all(stream: TLSStream[Any], into: bytearray) -> None:
    async for chunk in stream:
        into += chunk


# Half-close:


async def test_after_a_half_close_the_peer_says_what_it_has_to_say(
    tls: Maker,
) -> None:
    a, b = await tls.pair()
    await a.send_all(b"question")
    await a.send_eof(allow_tls12=True)
    assert a.report.outcome is ShutdownOutcome.SENT
    assert await b.receive_some() == b"question"
    assert await b.receive_some() == b""
    await b.send_all(b"answer")
    assert await a.receive_some() == b"answer"
    await b.send_eof(allow_tls12=True)
    assert await a.receive_some() == b""
    for party in (a, b):
        assert party.report.outcome is ShutdownOutcome.COMPLETE
        await party.aclose()
        assert party.report.outcome is ShutdownOutcome.COMPLETE


async def test_half_close_again_does_nothing(tls: Maker) -> None:
    a, b = await tls.pair()
    await a.send_eof(allow_tls12=True)
    with trio.testing.assert_checkpoints():
        await a.send_eof()  # sent already: no complaint about TLS 1.2 either
    async with tls.client_and_bare_server() as (c, peer):
        await c.send_eof(allow_tls12=True)
        await c.send_eof(allow_tls12=True)
        await c.shutdown(wait=False)
        await c.aclose()
        alert = await peer.transport.receive_some()
        assert len(alert) < 40
        assert await peer.transport.receive_some() == b""
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


async def test_nothing_can_be_sent_after_a_half_close(tls: Maker) -> None:
    a, b = await tls.pair()
    await a.send_eof(allow_tls12=True)
    for send in (a.send_all, lambda data: a.wait_send_all_might_not_block()):
        with pytest.raises(trio.ClosedResourceError, match="close_notify was sent"):
            await send(b"x")
    with pytest.raises(trio.ClosedResourceError):
        await a.send_all(b"")
    await b.aclose()
    await a.aclose()


async def test_tls12_refuses_to_half_close_unless_it_is_told_to(
    tls12: Maker,
) -> None:
    a, b = await tls12.pair()
    with pytest.raises(HalfCloseUnsupportedError, match="allow_tls12") as caught:
        await a.send_eof()
    assert caught.value.version == "TLSv1.2"
    assert isinstance(caught.value, RuntimeError)
    assert a.report.outcome is ShutdownOutcome.OPEN
    await a.send_all(b"nothing has changed")
    assert await b.receive_some() == b"nothing has changed"
    await a.send_eof(allow_tls12=True)
    assert await b.receive_some() == b""
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    version=st.sampled_from(sorted(VERSIONS)),
    transport=st.sampled_from(["memory", "tcp", "stapled"]),
)
async def test_half_close_is_lossless_for_a_reader_in_another_task(
    data: st.DataObject, version: str, transport: str
) -> None:
    async with Maker(version).client_and_bare_server(transport) as (a, peer):
        messages = data.draw(st.lists(st.binary(min_size=1, max_size=100), max_size=5))
        ciphertext = b"".join(map(peer.encrypt, messages)) + peer.close_notify()
        cuts = data.draw(st.sets(st.integers(1, len(ciphertext) - 1)))
        edges = sorted({0, len(ciphertext), *cuts})
        half_close_before = data.draw(st.integers(0, len(edges) - 2))
        received = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_all, a, received)
            await trio.testing.wait_all_tasks_blocked()
            for number, start in enumerate(edges[:-1]):
                if number == half_close_before:
                    await a.send_eof(allow_tls12=True)
                await peer.send(ciphertext[start : edges[number + 1]])
                await trio.testing.wait_all_tasks_blocked()
        assert received == b"".join(messages)
        assert a.report.outcome is ShutdownOutcome.COMPLETE
        assert a.report.discarded == 0


# Shutdown with data on the way:


async def test_what_the_peer_still_sends_is_kept_for_a_later_reader(
    tls: Maker,
) -> None:
    a, b = await tls.pair()
    reports: list[ShutdownReport] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect, reports, a.shutdown)
        for _ in range(10):
            await b.send_all(b"x" * 1000)
        await b.shutdown()
    assert reports[0].outcome is ShutdownOutcome.COMPLETE
    assert reports[0].discarded == 10_000
    received = bytearray()
    await read_all(a, received)
    assert len(received) == 10_000
    assert a.report.discarded == 0
    await a.aclose()
    await b.aclose()


async def test_a_close_notify_behind_many_tiny_records_is_received(
    tls: Maker, autojump_clock: MockClock
) -> None:
    """All of it came in one read, of which a part is processed at a time."""
    count = 3 * MAX_RECORDS_PER_READ
    async with tls.client_and_bare_server("tcp") as (a, peer):
        tiny = b"".join(peer.encrypt(b"x") for _ in range(count))
        await peer.send(tiny + peer.close_notify())
        report = await a.shutdown()
        assert report.outcome is ShutdownOutcome.COMPLETE
        assert report.discarded == count


async def test_bytes_that_nobody_reads_are_counted(tls: Maker) -> None:
    a, b = await tls.pair()
    await b.send_all(b"0123456789")
    await b.shutdown(wait=False)
    assert (await a.shutdown()).outcome is ShutdownOutcome.COMPLETE
    assert await a.receive_some(4) == b"0123"
    await a.aclose()
    assert a.report.discarded == 6
    await b.aclose()


async def test_a_peer_that_never_stops_costs_max_unread_and_no_more(
    tls: Maker, autojump_clock: MockClock
) -> None:
    limit = 100_000
    a, b = await tls.pair(client={"policy": ShutdownPolicy(max_unread=limit)})

    async def flood() -> None:
        while True:
            await b.send_all(b"x" * 5000)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood)
        report = await a.shutdown()
        nursery.cancel_scope.cancel()
    assert trio.current_time() == 0
    assert report.outcome is ShutdownOutcome.ABORTED
    assert report.close_notify_sent
    assert report.secure
    assert limit < report.discarded <= limit + 2**16
    await trio.aclose_forcefully(a)
    assert a.report.outcome is ShutdownOutcome.ABORTED
    await trio.aclose_forcefully(b)


async def test_max_unread_0_still_completes_with_a_peer_that_is_silent(
    tls: Maker,
) -> None:
    a, b = await tls.pair(client={"policy": ShutdownPolicy(max_unread=0)})
    await b.shutdown(wait=False)
    assert (await a.shutdown()).outcome is ShutdownOutcome.COMPLETE
    await a.aclose()
    await b.aclose()


async def test_a_peer_that_never_answers_costs_the_timeout(
    tls: Maker, autojump_clock: MockClock
) -> None:
    a, b = await tls.pair(client={"policy": ShutdownPolicy(timeout=4)})
    report = await a.shutdown()
    assert trio.current_time() == 4
    assert report.outcome is ShutdownOutcome.ABORTED
    assert report.secure
    assert report.elapsed == 4
    assert report.error is None
    # It is not over: another call takes the exchange up.
    assert (await a.shutdown(wait=False)).outcome is ShutdownOutcome.SENT
    async with trio.open_nursery() as nursery:
        nursery.start_soon(b.shutdown)
        assert (await a.shutdown()).outcome is ShutdownOutcome.COMPLETE
    await a.aclose()
    await b.aclose()


async def test_a_parked_reader_gets_every_byte(tls: Maker) -> None:
    a, b = await tls.pair()
    received = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_all, a, received)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(a.shutdown)
        for _ in range(5):
            await b.send_all(b"tail ")
            await trio.testing.wait_all_tasks_blocked()
        await b.shutdown()
    assert received == b"tail " * 5
    assert a.report.outcome is ShutdownOutcome.COMPLETE
    assert a.report.discarded == 0
    await a.aclose()
    await b.aclose()


async def test_a_reader_may_come_while_shutdown_waits(tls: Maker) -> None:
    a, b = await tls.pair()
    received = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.shutdown)
        await trio.testing.wait_all_tasks_blocked()
        await b.send_all(b"before")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(read_all, a, received)
        await trio.testing.wait_all_tasks_blocked()
        assert received == b"before"
        await b.send_all(b", after")
        await b.shutdown()
    assert received == b"before, after"
    assert a.report.outcome is ShutdownOutcome.COMPLETE
    await a.aclose()
    await b.aclose()


async def test_a_reader_may_give_up_half_way(tls: Maker) -> None:
    a, b = await tls.pair()
    received = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.shutdown)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as readers:
                readers.start_soon(read_all, a, received)
                await trio.testing.wait_all_tasks_blocked()
                await b.send_all(b"read")
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        await b.send_all(b"unread")
        await b.shutdown()
    assert received == b"read"
    assert a.report.discarded == len(b"unread")
    assert a.report.outcome is ShutdownOutcome.COMPLETE
    await a.aclose()
    await b.aclose()


# What may happen, in any order; whether everything settles behind it.
STEPS = st.tuples(
    st.sampled_from(["send", "send", "read", "read", "give up", "shut down"]),
    st.integers(1, 4000),
    st.booleans(),
)


@settings(max_examples=100, deadline=None)
@given(steps=st.lists(STEPS, max_size=14), version=st.sampled_from(sorted(VERSIONS)))
async def test_every_byte_is_read_or_counted_never_both_never_neither(
    steps: list[tuple[str, int, bool]], version: str
) -> None:
    """Whatever readers come, read, give up, or do not come at all."""
    a, b = await Maker(version).pair()
    sent = read = 0
    reading = False

    async def receive(size: int) -> None:
        nonlocal read, reading
        read += len(await a.receive_some(size))
        reading = False

    async with trio.open_nursery() as nursery:
        for what, size, settles in steps:
            if what == "send":
                sent += size
                await b.send_all(b"x" * size)
            elif what == "shut down":
                nursery.start_soon(a.shutdown)
            elif not reading:
                reading = True
                with trio.CancelScope() as scope:
                    if what == "give up":
                        async with trio.open_nursery() as reader:
                            reader.start_soon(receive, size)
                            await trio.testing.wait_all_tasks_blocked()
                            scope.cancel()
                        reading = False
                    else:
                        nursery.start_soon(receive, size)
            if settles:
                await trio.testing.wait_all_tasks_blocked()
        await b.shutdown(wait=False)
        await a.shutdown()
    await a.aclose()
    assert read + a.report.discarded == sent
    assert a.report.outcome is ShutdownOutcome.COMPLETE
    await b.aclose()


async def test_a_slow_reader_has_the_time_that_the_policy_allows(
    tls: Maker, autojump_clock: MockClock
) -> None:
    """max_unread is for streams that nobody reads any more."""
    policy = ShutdownPolicy(max_unread=1000, timeout=20)
    a, b = await tls.pair(client={"policy": policy})
    received = bytearray()

    async def read_slowly() -> None:
        while chunk := await a.receive_some(500):
            received.extend(chunk)
            await trio.sleep(0.1)

    async with trio.open_nursery() as nursery:

        async def shut_down() -> None:
            assert (await a.shutdown()).outcome is ShutdownOutcome.COMPLETE

        nursery.start_soon(read_slowly)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(shut_down)
        for _ in range(20):
            await b.send_all(b"x" * 1000)
            await trio.sleep(0.05)
        await b.shutdown()
    assert len(received) == 20_000
    await a.aclose()
    await b.aclose()


async def test_a_reader_that_has_ended_does_not_make_shutdown_wait(
    tls: Maker, autojump_clock: MockClock
) -> None:
    a, b = await tls.pair(client={"policy": ShutdownPolicy(max_unread=10)})
    await b.send_all(b"x" * 100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.receive_some, 1)
    assert (await a.shutdown()).outcome is ShutdownOutcome.ABORTED
    assert trio.current_time() == 0
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


async def test_a_task_that_read_and_then_shuts_down_waits_for_no_reader(
    tls: Maker, autojump_clock: MockClock
) -> None:
    a, b = await tls.pair(client={"policy": ShutdownPolicy(max_unread=10)})
    await b.send_all(b"x" * 100)
    await a.receive_some(1)
    assert (await a.shutdown()).outcome is ShutdownOutcome.ABORTED
    assert trio.current_time() == 0
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


async def test_what_a_shutdown_gave_up_on_is_there_for_a_reader_that_comes_back(
    tls: Maker, autojump_clock: MockClock
) -> None:
    a, b = await tls.pair(client={"policy": ShutdownPolicy(max_unread=10)})
    await b.send_all(b"x")

    async def read_twice() -> None:
        await a.receive_some()
        await trio.sleep(1)
        assert await a.receive_some() == b"y" * 100
        assert await a.receive_some() == b""

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_twice)
        await trio.testing.wait_all_tasks_blocked()
        await b.send_all(b"y" * 100)
        assert (await a.shutdown()).outcome is ShutdownOutcome.ABORTED
        assert trio.current_time() == 0
        nursery.start_soon(b.shutdown)
    assert a.report.outcome is ShutdownOutcome.COMPLETE
    await a.aclose()
    await b.aclose()


# Several tasks:


async def test_concurrent_shutdowns_share_one_result(tls: Maker) -> None:
    a, b = await tls.pair()
    reports: list[ShutdownReport] = []

    async def shut_down(*, wait: bool) -> None:
        reports.append(await a.shutdown(wait=wait))

    async with trio.open_nursery() as nursery:
        for wait in (True, True, False):
            nursery.start_soon(partial(shut_down, wait=wait))
            await trio.testing.wait_all_tasks_blocked()
        await b.shutdown()
    assert len(reports) == 3
    assert reports[0] is reports[1] is reports[2]
    assert reports[0].outcome is ShutdownOutcome.COMPLETE
    await a.aclose()
    await b.aclose()


async def test_a_shutdown_that_waits_goes_on_where_one_that_did_not_stopped(
    tls: Maker, autojump_clock: MockClock
) -> None:
    a, b = await tls.pair("lockstep")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: a.shutdown(wait=False))
        nursery.start_soon(a.shutdown)
        await trio.testing.wait_all_tasks_blocked()
        assert await b.receive_some() == b""
        await b.shutdown()
    assert a.report.outcome is ShutdownOutcome.COMPLETE
    await a.aclose()
    await b.aclose()


async def test_a_shutdown_that_does_not_wait_does_not_look_for_an_answer_either(
    tls: Maker,
) -> None:
    a, b = await tls.pair("tcp")
    await b.send_eof(allow_tls12=True)
    await trio.testing.wait_all_tasks_blocked()
    assert (await a.shutdown(wait=False)).outcome is ShutdownOutcome.SENT
    assert (await a.shutdown()).outcome is ShutdownOutcome.COMPLETE
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


async def test_a_shutdown_that_has_nothing_to_do_is_a_checkpoint(tls: Maker) -> None:
    a, b = await tls.pair()
    await a.shutdown(wait=False)
    with trio.testing.assert_checkpoints():
        await a.shutdown(wait=False)
    await b.shutdown()
    with trio.testing.assert_checkpoints():
        assert (await a.shutdown()).outcome is ShutdownOutcome.COMPLETE
    with trio.testing.assert_checkpoints():
        assert (await a.shutdown()).outcome is ShutdownOutcome.COMPLETE
    await a.aclose()
    await b.aclose()


async def test_a_shutdown_takes_over_from_one_that_was_cancelled(tls: Maker) -> None:
    a, b = await tls.pair()
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as cancelled:
                cancelled.start_soon(a.shutdown)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(a.shutdown)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        await b.shutdown()
    assert a.report.outcome is ShutdownOutcome.COMPLETE
    await a.aclose()
    await b.aclose()


async def test_shutdowns_that_take_over_take_no_longer_together_than_one(
    tls: Maker, autojump_clock: MockClock
) -> None:
    a, b = await tls.pair()

    async def shut_down(seconds: float) -> None:
        with trio.move_on_after(seconds):
            assert (await a.shutdown()).outcome is ShutdownOutcome.ABORTED

    async with trio.open_nursery() as nursery:
        for seconds in (4, 4.5, 100, 100):
            nursery.start_soon(shut_down, seconds)
            await trio.testing.wait_all_tasks_blocked()
    assert trio.current_time() == 5
    async with trio.open_nursery() as nursery:  # a later one has its own time
        nursery.start_soon(a.shutdown)
        await trio.sleep(4)
        await b.shutdown()
    assert a.report.outcome is ShutdownOutcome.COMPLETE
    await a.aclose()
    await b.aclose()


async def test_shutdown_tells_when_another_task_closes(tls: Maker) -> None:
    a, b = await tls.pair()
    reports: list[ShutdownReport] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect, reports, a.shutdown)
        await trio.testing.wait_all_tasks_blocked()
        await a.aclose()
    assert reports[0].outcome is ShutdownOutcome.SENT
    await b.aclose()


async def test_shutdown_raises_closed_if_somebody_closed_the_transport_under_us(
    tls: Maker,
) -> None:
    a, b = await tls.pair()
    await a.transport_stream.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await a.shutdown()
    await a.aclose()
    await b.aclose()


async def test_shutdown_while_another_task_sends_is_misuse_and_changes_nothing(
    tls: Maker, autojump_clock: MockClock
) -> None:
    a, b = await tls.pair("lockstep")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.send_all, b"x" * 100)
        await trio.testing.wait_all_tasks_blocked()
        before = a.report
        for end in (a.shutdown, a.send_eof, a.unwrap):
            with pytest.raises(trio.BusyResourceError, match="another task"):
                await end()
        await trio.sleep(1)
        assert a.report == before  # nor does the time of an ending run
        assert await b.receive_some() == b"x" * 100
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


async def test_the_peers_end_is_looked_for_although_our_alert_could_not_leave(
    tls: Maker,
) -> None:
    async with tls.client_and_bare_server() as (a, peer):
        await peer.send(peer.encrypt(b"bye") + peer.close_notify())
        await peer.transport.aclose()
        report = await a.shutdown()
        assert report.outcome is ShutdownOutcome.RESET
        assert not report.close_notify_sent
        assert report.peer_data_complete
        assert await a.receive_some() == b"bye"


async def test_shutdown_before_the_handshake_does_it_first(tls: Maker) -> None:
    a, b = tls.wrap(trio.testing.memory_stream_pair())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.shutdown)
        await b.shutdown()
    assert a.report.outcome is ShutdownOutcome.COMPLETE
    assert b.report.outcome is ShutdownOutcome.COMPLETE
    await a.aclose()
    await b.aclose()


async def test_shutdown_reports_a_handshake_that_fails(tls: Maker) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    a, _ = tls.wrap((ours, theirs))
    await theirs.send_all(b"220 we speak clear text here\r\n")
    report = await a.shutdown()
    assert report.outcome is ShutdownOutcome.FAILED
    assert isinstance(report.error, TLSFailedError)
    assert report.error.during_handshake
    await a.aclose()


# Unwrap:


async def test_unwrap_gives_back_what_came_behind_the_close_notify(
    tls: Maker,
) -> None:
    async with tls.client_and_bare_server() as (a, peer):
        transport = a.transport_stream
        await peer.send(peer.close_notify() + b"220 clear text")
        bare, trailing = await a.unwrap()
        assert bare is transport
        assert trailing == b"220 clear text"
        assert a.transport_stream is None
        assert a.report.outcome is ShutdownOutcome.COMPLETE
        with pytest.raises(trio.ClosedResourceError):
            await a.receive_some()
        await a.aclose()  # the transport is not ours any more
        await bare.send_all(b"still open")


async def test_unwrap_does_not_lose_unread_data(tls: Maker) -> None:
    async with tls.client_and_bare_server() as (a, peer):
        await peer.send(peer.encrypt(b"unread") + peer.close_notify())
        assert await a.receive_some(2) == b"un"
        with pytest.raises(UnreadDataError, match="4 bytes") as caught:
            await a.unwrap()
        assert caught.value.unread == 4
        assert not a.report.close_notify_sent  # nothing was done
        assert await a.receive_some() == b"read"
        assert await a.receive_some() == b""
        await a.unwrap()


async def test_unwrap_does_not_lose_data_that_come_meanwhile(tls: Maker) -> None:
    async with tls.client_and_bare_server() as (a, peer):
        await peer.send(peer.encrypt(b"late") + peer.close_notify())
        with pytest.raises(UnreadDataError):
            await a.unwrap()
        assert await a.receive_some() == b"late"
        await a.unwrap()


@pytest.mark.parametrize("reader_first", [True, False])
async def test_what_a_parked_reader_is_about_to_get_is_not_unread(
    tls: Maker, *, reader_first: bool
) -> None:
    async with tls.client_and_bare_server() as (a, peer):
        received: list[bytes] = []

        async def read() -> None:
            received.append(await a.receive_some())

        async with trio.open_nursery() as nursery:
            for task in (read, a.unwrap) if reader_first else (a.unwrap, read):
                nursery.start_soon(task)
                await trio.testing.wait_all_tasks_blocked()
            await peer.send(peer.encrypt(b"late") + peer.close_notify())
        assert received == [b"late"]


@pytest.mark.parametrize("byte", [b"A", b"\0"])
async def test_unwrap_gives_back_all_that_came_behind_the_close_notify(
    tls: Maker, byte: bytes
) -> None:
    """Also what looks like very many records."""
    async with tls.client_and_bare_server() as (a, peer):
        await peer.send(peer.close_notify() + byte * 5000)
        _, trailing = await a.unwrap()
        assert trailing == byte * 5000


async def test_unwrap_raises_what_ended_the_connection_instead(
    tls: Maker, autojump_clock: MockClock
) -> None:
    async with tls.client_and_bare_server() as (a, peer):
        await peer.transport.aclose()
        with pytest.raises(TruncatedError):
            await a.unwrap()
    async with tls.client_and_bare_server() as (a, peer):
        with pytest.raises(trio.BrokenResourceError, match="did not complete"):
            await a.unwrap()
        assert a.report.outcome is ShutdownOutcome.ABORTED
        await peer.send(peer.close_notify())
        await a.unwrap()  # it can be taken up again
    async with tls.client_and_bare_server() as (a, peer):
        await peer.send(peer.close_notify())
        await peer.transport.aclose()
        with pytest.raises(TransportBrokenError):
            await a.unwrap()


async def test_after_an_unwrap_closing_and_aborting_leave_the_transport_alone(
    tls: Maker,
) -> None:
    async with tls.client_and_bare_server() as (a, peer):
        await peer.send(peer.close_notify())
        bare, _ = await a.unwrap()
        await trio.aclose_forcefully(a)
        await bare.send_all(b"still open")


async def test_unwrap_with_no_time_at_all_is_fine_when_both_alerts_have_crossed(
    tls: Maker,
) -> None:
    events: list[TraceEvent] = []
    policy = ShutdownPolicy(timeout=0)
    a, b = await tls.pair(client={"policy": policy, "trace": events.append})
    await b.send_eof(allow_tls12=True)
    await a.send_eof(allow_tls12=True)
    assert await a.receive_some() == b""
    await a.unwrap()
    assert a.report.outcome is ShutdownOutcome.COMPLETE
    assert TraceKind.CANCELLED not in [event.kind for event in events]
    await trio.aclose_forcefully(b)


async def test_unwrap_says_closed_when_another_task_closes_meanwhile(
    tls: Maker,
) -> None:
    a, b = await tls.pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(must_raise, trio.ClosedResourceError, a.unwrap)
        await trio.testing.wait_all_tasks_blocked()
        await a.aclose()
    await b.aclose()


async def busy_reader_and_a_crowded_shutdown(
    tls: Maker, nursery: trio.Nursery, *, ends_after: float
) -> tuple[TLSStream[Any], TLSStream[Any]]:
    """A task that received when the shutdown began is busy, and more has come."""
    policy = ShutdownPolicy(timeout=8, max_unread=10)
    a, b = await tls.pair(client={"policy": policy})

    async def read_and_be_busy() -> None:
        await a.receive_some()
        await trio.sleep(ends_after)
        with trio.CancelScope() as scope:
            scope.cancel()
            await a.receive_some()

    nursery.start_soon(read_and_be_busy)
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(a.shutdown)
    await trio.testing.wait_all_tasks_blocked()
    for _ in range(2):
        await b.send_all(b"y" * 100)
        await trio.testing.wait_all_tasks_blocked()
    assert a.report.outcome is ShutdownOutcome.SENT
    return a, b


async def test_aclose_ends_a_shutdown_that_waits_for_a_busy_reader(
    tls: Maker, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        a, b = await busy_reader_and_a_crowded_shutdown(
            tls, nursery, ends_after=math.inf
        )
        await a.aclose()
        assert trio.current_time() == 0
        assert a.report.outcome is ShutdownOutcome.SENT
        nursery.cancel_scope.cancel()
    await b.aclose()


async def test_an_abort_ends_a_shutdown_that_waits_for_a_busy_reader(
    tls: Maker, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        a, b = await busy_reader_and_a_crowded_shutdown(
            tls, nursery, ends_after=math.inf
        )
        await a._closer.abort()
        await trio.testing.wait_all_tasks_blocked()
        assert a._closer._shutdown is None
        assert trio.current_time() == 0
        nursery.cancel_scope.cancel()
    await trio.aclose_forcefully(b)


async def test_a_reader_that_gives_up_does_not_hold_shutdown(
    tls: Maker, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        a, b = await busy_reader_and_a_crowded_shutdown(tls, nursery, ends_after=7)
    assert trio.current_time() == 7
    assert a.report.outcome is ShutdownOutcome.ABORTED
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


async def test_a_reader_that_is_gone_holds_shutdown_for_its_timeout_only(
    tls: Maker, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        a, b = await busy_reader_and_a_crowded_shutdown(
            tls, nursery, ends_after=math.inf
        )
        await trio.sleep(8.5)
        assert a.report.outcome is ShutdownOutcome.ABORTED
        nursery.cancel_scope.cancel()
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)
