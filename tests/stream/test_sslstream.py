"""`trio_tlsdown.shutdown`: a `trio.SSLStream` that other code made ends as a TLSStream does."""

from __future__ import annotations

import gc
import re
import ssl
import textwrap
import weakref
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import pytest
import trio
import trio.testing

import trio_tlsdown
from tests.support import (
    CA,
    TRANSPORTS,
    VERSIONS,
    Maker,
    collect,
    must_raise,
    shake_hands,
)
from trio_tlsdown import (
    ShutdownOutcome,
    ShutdownPolicy,
    ShutdownReport,
    TLSFailedError,
    TLSStream,
    TransportBrokenError,
    shutdown,
)
from trio_tlsdown._stream.sslstream import SSLStreamCloser, _Exchange
from trio_tlsdown.testing import (
    BEHAVIOURS,
    NAME,
    Cancellation,
    RoguePeer,
    ScriptedPeer,
    cancel_everywhere,
    client_context,
    memory_transports,
    server_context,
    tcp_transports,
)

from .test_rogues import PATIENCE, POLICY, be_good, ending, less_of_it

__all__ = ["less_of_it"]  # a fixture


async def meet(
    nursery: trio.Nursery,
    behaviour: str,
    version: str,
    *,
    rogue_is_server: bool,
    transport: str,
    kind: Any,
    cut_is_end: bool,
) -> Any:
    ours, theirs = (
        memory_transports() if transport == "memory" else await tcp_transports()
    )
    peer = RoguePeer(
        behaviour, theirs, server_side=rogue_is_server, version=version, hears=1
    )
    nursery.start_soon(peer.run)
    context = (client_context if rogue_is_server else server_context)(version=version)
    set_cut_is_end(context, cut_is_end)
    if rogue_is_server:
        return kind(ours, context, server_hostname=NAME)
    return kind(ours, context, server_side=True)


def set_cut_is_end(context: ssl.SSLContext, value: bool) -> None:
    """SSL_OP_IGNORE_UNEXPECTED_EOF, which not every Python has a name for."""
    context.options &= ~(1 << 7)
    context.options |= value << 7


async def play(
    behaviour: str,
    version: str,
    *,
    rogue_is_server: bool,
    transport: str,
    kind: Any,
    cut_is_end: bool,
) -> ShutdownReport:
    async with trio.open_nursery() as nursery:
        stream = await meet(
            nursery,
            behaviour,
            version,
            rogue_is_server=rogue_is_server,
            transport=transport,
            kind=kind,
            cut_is_end=cut_is_end,
        )
        bare = stream.transport_stream
        if not BEHAVIOURS[behaviour].in_handshake:
            await stream.send_all(b"x")
            await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(PATIENCE):
            report = await shutdown(stream, policy=POLICY)
        assert stream.transport_stream is bare
        await trio.aclose_forcefully(stream)
        nursery.cancel_scope.cancel()
    return report


def facts(report: ShutdownReport) -> dict[str, object]:
    return {
        "outcome": report.outcome,
        "close_notify_sent": report.close_notify_sent,
        "close_notify_received": report.close_notify_received,
        "first": report.first,
        "discarded": report.discarded,
        "error": type(report.error),
        "reason": getattr(report.error, "reason", None),
    }


OF_TLSSTREAM: Final = partial(TLSStream[Any], policy=POLICY)


# Where the two disagree, and why. Outcomes, alerts and errors are the same everywhere.
DISAGREEMENTS: Final = {
    # Each gives up when more is unread than `max_unread`. How far the read that exceeds
    # it goes differs: SSLStream asks its transport for less at a time.
    "flood": "discarded",
}


@pytest.mark.parametrize("cut_is_end", [False, True])
@pytest.mark.parametrize("transport", ["memory", "tcp"])
@pytest.mark.parametrize("rogue_is_server", [False, True])
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("version", VERSIONS)
async def test_an_sslstream_ends_as_a_tlsstream_does(
    behaviour: str,
    version: str,
    transport: Literal["memory", "tcp"],
    autojump_clock: trio.testing.MockClock,
    *,
    rogue_is_server: bool,
    cut_is_end: bool,
) -> None:
    play_with = partial(
        play,
        behaviour,
        version,
        rogue_is_server=rogue_is_server,
        transport=transport,
        cut_is_end=cut_is_end,
    )
    theirs = await play_with(kind=trio.SSLStream)
    ours = await play_with(kind=partial(TLSStream[Any], policy=POLICY))
    assert theirs.outcome is ending(behaviour, "shutdown", version, transport)
    differing = {
        key for key, value in facts(theirs).items() if facts(ours)[key] != value
    }
    assert differing <= {DISAGREEMENTS.get(behaviour)}


