"""How a connection can end, and what is told of it."""

from __future__ import annotations

import gc
import ssl
import weakref
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from tests.support import (
    BAD_RECORD,
    NAME,
    Maker,
    client_context,
    collect,
    memory_transports,
    must_raise,
    reset,
    server_context,
    shake_hands,
    tcp_transports,
)
from trio_tlsdown import (
    ShutdownOutcome,
    ShutdownPolicy,
    ShutdownReport,
    TLSFailedError,
    TLSStream,
    TransportBrokenError,
    TruncatedError,
)

both_transports = pytest.mark.parametrize("transport", ["memory", "tcp", "stapled"])
both_roles = pytest.mark.parametrize("a_is_server", [False, True])


async def parties(
    tls: Maker, transport: str, *, a_is_server: bool
) -> tuple[TLSStream[Any], TLSStream[Any]]:
    fin = {"policy": ShutdownPolicy(reset_on_abort=False)}  # as most others close
    client, server = await tls.pair(transport, client=fin, server=fin)
    return (server, client) if a_is_server else (client, server)


# The four scenarios:


@both_transports
@both_roles
@pytest.mark.parametrize("reads_first", [False, True])
async def test_scenario_1_the_peer_closed_the_transport(
    tls: Maker, transport: str, *, a_is_server: bool, reads_first: bool
) -> None:
    a, b = await parties(tls, transport, a_is_server=a_is_server)
    await trio.aclose_forcefully(b)
    if reads_first:
        with pytest.raises(TruncatedError):
            await a.receive_some()
    report = await a.shutdown()
    assert report.outcome is ShutdownOutcome.TRUNCATED
    assert not report.secure
    assert not report.close_notify_received
    assert isinstance(report.error, TruncatedError)
    assert b.report.outcome is ShutdownOutcome.ABORTED
    assert not b.report.secure
    await a.aclose()
    assert a.report.outcome is ShutdownOutcome.TRUNCATED


@both_transports
@both_roles
async def test_scenario_2_the_peer_closes_instead_of_answering(
    tls: Maker, transport: str, *, a_is_server: bool
) -> None:
    a, b = await parties(tls, transport, a_is_server=a_is_server)
    reports: list[ShutdownReport] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect, reports, a.shutdown)
        assert await b.receive_some() == b""
        await trio.aclose_forcefully(b)
    assert reports[0].outcome is ShutdownOutcome.TRUNCATED
    assert reports[0].close_notify_sent
    assert reports[0].first == "local"
    assert b.report.close_notify_received
    assert b.report.outcome is ShutdownOutcome.ABORTED
    await a.aclose()


@both_transports
@both_roles
async def test_scenario_3_both_shut_down_and_the_transport_is_used_again(
    tls: Maker, transport: str, *, a_is_server: bool
) -> None:
    a, b = await parties(tls, transport, a_is_server=a_is_server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.shutdown)
        assert await b.receive_some() == b""
        await b.shutdown()
    for party, first in ((a, "local"), (b, "peer")):
        assert party.report.outcome is ShutdownOutcome.COMPLETE
        assert party.report.secure
        assert party.report.peer_data_complete
        assert party.report.first == first
        assert party.report.error is None
    (bare_a, rest_a), (bare_b, rest_b) = await a.unwrap(), await b.unwrap()
    assert rest_a == rest_b == b""
    await bare_a.send_all(b"in clear text")
    assert await bare_b.receive_some() == b"in clear text"
    await bare_a.aclose()
    await bare_b.aclose()


@both_transports
@both_roles
async def test_scenario_4_send_and_close_without_waiting(
    tls: Maker, transport: str, *, a_is_server: bool
) -> None:
    a, b = await parties(tls, transport, a_is_server=a_is_server)
    report = await a.shutdown(wait=False)
    assert report.outcome is ShutdownOutcome.SENT
    assert report.secure
    await a.aclose()
    assert a.report.outcome is ShutdownOutcome.SENT
    assert await b.receive_some() == b""
    if transport == "tcp":  # in memory the alert would meet a closed stream
        assert (await b.shutdown()).outcome is ShutdownOutcome.COMPLETE
    await b.aclose()


