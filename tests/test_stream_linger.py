"""Closing TCP: what was sent arrives whole, whatever the peer sends meanwhile.

Kernels are the subject here, so time is real.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import attrs
import pytest
import trio
import trio.testing

from trio_tlsdown import ShutdownOutcome, ShutdownPolicy, TLSStream
from trio_tlsdown.testing import tcp_transports
from trio_tlsdown.testing._transports import reset

from .support import NAME, Maker, client_context, server_context

RUNS: Final = 50
SMALL, BIG = 12_000, 2**20  # bytes
CHUNK: Final = 2**14
REST: Final = 1000  # of the answer, which the peer's kernel holds when we have closed

Closer: TypeAlias = "TLSStream[trio.SocketStream] | trio.SSLStream[trio.SocketStream]"
MakeCloser: TypeAlias = Callable[[trio.SocketStream, Maker], Closer]


@pytest.fixture(autouse=True)
def _slow_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes all that its kernel has at once is not slow."""
    monkeypatch.setattr("trio_tlsdown._wire.RECEIVE_SIZE", 2**16)


def ours(transport: trio.SocketStream, tls: Maker) -> Closer:
    return TLSStream(transport, server_context(tls.version), server_side=True)


def trios(transport: trio.SocketStream, tls: Maker) -> Closer:
    return trio.SSLStream(transport, server_context(tls.version), server_side=True)


async def receive_all(stream: trio.abc.ReceiveStream) -> None:
    async for _ in stream:
        pass


async def send_on_and_on(stream: trio.abc.SendStream) -> None:
    while True:
        await stream.send_all(b"one more question")


@attrs.define
class Fate:
    """What became of an answer."""

    received: int = 0
    whole: bool = False
    """It ended with close_notify."""


async def answer_and_close(
    tls: Maker, make: MakeCloser, size: int, peer_sends: str, host: str, *, parked: bool
) -> Fate:
    """Send *size* bytes and close, while the peer, a slow reader, has its say."""
    theirs, transport = await tcp_transports(host)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, min(size // 8, 2**16))
    peer = TLSStream(theirs, client_context(tls.version), server_hostname=NAME)
    closer = make(transport, tls)
    fate = Fate()
    closed = trio.Event()

    async def close() -> None:
        await closer.send_all(b"x" * size)
        await closer.aclose()
        closed.set()

    async def read_for_ever() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await receive_all(closer)

    def room() -> int:
        left = size - REST - fate.received
        return CHUNK if left <= 0 else min(CHUNK, left)

    async def read_slowly() -> None:
        try:
            while chunk := await peer.receive_some(room()):
                fate.received += len(chunk)
                if peer_sends == "meanwhile" and fate.received == len(chunk):
                    await peer.send_all(b"one more question")
                if peer_sends == "afterwards" and fate.received == size - REST:
                    await closed.wait()
                    await peer.send_all(b"one more question")
                await trio.sleep(0.001)
        except trio.BrokenResourceError:
            pass
        else:
            fate.whole = True
        finally:
            await trio.aclose_forcefully(peer)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.do_handshake)
        await closer.do_handshake()
        await peer.send_all(b"a question")
        await closer.receive_some()
    async with trio.open_nursery() as nursery:
        if parked:
            nursery.start_soon(read_for_ever)
            await trio.testing.wait_all_tasks_blocked()
        if peer_sends == "before":
            await peer.send_all(b"a question that nobody reads")
        nursery.start_soon(close)
        await read_slowly()
    return fate


async def many(one: Callable[[], Awaitable[Fate]]) -> list[Fate]:
    fates: list[Fate] = []

    async def run() -> None:
        fates.append(await one())

    async with trio.open_nursery() as nursery:
        for _ in range(RUNS):
            nursery.start_soon(run)
    return fates


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("parked", [False, True])
@pytest.mark.parametrize(
    ("peer_sends", "size"),
    [
        ("before", SMALL),
        ("before", BIG),
        ("meanwhile", SMALL),
        ("meanwhile", BIG),
        ("afterwards", SMALL),
        ("afterwards", BIG),
    ],
)
async def test_what_was_sent_arrives_whole_though_the_peer_sends(
    tls13: Maker, size: int, peer_sends: str, host: str, *, parked: bool
) -> None:
    fates = await many(
        lambda: answer_and_close(tls13, ours, size, peer_sends, host, parked=parked)
    )
    assert fates == [Fate(size, whole=True)] * RUNS


async def test_trios_own_stream_loses_data_then(tls13: Maker) -> None:
    """Why there is lingering: trio.SSLStream (0.35) closes at once."""
    fates = await many(
        lambda: answer_and_close(tls13, trios, BIG, "before", "127.0.0.1", parked=False)
    )
    lost = [fate for fate in fates if not fate.whole]
    assert any(fate.received < BIG for fate in lost)