# Whom it takes, and what it leaves:


async def pair(
    version: str,
    transport: str = "memory",
    kind: type[Any] = trio.SSLStream,
    *,
    cut_is_end: bool = False,
    sslobject_class: type[ssl.SSLObject] = ssl.SSLObject,
) -> tuple[Any, TLSStream[Any]]:
    """A client of that kind, and a server that behaves."""
    ours, theirs = await TRANSPORTS[transport]()
    context = client_context(version=version, ca=CA)
    set_cut_is_end(context, cut_is_end)
    context.sslobject_class = sslobject_class
    client = kind(ours, context, server_hostname=NAME)
    server = TLSStream(theirs, server_context(version=version, ca=CA), server_side=True)
    await shake_hands(client, server)
    return client, server


@pytest.mark.parametrize("kind", [trio.SSLStream, TLSStream])
async def test_both_kinds_of_stream_are_shut_down(kind: type[Any], tls: Maker) -> None:
    client, server = await pair(tls.version, kind=kind)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.shutdown)
        report = await shutdown(client)
    assert report.outcome is ShutdownOutcome.COMPLETE
    assert report.secure
    assert server.report.outcome is ShutdownOutcome.COMPLETE
    assert (await shutdown(client)).outcome is ShutdownOutcome.COMPLETE
    await client.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await client.transport_stream.receive_some()
    with pytest.raises(trio.ClosedResourceError):
        await shutdown(client)


async def test_what_is_no_tls_stream_is_not_shut_down() -> None:
    ours, _ = await TRANSPORTS["memory"]()
    with pytest.raises(TypeError, match="SSLStream"):
        await shutdown(ours)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"policy": 5}, {"unread": b""}, {"unread": 1}])
async def test_a_wrong_argument_is_told(options: dict[str, Any], tls: Maker) -> None:
    client, _ = await pair(tls.version)
    with pytest.raises(TypeError, match=next(iter(options))):
        await shutdown(client, **options)
    await client.send_all(b"nothing has happened")


async def test_what_comes_meanwhile_is_given_to_the_caller(tls: Maker) -> None:
    client, server = await pair(tls.version)
    unread = bytearray(b"before, ")

    async def answer() -> None:
        assert [data async for data in server] == []
        await server.send_all(b"after")
        await server.shutdown(wait=False)

    await server.send_all(b"in between, ")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        report = await shutdown(client, unread=unread)
    assert report.outcome is ShutdownOutcome.COMPLETE
    assert report.discarded == 0
    assert unread == b"before, in between, after"


async def test_what_was_decrypted_in_part_is_given_to_the_caller(tls: Maker) -> None:
    """SSLStream has the rest in its buffers: SSL_shutdown would throw it away."""
    client, server = await pair(tls.version)
    unread = bytearray()
    for data in b"first", b"second", b"third":
        await server.send_all(data)
    assert await client.receive_some(2) == b"fi"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.shutdown)
        report = await shutdown(client, unread=unread)
    assert report.outcome is ShutdownOutcome.COMPLETE
    assert unread == b"rstsecondthird"


async def test_a_peer_that_said_goodbye_before_is_answered(tls: Maker) -> None:
    client, server = await pair(tls.version)
    await server.shutdown(wait=False)
    assert await client.receive_some() == b""
    report = await shutdown(client)
    assert report.outcome is ShutdownOutcome.COMPLETE
    assert report.first == "peer"
    assert (await server.shutdown()).outcome is ShutdownOutcome.COMPLETE
    await client.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await client.transport_stream.receive_some()


@pytest.mark.parametrize("transport", ["memory", "tcp"])
@pytest.mark.parametrize("cut", [False, True])
async def test_an_end_that_came_before_is_claimed_only_if_it_was_no_cut(
    transport: str, tls: Maker, *, cut: bool
) -> None:
    """By default Python tells OpenSSL to take a cut for an end."""
    client, server = await pair(tls.version, transport, cut_is_end=True)
    if cut:
        await server.transport_stream.aclose()
    else:
        await server.shutdown(wait=False)
    assert await client.receive_some() == b""
    report = await shutdown(client)
    if transport == "tcp" and not cut:  # there is no FIN, and the kernel can tell
        assert report.outcome is ShutdownOutcome.COMPLETE
    elif transport == "memory" and cut:
        assert report.outcome is ShutdownOutcome.RESET  # it takes no close_notify
    else:
        assert report.outcome is ShutdownOutcome.ABORTED
        assert report.close_notify_sent
    assert report.close_notify_received is (transport == "tcp" and not cut)
    await trio.aclose_forcefully(client)
    await trio.aclose_forcefully(server)


