"""The ways to end, beside other tasks and in front of peers that do not check."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeAlias

import pytest
import trio
import trio.testing

from tests.servers import HOST, Stream, port_of, serving, until
from tests.support import (
    NAME,
    Maker,
    client_context,
    must_raise,
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
    TruncatedError,
    open_tls_nursery,
)
from trio_tlsdown._stream.linger import unacknowledged
from trio_tlsdown._stream.stream import is_over
from trio_tlsdown.testing import ScriptedPeer

Ending: TypeAlias = Callable[[TLSStream[Any]], Awaitable[object]]

ENDINGS: Final[dict[str, Ending]] = {
    "send_eof": lambda stream: stream.send_eof(allow_tls12=True),
    "shutdown": lambda stream: stream.shutdown(wait=False),
    "aclose": lambda stream: stream.aclose(),
}

both_roles = pytest.mark.parametrize("server_side", [False, True])


@asynccontextmanager
async def opposite_a_plain_socket(
    tls: Maker, *, server_side: bool, **options: Any
) -> AsyncIterator[tuple[Stream, ScriptedPeer]]:
    """A TLSStream over TCP, and a peer of which the kernel's view counts."""
    ours, theirs = await tcp_transports()
    if server_side:
        stream = TLSStream(
            ours, server_context(tls.version), server_side=True, **options
        )
    else:
        stream = TLSStream(
            ours, client_context(tls.version), server_hostname=NAME, **options
        )
    peer = tls.peer(theirs, server_side=not server_side)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.handshake)
        await stream.do_handshake()
    await trio.testing.wait_all_tasks_blocked()
    assert stream.peer_state_nowait() is PeerState.IDLE  # no session ticket is unread
    try:
        yield stream, peer
    finally:
        await trio.aclose_forcefully(stream)
        await trio.aclose_forcefully(theirs)


def gated(stream: trio.testing.MemorySendStream) -> trio.Event:
    """Let what is sent pass only when the event is set."""
    gate = trio.Event()
    pump = stream.send_all_hook
    assert pump is not None

    async def wait_and_pump() -> None:
        await gate.wait()
        await pump()

    stream.send_all_hook = wait_and_pump
    return gate


async def how_tcp_ended(peer: ScriptedPeer) -> str | None:
    await peer.hear_to_end()
    return peer.transport_end


# An abort:


async def raise_in_a_block(stream: Stream) -> None:
    with suppress(ZeroDivisionError):
        async with stream:
            raise ZeroDivisionError


async def cancel_a_block(stream: Stream) -> None:
    with trio.CancelScope() as scope:
        async with stream:
            scope.cancel()
            await trio.lowlevel.checkpoint()


async def close_beside_a_sender(stream: Stream) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            must_raise, trio.ClosedResourceError, stream.send_all, bytes(20_000_000)
        )
        await trio.testing.wait_all_tasks_blocked()
        await stream.aclose()


async def close_behind_half_a_record(stream: Stream) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, bytes(20_000_000))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    await stream.aclose()


ABORTS: Final = [
    trio.aclose_forcefully,
    raise_in_a_block,
    cancel_a_block,
    close_beside_a_sender,
    close_behind_half_a_record,
]


@both_roles
@pytest.mark.parametrize("https_compatible", [False, True])
@pytest.mark.parametrize("abort", ABORTS)
async def test_an_abort_resets_tcp(
    tls: Maker, abort: Ending, *, server_side: bool, https_compatible: bool
) -> None:
    """Many a peer takes a FIN without close_notify for the end."""
    async with opposite_a_plain_socket(
        tls, server_side=server_side, https_compatible=https_compatible
    ) as (stream, peer):
        await abort(stream)
        assert stream.report.outcome is ShutdownOutcome.ABORTED
        assert await how_tcp_ended(peer) == "reset"


async def test_an_abort_is_a_fin_if_the_policy_says_so(tls: Maker) -> None:
    policy = ShutdownPolicy(reset_on_abort=False)
    async with opposite_a_plain_socket(tls, server_side=True, policy=policy) as (
        stream,
        peer,
    ):
        await trio.aclose_forcefully(stream)
        assert await how_tcp_ended(peer) == "FIN"