@both_transports
async def test_scenario_4_as_the_page_has_it_cancelled_while_waiting(
    tls: Maker, transport: str
) -> None:
    a, b = await parties(tls, transport, a_is_server=False)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.shutdown)
            assert await b.receive_some() == b""
            scope.cancel()
    report = a.report
    assert report.outcome is ShutdownOutcome.ABORTED
    assert report.close_notify_sent
    assert report.secure
    await a.aclose()
    assert a.report.outcome is ShutdownOutcome.ABORTED
    assert a.report.secure
    await b.aclose()


# Closing:


@both_transports
async def test_aclose_says_goodbye(tls: Maker, transport: str) -> None:
    a, b = await tls.pair(transport)
    await a.aclose()
    assert a.report.outcome is ShutdownOutcome.SENT
    assert await b.receive_some() == b""
    await b.aclose()
    assert b.report.close_notify_received


@both_transports
async def test_aclose_with_unread_data_says_goodbye_too(
    tls: Maker, transport: str
) -> None:
    a, b = await tls.pair(transport)
    await b.send_all(b"more than is wanted")
    assert await a.receive_some(5) == b"more "
    await a.aclose()
    assert await b.receive_some() == b""
    assert a.report.outcome is ShutdownOutcome.SENT
    assert a.report.discarded == len(b"than is wanted")
    await b.aclose()


async def test_sslstream_with_unread_data_sends_no_close_notify(tls: Maker) -> None:
    """Why we do not leave closing to trio.SSLStream (0.35)."""
    transport, theirs = await memory_transports()
    a = trio.SSLStream(transport, client_context(tls.version), server_hostname=NAME)
    peer = tls.peer(theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.do_handshake)
        nursery.start_soon(peer.handshake)
    await peer.send(peer.encrypt(b"more than is wanted"))
    await a.receive_some(5)
    await a.aclose()
    assert await theirs.receive_some() == b""
    assert not peer.close_notify_received