async def test_a_later_call_takes_the_exchange_up_again(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    client, server = await pair(tls.version)
    report = await shutdown(client, policy=ShutdownPolicy(timeout=3))
    assert report.outcome is ShutdownOutcome.ABORTED
    assert report.elapsed == pytest.approx(3)
    assert report.secure
    assert report.close_notify_sent
    await server.shutdown(wait=False)
    report = await shutdown(client)
    assert report.outcome is ShutdownOutcome.COMPLETE
    assert report.first == "local"


async def test_an_unwrap_of_others_that_was_cancelled_is_taken_up(tls: Maker) -> None:
    client, server = await pair(tls.version)
    await cancel_unwrap(client)
    assert await server.receive_some() == b""
    await server.shutdown(wait=False)
    report = await shutdown(client)
    assert report.outcome is ShutdownOutcome.COMPLETE
    assert report.first == "local"


async def cancel_unwrap(client: trio.SSLStream[Any]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.unwrap)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_an_answer_that_waits_behind_data_of_an_earlier_shutdown_is_read(
    tls: Maker,
) -> None:
    """Ours has left, theirs has come: SSLStream says so with an error."""
    client, server = await pair(tls.version)
    await cancel_unwrap(client)
    await server.send_all(b"data")
    await server.shutdown(wait=False)
    assert await client.receive_some(4) == b"data"  # the alert was read along with it
    report = await shutdown(client)
    assert report.outcome is ShutdownOutcome.COMPLETE
    assert report.first == "local"


async def test_a_peer_that_has_gone_before_the_handshake_is_told(tls: Maker) -> None:
    ours, theirs = await TRANSPORTS["memory"]()
    await theirs.aclose()
    client = trio.SSLStream(
        ours, client_context(version=tls.version), server_hostname=NAME
    )
    report = await shutdown(client)
    assert report.outcome is ShutdownOutcome.RESET
    assert isinstance(report.error, TransportBrokenError)


async def test_a_close_notify_that_openssl_will_not_send_is_a_failure(
    tls: Maker,
) -> None:
    """As in the middle of a renegotiation."""

    class Refusing(ssl.SSLObject):
        def unwrap(self) -> None:
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, "shutdown while in init")

    client, _ = await pair(tls.version, sslobject_class=Refusing)
    report = await shutdown(client)
    assert report.outcome is ShutdownOutcome.FAILED
    assert isinstance(report.error, TLSFailedError)
    assert not report.close_notify_sent


async def test_room_to_send_can_be_waited_for_meanwhile(tls: Maker) -> None:
    client, server = await pair(tls.version)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shutdown, client)
        await trio.testing.wait_all_tasks_blocked()
        await client.wait_send_all_might_not_block()
        await server.shutdown()


async def test_why_an_sslstream_was_broken_before_is_not_guessed(tls: Maker) -> None:
    client, server = await pair(tls.version)
    await server.transport_stream.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await client.receive_some()
    report = await shutdown(client)
    assert report.outcome is ShutdownOutcome.ABORTED
    assert not report.secure
    assert report.error is None


@pytest.mark.parametrize("later", range(8))
async def test_why_a_handshake_of_others_broke_it_meanwhile_is_not_guessed(
    later: int, autojump_clock: trio.testing.MockClock
) -> None:
    ours, _ = memory_transports()
    client = trio.SSLStream(ours, client_context(), server_hostname=NAME)

    async def shake_hands() -> None:
        with scope, suppress(trio.BrokenResourceError):
            await client.do_handshake()

    async def end() -> None:
        for _ in range(later):
            await trio.lowlevel.checkpoint()
        assert (await shutdown(client)).outcome is ShutdownOutcome.ABORTED

    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        nursery.start_soon(shake_hands)
        nursery.start_soon(end)
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        scope.cancel()
    await trio.aclose_forcefully(client)