@both_roles
@pytest.mark.parametrize("ending", ["send_eof", "shutdown"])
async def test_a_close_notify_that_has_left_is_not_reset(
    tls: Maker, ending: str, *, server_side: bool
) -> None:
    async with opposite_a_plain_socket(tls, server_side=server_side) as (stream, peer):
        await ENDINGS[ending](stream)
        await trio.aclose_forcefully(stream)
        assert await how_tcp_ended(peer) == "FIN"
        assert peer.close_notify_received


async def test_an_alert_that_has_left_is_not_reset(tls: Maker) -> None:
    async with opposite_a_plain_socket(tls, server_side=True) as (stream, peer):
        await peer.send(peer.tampered())
        with pytest.raises(TLSFailedError):
            await stream.receive_some()
        await trio.aclose_forcefully(stream)
        assert await how_tcp_ended(peer) == "FIN"
        assert peer.error is not None


async def test_a_stream_that_was_unwrapped_is_not_reset(tls: Maker) -> None:
    async with opposite_a_plain_socket(tls, server_side=True) as (stream, peer):
        await peer.send(peer.close_notify())
        transport, _ = await stream.unwrap()
        await trio.aclose_forcefully(stream)
        await transport.send_all(b"still there")
        await transport.aclose()
        assert await how_tcp_ended(peer) == "FIN"


async def test_https_compatible_streams_end_with_a_fin(tls: Maker) -> None:
    async with opposite_a_plain_socket(
        tls, server_side=True, https_compatible=True
    ) as (stream, peer):
        await stream.send_all(b"the whole answer")
        await stream.aclose()
        assert await how_tcp_ended(peer) == "FIN"
        assert peer.received == b"the whole answer"


async def test_an_abort_before_the_handshake_has_nothing_to_reset(tls: Maker) -> None:
    ours, theirs = await tcp_transports()
    stream = TLSStream(ours, server_context(tls.version), server_side=True)
    await trio.aclose_forcefully(stream)
    assert await theirs.receive_some() == b""
    await theirs.aclose()


async def test_an_abort_of_a_transport_that_is_closed_already_is_quiet(
    tls: Maker,
) -> None:
    async with opposite_a_plain_socket(tls, server_side=True) as (stream, _):
        await stream.transport_stream.aclose()
        await trio.aclose_forcefully(stream)


async def test_closing_a_stream_that_nobody_opened_destroys_nothing(tls: Maker) -> None:
    """The handshake that it begins with takes a moment, and much may come meanwhile."""
    for _ in range(10):
        ours, theirs = await tcp_transports()
        stream = TLSStream(ours, client_context(tls.version), server_hostname=NAME)
        peer = tls.peer(theirs)

        async def greet(peer: ScriptedPeer = peer) -> None:
            await peer.handshake()
            await peer.send(peer.encrypt(b"welcome"))
            await peer.hear_to_end()
            await peer.transport.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(greet)
            await stream.aclose()
        assert peer.close_notify_received
        assert peer.transport_end == "FIN"


# A fatal alert is part of what was sent:


async def send_on(peer: ScriptedPeer) -> None:
    for _ in range(20):
        await peer.send(peer.encrypt(bytes(1000)))


@both_roles
@pytest.mark.parametrize("in_a_block", [False, True])
async def test_the_alert_for_a_bad_record_reaches_a_peer_that_sends_on(
    tls: Maker, *, server_side: bool, in_a_block: bool
) -> None:
    """Unread input would make the kernel send RST, which destroys it."""
    async with opposite_a_plain_socket(tls, server_side=server_side) as (stream, peer):

        async def receive() -> None:
            block = stream if in_a_block else contextlib.nullcontext()
            with pytest.raises(TLSFailedError):
                async with block:
                    await stream.receive_some()
            await stream.aclose()

        async with trio.open_nursery() as nursery:
            await peer.send(peer.tampered())
            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            await send_on(peer)
            await trio.testing.wait_all_tasks_blocked()
            assert await how_tcp_ended(peer) == "FIN"
            await peer.cut()
        assert peer.error is not None