async def test_a_peer_that_sends_twice_afterwards_may_never_read_what_it_has(
    tls13: Maker,
) -> None:
    """The limit. Its kernel has all, and tells it of the reset first.

    A TLSStream reads on all the same; one that gives up when it cannot send, such
    as trio.SSLStream (0.35), does not. Only `shutdown`, or the peer's answer, proves
    that it has read.
    """
    theirs, transport = await tcp_transports()
    peer = trio.SSLStream(theirs, client_context(tls13.version), server_hostname=NAME)
    closer = ours(transport, tls13)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.do_handshake)
        await closer.do_handshake()
    await closer.send_all(b"the answer")
    await closer.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await send_on_and_on(peer)
    with pytest.raises(trio.BrokenResourceError):
        await peer.receive_some()
    await trio.aclose_forcefully(peer)


# What it costs:


async def test_a_quiet_connection_is_closed_at_once(tls13: Maker) -> None:
    """Its FIN goes with close(), not ahead of it."""
    pair = await tls13.pair("tcp")
    closer, peer = pair
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.receive_some, 1)
        await closer.send_all(b"x")
    await peer.send_all(b"y")
    await closer.receive_some()
    began = trio.current_time()
    await closer.aclose()
    assert trio.current_time() - began < 0.5
    assert await peer.receive_some() == b""
    await peer.aclose()


@pytest.fixture
def no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on systems other than Linux: then it waits for the peer's end."""
    monkeypatch.setattr("trio_tlsdown._linger.unacknowledged", lambda sock: None)


@pytest.mark.parametrize("linger_timeout", [0, 0.05])
async def test_a_peer_that_never_ends_costs_the_timeout(
    tls13: Maker, linger_timeout: float, no_count: None
) -> None:
    policy = ShutdownPolicy(linger_timeout=linger_timeout)
    closer, peer = await tls13.pair("tcp", client={"policy": policy})
    await peer.send_all(b"nobody reads this")

    async def go_on() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await send_on_and_on(peer)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(go_on)
        began = trio.current_time()
        await closer.aclose()
        assert linger_timeout <= trio.current_time() - began < linger_timeout + 1
    assert closer.report.outcome is ShutdownOutcome.SENT
    await trio.aclose_forcefully(peer)


async def test_a_linger_that_is_cancelled_has_closed(
    tls13: Maker, no_count: None
) -> None:
    closer, peer = await tls13.pair("tcp")
    await peer.send_all(b"nobody reads this")
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(closer.aclose)
            assert await peer.receive_some() == b""
            await peer.send_all(b"so it waits for our end")
            await trio.testing.wait_all_tasks_blocked(0.01)
            scope.cancel()
    assert scope.cancelled_caught
    assert closer.transport_stream.socket.fileno() == -1
    assert closer.report.outcome is ShutdownOutcome.SENT
    await trio.aclose_forcefully(peer)


async def test_a_peer_that_resets_meanwhile_ends_it(
    tls13: Maker, no_count: None
) -> None:
    closer, peer = await tls13.pair("tcp")
    await peer.send_all(b"nobody reads this")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(closer.aclose)
        assert await peer.receive_some() == b""
        await peer.send_all(b"so it waits for our end")
        await trio.testing.wait_all_tasks_blocked(0.01)
        await reset(peer.transport_stream)
    assert closer.report.outcome is ShutdownOutcome.SENT


@pytest.mark.parametrize("steps", [0, 1, 5, 10, 19, 25])
async def test_another_task_may_abort_it_at_any_time(
    tls13: Maker, steps: int, no_count: None
) -> None:
    closer, peer = await tls13.pair("tcp")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(closer.aclose)
        assert await peer.receive_some() == b""
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        await trio.aclose_forcefully(closer)
    assert closer.report.outcome is ShutdownOutcome.SENT
    await peer.aclose()


async def test_nobody_lingers_behind_the_peers_close_notify(tls13: Maker) -> None:
    closer, peer = await tls13.pair("tcp")
    await peer.shutdown(wait=False)
    assert await closer.receive_some() == b""
    assert not closer._connection.should_linger()
    await closer.aclose()
    await peer.aclose()


async def test_a_socket_that_somebody_closed_under_us_is_not_waited_for(
    tls13: Maker,
) -> None:
    closer, peer = await tls13.pair("tcp")
    await closer.transport_stream.aclose()
    await closer.aclose()
    await trio.aclose_forcefully(peer)


async def test_an_abort_does_not_linger(tls13: Maker) -> None:
    closer, peer = await tls13.pair("tcp")
    await peer.send_all(b"nobody reads this")
    await trio.aclose_forcefully(closer)
    with pytest.raises(trio.BrokenResourceError):
        await peer.receive_some()
    await trio.aclose_forcefully(peer)


async def test_without_a_count_of_the_kernel_it_waits_for_the_peers_end(
    tls13: Maker, no_count: None
) -> None:
    closer, peer = await tls13.pair("tcp")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(closer.aclose)
        assert await peer.receive_some() == b""
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert closer.transport_stream.socket.fileno() != -1
        await peer.aclose()
    assert closer.transport_stream.socket.fileno() == -1