async def test_without_any_time_a_goodbye_that_need_not_wait_is_sent(
    tls: Maker,
) -> None:
    client, server = await pair(tls.version)
    await client.send_all(b"hello")
    report = await shutdown(client, policy=ShutdownPolicy(timeout=0))
    assert report.close_notify_sent
    assert await server.receive_some() == b"hello"
    assert await server.receive_some() == b""


async def test_its_transport_stays_within_reach_meanwhile(tls: Maker) -> None:
    ours, theirs = await tcp_transports()
    client = trio.SSLStream(
        ours, client_context(version=tls.version), server_hostname=NAME
    )
    server = TLSStream(theirs, server_context(version=tls.version), server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shutdown, client)
        await server.do_handshake()
        await trio.testing.wait_all_tasks_blocked(0.001)
        assert client.transport_stream is not ours
        assert client.transport_stream.socket is ours.socket
        await server.shutdown()
    assert client.transport_stream is ours
    await client.aclose()
    await server.aclose()


async def test_an_sslstream_that_somebody_reads_is_left_alone(tls: Maker) -> None:
    client, server = await pair(tls.version)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await shutdown(client)
        await server.send_all(b"goes on")
    await client.send_all(b"likewise")


async def test_an_sslstream_that_somebody_sends_on_is_left_alone(tls: Maker) -> None:
    client, server = await pair(tls.version, "lockstep")
    unread = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, b"is being sent")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await shutdown(client, unread=unread)
        assert await server.receive_some() == b"is being sent"


async def test_a_sender_that_comes_in_between_is_not_interrupted(
    tls: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the peer's close_notify, when ours is all that there is to send."""
    client, server = await pair(tls.version, "lockstep")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(server.shutdown, wait=False))
        assert await client.receive_some() == b""
    send_close_notify = _Exchange._send_close_notify

    async def send_close_notify_beside_a_sender(exchange: _Exchange) -> None:
        nursery.start_soon(client.send_all, b"data")
        await trio.testing.wait_all_tasks_blocked()
        await send_close_notify(exchange)

    monkeypatch.setattr(
        _Exchange, "_send_close_notify", send_close_notify_beside_a_sender
    )
    async with trio.open_nursery() as nursery:
        with pytest.raises(trio.BusyResourceError):
            await shutdown(client)
        await server.transport_stream.receive_some()  # and the sender goes on


async def test_a_sender_that_comes_too_late_breaks_no_more_than_it_has_to(
    tls: Maker,
) -> None:
    client, server = await pair(tls.version)
    reports: list[ShutdownReport] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect, reports, shutdown, client)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BrokenResourceError):
            await client.send_all(b"behind our close_notify")
        await server.send_all(b"goes on")
    [report] = reports
    assert report.outcome is ShutdownOutcome.ABORTED
    assert report.close_notify_sent
    assert report.error is None


async def test_two_tasks_cannot_shut_an_sslstream_down_together(tls: Maker) -> None:
    client, server = await pair(tls.version)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shutdown, client)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError, match="shutting down"):
            await shutdown(client)
        await server.shutdown()


async def test_closing_in_another_task_ends_a_shutdown(tls: Maker) -> None:
    client, _ = await pair(tls.version)
    reports: list[ShutdownReport] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect, reports, shutdown, client)
        await trio.testing.wait_all_tasks_blocked()
        await client.aclose()
    [report] = reports
    assert report.outcome is ShutdownOutcome.SENT


async def test_a_transport_that_somebody_closes_under_it_is_told(tls: Maker) -> None:
    client, _ = await pair(tls.version)
    transport = client.transport_stream
    async with trio.open_nursery() as nursery:
        nursery.start_soon(must_raise, trio.ClosedResourceError, shutdown, client)
        await trio.testing.wait_all_tasks_blocked()
        await transport.aclose()
    assert client.transport_stream is transport


async def test_an_sslstream_that_was_unwrapped_is_closed(tls: Maker) -> None:
    client, server = await pair(tls.version)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.shutdown)
        await client.unwrap()
    with pytest.raises(trio.ClosedResourceError, match="unwrapped"):
        await shutdown(client)


async def test_nothing_is_kept_of_an_sslstream_that_has_gone(tls: Maker) -> None:
    client, server = await pair(tls.version)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.shutdown)
        await shutdown(client)
    await client.aclose()
    gone = weakref.ref(client)
    del client
    gc.collect()
    assert gone() is None