async def test_the_alert_is_lingered_for_although_all_was_quiet(tls: Maker) -> None:
    """The peer may be about to send."""
    async with opposite_a_plain_socket(tls, server_side=True) as (stream, peer):
        await peer.send(peer.tampered())
        with pytest.raises(TLSFailedError):
            await stream.receive_some()
        await until(lambda: unacknowledged(stream.transport_stream.socket) == 0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.aclose)
            await trio.testing.wait_all_tasks_blocked()
            await send_on(peer)
            await trio.testing.wait_all_tasks_blocked()
            assert await how_tcp_ended(peer) == "FIN"
            await peer.cut()
        assert peer.error is not None


@pytest.mark.parametrize("starts", ["handshake", "aclose"])
async def test_a_refused_client_hears_why_although_it_sends_already(
    tls13: Maker, starts: str
) -> None:
    """On TLS 1.3 it is through with its handshake before it is refused."""
    context = server_context(tls13.version)
    context.verify_mode = ssl.CERT_REQUIRED
    ours, theirs = await tcp_transports()
    stream = TLSStream(ours, context, server_side=True)
    client = tls13.peer(theirs, server_side=False)

    async def refuse() -> None:
        if starts == "handshake":
            with pytest.raises(TLSFailedError):
                await stream.do_handshake()
            await stream.aclose()
        else:
            with pytest.raises(TLSFailedError):
                await stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(refuse)
        await client.handshake()
        for _ in range(10):
            await client.send(client.encrypt(bytes(1000)))
        await trio.testing.wait_all_tasks_blocked()
        assert await how_tcp_ended(client) == "FIN"
        await theirs.aclose()
    assert client.error is not None
    assert "CERTIFICATE_REQUIRED" in client.error.reason


async def test_an_alert_that_a_look_has_found_leaves_with_the_close(
    tls: Maker,
) -> None:
    async with opposite_a_plain_socket(tls, server_side=False) as (stream, peer):
        await peer.send(peer.tampered())
        await trio.testing.wait_all_tasks_blocked()
        assert stream.peer_state_nowait() is PeerState.BROKEN
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.aclose)
            await peer.hear_to_end()
            await peer.cut()
        assert peer.error is not None


# What has to be thrown away is bounded:


@pytest.mark.parametrize("https_compatible", [False, True])
async def test_what_a_flood_makes_a_closed_stream_take_in_is_bounded(
    tls: Maker, *, https_compatible: bool
) -> None:
    sent = 0

    async def flood(stream: Stream) -> None:
        nonlocal sent
        with suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(bytes(2**16))
                sent += 2**16

    async with serving(tls.version, flood) as (nursery, server):
        client = await nursery.connect(
            HOST,
            port_of(server),
            ssl_context=client_context(tls.version),
            server_hostname=NAME,
            https_compatible=https_compatible,
        )
        await client.receive_some()
        before = sent
        await client.aclose()
        await until(lambda: server.tally)
        assert sent - before < 32_000_000


# Behind the peer's close_notify:


@pytest.mark.parametrize("extra", [b"", b"\x15", b"second"])
@pytest.mark.parametrize("shuts_down", [False, True])
async def test_an_answer_arrives_whole_whatever_comes_behind_a_close_notify(
    tls: Maker, extra: bytes, *, shuts_down: bool
) -> None:
    size = 500_000
    theirs_socket = trio.socket.socket()
    theirs_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
    [listener] = await trio.open_tcp_listeners(0, host=HOST)
    await theirs_socket.connect(listener.socket.getsockname())
    theirs, ours = trio.SocketStream(theirs_socket), await listener.accept()
    await listener.aclose()
    stream = TLSStream(ours, server_context(tls.version), server_side=True)
    peer = tls.peer(theirs, server_side=False)
    closed = trio.Event()

    async def answer() -> None:
        async for _ in stream:
            pass
        await stream.send_all(bytes(size))
        await until(lambda: not extra or ours.socket.is_readable())
        if shuts_down:
            await stream.shutdown()
        await stream.aclose()
        closed.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.do_handshake)
        await peer.handshake()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        await peer.send(peer.encrypt(b"request") + peer.close_notify())
        await trio.testing.wait_all_tasks_blocked()
        if extra:
            await theirs.send_all(peer.close_notify() if extra == b"second" else extra)
        with trio.move_on_after(0.05):  # a reader that is slow
            await closed.wait()
        await peer.hear_to_end()
        await theirs.aclose()
    assert len(peer.received) == size
    assert peer.close_notify_received
    assert stream.report.outcome is ShutdownOutcome.COMPLETE