async def test_leaving_the_block_by_an_error_does_not_make_half_an_answer_whole(
    tls: Maker,
) -> None:
    a, b = await tls.pair()

    async def answer() -> None:
        async with a:
            await a.send_all(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await answer()
    assert await b.receive_some() == b"half"
    with pytest.raises(TruncatedError):
        await b.receive_some()
    assert a.report.outcome is ShutdownOutcome.ABORTED
    await b.aclose()


@pytest.mark.parametrize("transport", ["memory", "tcp"])
async def test_the_error_that_leaves_a_block_is_raised_in_a_cancelled_scope_too(
    transport: str, tls: Maker
) -> None:
    a, b = await tls.pair(transport)

    async def fail() -> None:
        async with a:
            scope.cancel()
            raise KeyError

    # Inside, raises() would let Cancelled pass.
    with pytest.raises(KeyError), trio.CancelScope() as scope:
        await fail()
    assert a.report.outcome is ShutdownOutcome.ABORTED
    await trio.aclose_forcefully(b)


async def test_leaving_the_block_normally_is_aclose(tls: Maker) -> None:
    a, b = await tls.pair()
    async with a:
        await a.send_all(b"whole")
    assert await b.receive_some() == b"whole"
    assert await b.receive_some() == b""
    await b.aclose()


async def test_closing_again_does_nothing(tls: Maker) -> None:
    a, b = await tls.pair()
    await a.aclose()
    report = a.report
    with trio.testing.assert_checkpoints():
        await a.aclose()
    await trio.aclose_forcefully(a)
    assert a.report == report
    await b.aclose()


async def test_an_ending_takes_from_the_peers_goodbye_until_we_close(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    a, b = await tls.pair()
    await trio.sleep(1)
    assert a.report.elapsed == 0
    await b.aclose()
    assert await a.receive_some() == b""
    await trio.sleep(2)
    assert a.report.elapsed == 2
    await trio.aclose_forcefully(a)
    await trio.sleep(4)
    assert a.report.elapsed == 2


async def test_two_tasks_may_close_and_the_second_may_abort_the_first(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    a, b = await tls.pair("lockstep")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.aclose)  # nobody reads: it waits to send its alert
        nursery.start_soon(a.aclose)
        await trio.testing.wait_all_tasks_blocked()
        await trio.aclose_forcefully(a)
    assert trio.current_time() == 0
    assert a.report.outcome is ShutdownOutcome.ABORTED
    await trio.aclose_forcefully(b)


async def test_closing_is_bounded_when_the_peer_takes_nothing_in(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    a, b = await tls.pair("lockstep", client={"policy": ShutdownPolicy(timeout=7)})
    await a.aclose()
    assert trio.current_time() == 7
    assert a.report.outcome is ShutdownOutcome.ABORTED
    assert a.report.elapsed == 7
    assert not a.report.close_notify_sent
    await trio.aclose_forcefully(b)


async def test_closing_while_another_task_sends_does_not_end_its_data_cleanly(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    a, b = await tls.pair("lockstep")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(must_raise, trio.ClosedResourceError, a.send_all, b"x" * 10)
        await trio.testing.wait_all_tasks_blocked()
        await a.aclose()
    assert trio.current_time() == 0
    assert a.report.outcome is ShutdownOutcome.ABORTED
    await trio.aclose_forcefully(b)


@both_transports
async def test_closing_wakes_a_reader(tls: Maker, transport: str) -> None:
    a, b = await tls.pair(transport)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(must_raise, trio.ClosedResourceError, a.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        await a.aclose()
    assert await b.receive_some() == b""
    await b.aclose()


async def test_https_compatible_closes_without_a_word(tls: Maker) -> None:
    a, b = await tls.pair(client={"https_compatible": True})
    assert a.https_compatible
    await a.aclose()
    assert a.report.outcome is ShutdownOutcome.ABORTED
    with pytest.raises(TruncatedError):
        await b.receive_some()
    await b.aclose()


async def test_https_compatible_closing_after_the_peers_goodbye_is_aborted(
    tls: Maker,
) -> None:
    a, b = await tls.pair(client={"https_compatible": True})
    await b.send_eof(allow_tls12=True)
    assert await a.receive_some() == b""
    await a.aclose()
    assert a.report.outcome is ShutdownOutcome.ABORTED
    assert a.report.peer_data_complete
    await b.aclose()


# Cuts:


async def test_waiting_to_send_tells_that_the_transport_is_broken(tls: Maker) -> None:
    async def break_down() -> None:
        raise trio.BrokenResourceError

    a, b = await tls.pair()
    a.transport_stream.send_stream.wait_send_all_might_not_block_hook = break_down
    with pytest.raises(TransportBrokenError):
        await a.wait_send_all_might_not_block()
    assert a.report.outcome is ShutdownOutcome.RESET
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


async def test_closing_says_goodbye_while_another_task_waits_to_send(
    tls: Maker,
) -> None:
    """Nothing of its data is on the way."""
    a, b = await tls.pair("lockstep")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.wait_send_all_might_not_block)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(a.aclose)
        assert await b.receive_some() == b""
    assert a.report.outcome is ShutdownOutcome.SENT
    await trio.aclose_forcefully(b)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("ignore_eof", [False, True])
@pytest.mark.parametrize("https_compatible", [False, True])
async def test_a_fin_without_close_notify_is_no_clean_end(
    tls: Maker, *, inside: bool, ignore_eof: bool, https_compatible: bool
) -> None:
    ours, theirs = await tcp_transports()
    context = client_context(tls.version)
    if ignore_eof:
        context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    options_before = context.options
    a = TLSStream(
        ours, context, server_hostname=NAME, https_compatible=https_compatible
    )
    peer = tls.peer(theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.do_handshake)
        nursery.start_soon(peer.handshake)
    await peer.send(peer.encrypt(b"data"))
    if inside:
        await peer.send(peer.encrypt(b"never seen whole")[:-1])
    await theirs.aclose()

    assert await a.receive_some() == b"data"
    for _ in range(2):
        if https_compatible and not inside:
            assert await a.receive_some() == b""
        else:
            with pytest.raises(TruncatedError) as caught:
                await a.receive_some()
            assert caught.value.mid_record is inside
            assert isinstance(caught.value.__cause__, ssl.SSLEOFError)
    assert a.report.outcome is ShutdownOutcome.TRUNCATED
    assert not a.report.peer_data_complete
    assert context.options == options_before
    await a.aclose()
    assert a.report.outcome is ShutdownOutcome.TRUNCATED


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("ignore_eof", [False, True])
@pytest.mark.parametrize("https_compatible", [False, True])
async def test_a_reset_is_no_clean_end(
    tls: Maker, *, inside: bool, ignore_eof: bool, https_compatible: bool
) -> None:
    ours, theirs = await tcp_transports()
    context = client_context(tls.version)
    if ignore_eof:
        context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    a = TLSStream(
        ours, context, server_hostname=NAME, https_compatible=https_compatible
    )
    b = TLSStream(theirs, server_context(tls.version), server_side=True)
    await shake_hands(a, b)
    await b.send_all(b"data")
    assert await a.receive_some() == b"data"
    if inside:
        await b.transport_stream.send_all(b"\x17\x03\x03")
        await trio.testing.wait_all_tasks_blocked()
    reset(b)
    await trio.aclose_forcefully(b)
    for _ in range(2):
        with pytest.raises(TransportBrokenError) as caught:
            await a.receive_some()
        assert isinstance(caught.value.__cause__, ConnectionResetError)
    assert a.report.outcome is ShutdownOutcome.RESET
    assert isinstance(a.report.error, TransportBrokenError)
    with pytest.raises(trio.BrokenResourceError):
        await a.send_all(b"x")
    await a.aclose()
    assert a.report.outcome is ShutdownOutcome.RESET


async def test_a_reset_that_meets_our_close_notify_is_not_taken_for_a_fin(
    tls: Maker,
) -> None:
    """Linux tells it once, to the send; receiving then ends as if by a FIN."""
    a, b = await tls.pair("tcp")
    reset(b)
    await trio.aclose_forcefully(b)
    report = await a.shutdown()
    assert report.outcome is ShutdownOutcome.RESET
    assert not report.close_notify_sent
    await a.aclose()


@pytest.mark.parametrize(
    "end",
    [
        TLSStream.shutdown,
        partial(TLSStream.send_eof, allow_tls12=True),
        TLSStream.aclose,
    ],
)
async def test_our_close_notify_follows_a_truncation(tls: Maker, end: Any) -> None:
    async with tls.client_and_bare_server("tcp") as (a, peer):
        assert isinstance(peer.transport, trio.SocketStream)
        await peer.transport.send_eof()  # a FIN, and it goes on reading
        with pytest.raises(TruncatedError):
            await a.receive_some()
        await a.send_all(b"I heard you leave")
        await end(a)
        assert a.report.outcome is ShutdownOutcome.TRUNCATED
        assert a.report.close_notify_sent
        while not peer.close_notify_received:
            await peer.receive()
        assert peer.received == b"I heard you leave"


async def test_what_the_peer_said_before_it_broke_our_sending_can_be_read(
    tls: Maker,
) -> None:
    """An early answer to an upload, say: EPIPE must not destroy it."""
    async with tls.client_and_bare_server() as (a, peer):
        await peer.send(peer.encrypt(b"413 too large") + peer.close_notify())
        await peer.transport.aclose()
        with pytest.raises(TransportBrokenError):
            await a.send_all(b"x" * 1000)
        assert await a.receive_some() == b"413 too large"
        assert await a.receive_some() == b""
        assert a.report.peer_data_complete
        assert a.report.outcome is ShutdownOutcome.RESET


# What breaks a connection first is its outcome, whatever the other direction finds:


async def send_until_broken(stream: TLSStream[Any]) -> None:
    async def send() -> None:
        while True:
            await stream.send_all(b"x")

    with pytest.raises(TransportBrokenError):
        await send()


async def check_final(stream: TLSStream[Any], outcome: ShutdownOutcome) -> None:
    report = stream.report
    assert report.outcome is outcome
    assert (await stream.shutdown()).outcome is outcome
    await stream.aclose()
    assert stream.report.outcome is outcome
    assert stream.report.error is not None
    assert report.error is not None
    assert str(stream.report.error) == str(report.error)


@both_roles
async def test_a_reset_that_a_send_has_met_stays_one_when_the_input_was_cut(
    tls: Maker, *, a_is_server: bool
) -> None:
    a, b = await parties(tls, "tcp", a_is_server=a_is_server)
    await b.transport_stream.aclose()
    await send_until_broken(a)
    assert a.report.outcome is ShutdownOutcome.RESET
    with pytest.raises(TruncatedError):
        await a.receive_some()
    await check_final(a, ShutdownOutcome.RESET)
    await trio.aclose_forcefully(b)


@both_roles
async def test_a_reset_that_a_send_has_met_stays_one_when_tls_fails(
    tls: Maker, *, a_is_server: bool
) -> None:
    a, b = await parties(tls, "tcp", a_is_server=a_is_server)
    await b.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
    await b.transport_stream.aclose()
    await send_until_broken(a)
    with pytest.raises(TLSFailedError):
        await a.receive_some()
    await check_final(a, ShutdownOutcome.RESET)
    await trio.aclose_forcefully(b)


@both_roles
async def test_a_cut_stays_one_when_a_send_meets_a_reset(
    tls: Maker, *, a_is_server: bool
) -> None:
    a, b = await parties(tls, "tcp", a_is_server=a_is_server)
    await b.transport_stream.aclose()
    with pytest.raises(TruncatedError):
        await a.receive_some()
    await send_until_broken(a)
    await check_final(a, ShutdownOutcome.TRUNCATED)
    await trio.aclose_forcefully(b)


@both_roles
async def test_a_reset_keeps_the_error_that_told_of_it(
    tls: Maker, *, a_is_server: bool
) -> None:
    a, b = await parties(tls, "tcp", a_is_server=a_is_server)
    reset(b)
    await trio.aclose_forcefully(b)
    with pytest.raises(TransportBrokenError, match="reset by peer"):
        await a.receive_some()
    await send_until_broken(a)  # by EPIPE
    assert "reset by peer" in str(a.report.error)
    await check_final(a, ShutdownOutcome.RESET)


async def test_while_a_shutdown_reads_on_nothing_final_is_told(tls: Maker) -> None:
    """It cannot send its close_notify, but how the input ends is to be seen."""
    a, b = await parties(tls, "memory", a_is_server=False)
    b.transport_stream.receive_stream.close()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.shutdown)
        await trio.testing.wait_all_tasks_blocked()
        assert a.report.outcome is ShutdownOutcome.OPEN
        b.transport_stream.send_stream.close()
    await check_final(a, ShutdownOutcome.TRUNCATED)
    await trio.aclose_forcefully(b)


async def test_a_shutdown_that_waits_in_vain_after_a_reset_says_so(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    a, b = await parties(tls, "memory", a_is_server=False)
    b.transport_stream.receive_stream.close()
    assert (await a.shutdown()).outcome is ShutdownOutcome.RESET
    b.transport_stream.send_stream.close()
    with pytest.raises(TruncatedError):
        await a.receive_some()
    await check_final(a, ShutdownOutcome.RESET)
    await trio.aclose_forcefully(b)


# Failures of TLS:


async def test_a_bad_record_is_a_failure_and_the_peer_learns_it(tls: Maker) -> None:
    async with tls.client_and_bare_server() as (a, peer):
        bad = bytearray(peer.encrypt(b"evil"))
        bad[-1] ^= 1
        await peer.send(bytes(bad))
        for _ in range(2):
            with pytest.raises(TLSFailedError) as caught:
                await a.receive_some()
            assert caught.value.reason in BAD_RECORD
            assert not caught.value.during_handshake
            assert isinstance(caught.value.__cause__, ssl.SSLError)
        assert a.report.outcome is ShutdownOutcome.FAILED
        assert isinstance(a.report.error, TLSFailedError)
        with pytest.raises(TLSFailedError):
            await a.send_all(b"x")
        with pytest.raises(TLSFailedError):
            await a.send_eof(allow_tls12=True)
        await peer.receive()
        assert peer.error is not None
        assert "BAD_RECORD_MAC" in peer.error.reason
        assert (await a.shutdown()).outcome is ShutdownOutcome.FAILED


async def test_a_bad_record_behind_good_ones_costs_none_of_them(tls: Maker) -> None:
    async with tls.client_and_bare_server() as (a, peer):
        await peer.send(peer.encrypt(b"good") + peer.tampered())
        assert await a.receive_some() == b"good"
        with pytest.raises(TLSFailedError):
            await a.receive_some()
        await peer.receive()
        assert peer.error is not None


async def test_the_peers_fatal_alert_is_a_failure(tls: Maker) -> None:
    async with tls.client_and_bare_server() as (a, peer):
        await peer.send(peer.alert(2, 20))
        with pytest.raises(TLSFailedError, match="alert bad record mac") as caught:
            await a.receive_some()
        assert caught.value.reason is not None
        assert a.report.outcome is ShutdownOutcome.FAILED


async def test_a_fatal_alert_is_given_up_when_the_peer_takes_nothing_in(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    a = TLSStream(
        ours,
        client_context(tls.version),
        server_hostname=NAME,
        policy=ShutdownPolicy(timeout=3),
    )
    peer = tls.peer(theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.do_handshake)
        nursery.start_soon(peer.handshake)
    await peer.send(peer.tampered())
    ours.send_stream.send_all_hook = trio.sleep_forever
    with pytest.raises(TLSFailedError):
        await a.receive_some()
    assert trio.current_time() == 3
    await trio.aclose_forcefully(a)


async def test_a_bad_record_is_told_at_once_while_another_task_cannot_send(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    a, b = await tls.pair("lockstep")
    b._engine.encrypt(b"evil")
    bad = bytearray(b._engine.output.read())
    bad[-1] ^= 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.send_all, b"nobody takes this")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(b.transport_stream.send_all, bytes(bad))
        with pytest.raises(TLSFailedError):
            await a.receive_some()
        assert trio.current_time() == 0
        nursery.cancel_scope.cancel()
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


async def test_a_fatal_alert_that_nobody_can_get_is_dropped(tls: Maker) -> None:
    async with tls.client_and_bare_server() as (a, peer):
        bad = bytearray(peer.encrypt(b"evil"))
        bad[-1] ^= 1
        await peer.send(bytes(bad))
        await peer.transport.aclose()
        with pytest.raises(TLSFailedError):
            await a.receive_some()
        assert a.report.outcome is ShutdownOutcome.FAILED


def test_a_report_can_be_had_at_any_time() -> None:
    async def main() -> ShutdownReport:
        transport, _ = trio.testing.memory_stream_pair()
        return TLSStream(transport, client_context(), server_hostname=NAME).report

    assert trio.run(main) == ShutdownReport(
        outcome=ShutdownOutcome.OPEN,
        close_notify_sent=False,
        close_notify_received=False,
        first=None,
        discarded=0,
        elapsed=0.0,
        error=None,
    )


def test_the_report_of_a_stream_that_nobody_closed_outlives_trio(tls: Maker) -> None:
    async def main() -> TLSStream[Any]:
        client, _ = await tls.pair()
        await client.shutdown(wait=False)
        return client

    report = trio.run(main).report
    assert report.outcome is ShutdownOutcome.SENT
    assert report.elapsed == 0


@pytest.mark.parametrize("transport", ["memory", "tcp", "stapled"])
async def test_a_closed_session_does_not_wait_for_the_garbage_collector(
    tls: Maker, transport: str
) -> None:
    gc.disable()
    try:
        pair = await tls.pair(transport)
        sessions = [weakref.ref(stream._engine.ssl_object) for stream in pair]
        async with trio.open_nursery() as nursery:
            for stream in pair:
                nursery.start_soon(stream.shutdown)
        for stream in pair:
            await stream.aclose()
        del pair, stream
        await trio.lowlevel.checkpoint()
        assert [session() for session in sessions] == [None, None]
    finally:
        gc.enable()