async def test_the_answer_to_a_key_update_does_not_follow_our_close_notify() -> None:
    ours, theirs = memory_transports()
    context = client_context(version="TLSv1.3", ca=CA)
    client = trio.SSLStream(ours, context, server_hostname=NAME)
    peer = ScriptedPeer(theirs, server_side=True, version="TLSv1.3", ca=CA)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.handshake)
        await client.do_handshake()
    await peer.send(peer.encrypt(b"behind the session tickets"))
    await client.receive_some()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shutdown, client)
        await peer.hear_close_notify()
        for _ in range(2):  # OpenSSL answers the first one along with the second
            await peer.send(peer.key_update())
            await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            theirs.receive_some_nowait()
        nursery.cancel_scope.cancel()


async def test_wherever_it_is_cancelled_nothing_is_claimed_that_was_not_seen(
    tls: Maker,
) -> None:
    async def scenario(cancellation: Cancellation) -> None:
        client, server = await pair(tls.version)
        transport = client.transport_stream
        unread = bytearray()
        await server.send_all(b"data")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(be_good, server)
            with cancellation:
                await shutdown(client, unread=unread)
            assert client.transport_stream is transport
            report = await shutdown(
                client, policy=ShutdownPolicy(timeout=1), unread=unread
            )
            await trio.aclose_forcefully(client)
        assert server.report.close_notify_received is report.close_notify_sent
        assert not report.close_notify_received or server.report.close_notify_sent
        if report.outcome is ShutdownOutcome.COMPLETE:
            assert unread == b"data"

    await cancel_everywhere(scenario)


HOW_TO: Final = Path(__file__).parents[2] / "docs" / "how-to" / "shutdown-sslstream.md"
SNIPPETS: Final = re.findall(r"```python\n(.*?)```", HOW_TO.read_text(), re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS)
async def test_what_the_how_to_shows_ends_a_stream_well(
    snippet: str, tls: Maker
) -> None:
    client, server = await pair(tls.version)
    names: dict[str, Any] = {"stream": client, "trio_tlsdown": trio_tlsdown}
    exec(f"async def run():\n{textwrap.indent(snippet, '    ')}", names)  # noqa: S102
    async with trio.open_nursery() as nursery:
        nursery.start_soon(be_good, server)
        await names["run"]()
    assert server.report.outcome is ShutdownOutcome.COMPLETE


async def test_a_transport_that_was_closed_under_it_is_told_as_closed() -> None:
    context = client_context(version="TLSv1.3")
    # Then it looks whether the transport has ended.
    context.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    mine, theirs = await tcp_transports()
    ours = trio.SSLStream(mine, context, server_hostname=NAME)
    other = trio.SSLStream(theirs, server_context(version="TLSv1.3"), server_side=True)
    await shake_hands(ours, other)
    await mine.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await shutdown(ours)
    await trio.aclose_forcefully(other)


async def test_elapsed_is_the_time_from_the_first_call_until_the_stream_closed(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    client, server = await pair(tls.version)
    closer = SSLStreamCloser(client, ShutdownPolicy(timeout=3))
    await trio.sleep(10)
    assert closer.report.elapsed == 0
    await closer.shutdown()
    await trio.sleep(2)
    assert closer.report.elapsed == pytest.approx(5)
    await closer.aclose()
    await trio.sleep(20)
    assert closer.report.elapsed == pytest.approx(5)
    await trio.aclose_forcefully(server)


async def test_the_first_report_knows_that_others_have_unwrapped_the_stream(
    tls: Maker,
) -> None:
    client, server = await pair(tls.version)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.shutdown)
        await client.unwrap()
    report = SSLStreamCloser(client, ShutdownPolicy()).report
    assert report.outcome is ShutdownOutcome.COMPLETE


@pytest.mark.parametrize(("size", "outcome"), [(100, "complete"), (101, "aborted")])
async def test_a_shutdown_takes_in_max_unread_and_no_more(
    size: int, outcome: str, tls: Maker
) -> None:
    client, server = await pair(tls.version)

    async def answer() -> None:
        assert await server.receive_some() == b""
        await server.send_all(bytes(size))
        await trio.testing.wait_all_tasks_blocked()
        await server.shutdown(wait=False)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        report = await shutdown(client, policy=ShutdownPolicy(max_unread=100))
    assert report.outcome.value == outcome
    assert report.discarded == size


async def test_an_sslstream_has_one_closer_whatever_the_policy(tls: Maker) -> None:
    client, _ = await pair(tls.version)
    hasty = SSLStreamCloser(client, ShutdownPolicy(timeout=1))
    assert hasty == SSLStreamCloser(client, ShutdownPolicy())