# Beside other tasks:


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("waits", [False, True])
async def test_who_sends_beside_an_ending_is_told_that_it_is_closed(
    tls: Maker, ending: str, *, waits: bool
) -> None:
    """Busy is for two who send."""
    async with tls.client_and_bare_server() as (client, _):
        gate = gated(client.transport_stream.send_stream)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ENDINGS[ending], client)
            await trio.testing.wait_all_tasks_blocked()
            call = client.wait_send_all_might_not_block
            with pytest.raises(trio.ClosedResourceError):
                await (call() if waits else client.send_all(b"too late"))
            gate.set()


@pytest.mark.parametrize("second", ["shutdown", "aclose"])
@pytest.mark.parametrize("first", ["send_eof", "shutdown"])
async def test_two_endings_send_one_close_notify_together(
    tls: Maker, first: str, second: str
) -> None:
    """A close beside a shutdown that cannot send yet takes it over, no abort."""
    async with tls.client_and_bare_server() as (client, server):
        gate = gated(client.transport_stream.send_stream)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ENDINGS[first], client)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(ENDINGS[second], client)
            await trio.testing.wait_all_tasks_blocked()
            gate.set()
        await server.hear_close_notify()
        assert client.report.outcome is ShutdownOutcome.SENT


async def test_a_reader_gets_the_end_that_another_task_has_seen(tls: Maker) -> None:
    async def unwrap(stream: TLSStream[Any]) -> None:
        await stream.unwrap()

    async def shut_down_and_close(stream: TLSStream[Any]) -> None:
        await stream.shutdown()
        await stream.aclose()

    for end in (unwrap, shut_down_and_close):
        async with tls.client_and_bare_server() as (client, server):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(end, client)
                await trio.testing.wait_all_tasks_blocked()

                async def read(stream: TLSStream[Any] = client) -> None:
                    assert await stream.receive_some() == b""

                nursery.start_soon(read)
                await trio.testing.wait_all_tasks_blocked()
                await server.send(server.close_notify())


async def test_a_busy_reader_finds_what_came_before_the_end(tls: Maker) -> None:
    async with tls.client_and_bare_server() as (client, server):
        await server.send(server.encrypt(b"the rest") + server.close_notify())
        report = await client.shutdown()
        assert report.outcome is ShutdownOutcome.COMPLETE
        await client.aclose()
        assert await client.receive_some(3) == b"the"
        assert await client.receive_some() == b" rest"
        assert await client.receive_some() == b""
        with pytest.raises(trio.ClosedResourceError):
            await client.send_all(b"more")


async def test_a_single_byte_that_came_before_the_end_is_kept(tls: Maker) -> None:
    async with tls.client_and_bare_server() as (client, server):
        await server.send(server.encrypt(b"x") + server.close_notify())
        await client.shutdown()
        await client.aclose()
        assert await client.receive_some() == b"x"


async def test_a_closed_stream_has_nothing_for_a_reader_if_all_was_read(
    tls: Maker,
) -> None:
    async with tls.client_and_bare_server() as (client, server):
        await server.send(server.close_notify())
        await client.shutdown()
        await client.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await client.receive_some()


async def test_an_abort_keeps_nothing_for_a_reader(tls: Maker) -> None:
    async with tls.client_and_bare_server() as (client, server):
        await server.send(server.encrypt(b"the rest") + server.close_notify())
        await client.shutdown()
        await trio.aclose_forcefully(client)
        with pytest.raises(trio.ClosedResourceError):
            await client.receive_some()


async def test_a_busy_reader_hears_of_a_cut_behind_what_came(tls: Maker) -> None:
    async with tls.client_and_bare_server() as (client, server):
        await server.send(server.encrypt(b"a part"))
        await server.cut()
        assert (await client.shutdown()).outcome is ShutdownOutcome.TRUNCATED
        await client.aclose()
        assert await client.receive_some() == b"a part"
        with pytest.raises(TruncatedError):
            await client.receive_some()


@pytest.mark.parametrize("close", [trio.aclose_forcefully, TLSStream.aclose])
async def test_a_stream_that_was_closed_in_mid_conversation_gives_nothing_more(
    tls: Maker, close: Ending
) -> None:
    async with tls.client_and_bare_server() as (client, server):
        await server.send(server.encrypt(b"a part, and more to come"))
        await client.receive_some(1)
        await close(client)
        with pytest.raises(trio.ClosedResourceError):
            await client.receive_some()


async def test_leaving_a_nursery_loses_nothing_that_a_busy_task_has_to_read(
    tls: Maker,
) -> None:
    busy = trio.Event()
    chunks: list[bytes | bytearray] = []

    async def answer(stream: Stream) -> None:
        await stream.send_all(b"first ")
        await stream.receive_some()
        await stream.send_all(b"last")

    async def read(stream: Stream) -> None:
        async for chunk in stream:
            chunks.append(chunk)
            await busy.wait()

    async with (
        serving(tls.version, answer) as (_, server),
        trio.open_nursery() as outer,
    ):
        async with open_tls_nursery() as nursery:
            client = await nursery.connect(
                HOST,
                port_of(server),
                ssl_context=client_context(tls.version),
                server_hostname=NAME,
            )
            outer.start_soon(read, client)
            await until(lambda: chunks)
        busy.set()
    assert b"".join(chunks) == b"first last"
    assert client.report.outcome is ShutdownOutcome.COMPLETE


async def test_leaving_a_nursery_does_not_wait_for_the_one_who_leaves_to_read(
    tls: Maker,
) -> None:
    """Nor for any other task that read once: only for one that reads on."""

    async def flood(stream: Stream) -> None:
        with suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(bytes(2**16))

    async with serving(tls.version, flood) as (_, server):
        async with open_tls_nursery(ShutdownPolicy(timeout=60)) as nursery:
            client = await nursery.connect(
                HOST,
                port_of(server),
                ssl_context=client_context(tls.version),
                server_hostname=NAME,
            )
            await client.receive_some()
            before = trio.current_time()
        assert trio.current_time() - before < 10
        await until(lambda: server.tally)


# Transports that do as they like:


async def test_a_close_after_somebody_closed_the_transport_is_an_abort(
    tls: Maker,
) -> None:
    events: list[TraceEvent] = []
    a, b = await tls.pair("tcp", client={"trace": events.append})
    await a.transport_stream.aclose()
    assert is_over(a)
    await a.aclose()
    assert a.report.outcome is ShutdownOutcome.ABORTED
    assert events[-1].kind is TraceKind.TRANSPORT_CLOSED
    await trio.aclose_forcefully(b)


async def test_a_stream_is_over_when_it_has_closed_and_not_before(
    tls: Maker,
) -> None:
    a, b = await tls.pair("memory")
    gate = gated(a.transport_stream.send_stream)
    assert not is_over(a)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.aclose)
        await trio.testing.wait_all_tasks_blocked()
        assert not is_over(a)
        gate.set()
    assert is_over(a)
    await trio.aclose_forcefully(b)


async def test_a_stream_whose_transport_refuses_to_be_closed_is_not_over(
    tls: Maker,
) -> None:
    a, b = await tls.pair("memory")

    def refuse() -> None:
        raise OSError("not now")

    a.transport_stream.send_stream.close_hook = refuse
    with pytest.raises(OSError, match="not now"):
        await a.aclose()
    assert not is_over(a)
    await trio.aclose_forcefully(b)
