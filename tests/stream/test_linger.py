"""Closing TCP: what was sent arrives whole, whatever the peer sends meanwhile.

Kernels are the subject here, so time is real.
"""

from __future__ import annotations

import errno
import itertools
import select
import socket
import ssl
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final, TypeAlias

import attrs
import pytest
import trio
import trio.testing

from tests.servers import until
from tests.support import (
    NAME,
    Maker,
    client_context,
    must_raise,
    needs_linux,
    needs_posix,
    server_context,
    shake_hands,
    unread,
)
from trio_tlsdown import ShutdownOutcome, ShutdownPolicy, TLSStream
from trio_tlsdown._stream.linger import (
    _Discarding,
    _pauses,
    all_acknowledged_and_read,
    holds_nothing,
    linger,
    unacknowledged,
)
from trio_tlsdown.testing import FaultyStream, Rechunk, tcp_transports
from trio_tlsdown.testing._transports import reset

RUNS: Final = 50
SMALL, BIG = 12_000, 2**20  # bytes
REST: Final = 1000  # of an answer: the peer's kernel still has it when we have closed
QUESTION: Final = b"one more question"

# What a peer's kernel holds at most, about, and what the peer reads at once: an
# answer of either size gets stuck.
ROOM: Final = {SMALL: 6000, BIG: 2**17}
PIECE: Final = {SMALL: 3000, BIG: 2**16}

PATIENT: Final = ShutdownPolicy(linger_timeout=30)

Closer: TypeAlias = "TLSStream[trio.SocketStream] | trio.SSLStream[trio.SocketStream]"
MakeCloser: TypeAlias = Callable[[trio.SocketStream, ssl.SSLContext], Closer]


def ours(transport: trio.SocketStream, context: ssl.SSLContext) -> Closer:
    return TLSStream(transport, context, server_side=True, policy=PATIENT)


def trios(transport: trio.SocketStream, context: ssl.SSLContext) -> Closer:
    return trio.SSLStream(transport, context, server_side=True)


async def send_on_and_on(stream: trio.abc.SendStream) -> None:
    while True:
        await stream.send_all(QUESTION)


@attrs.frozen
class Lingering:
    """The sockets that linger, and those that ever did."""

    now: list[trio.SocketStream] = attrs.field(factory=list)
    ever: list[trio.SocketStream] = attrs.field(factory=list)

    async def linger(
        self, stream: trio.SocketStream, seconds: float, *, until_fin: bool
    ) -> None:
        self.ever.append(stream)
        self.now.append(stream)
        try:
            await linger(stream, seconds, until_fin=until_fin)
        finally:
            self.now.remove(stream)


@pytest.fixture
def lingering(monkeypatch: pytest.MonkeyPatch) -> Lingering:
    seen = Lingering()
    monkeypatch.setattr("trio_tlsdown._stream.connection.linger", seen.linger)
    return seen


# What a kernel knows:


def has_end(sock: trio.socket.SocketType) -> bool:
    """Whether a FIN has come, maybe behind what was not read."""
    return _polled(sock, select.POLLRDHUP)


def was_reset(sock: trio.socket.SocketType) -> bool:
    return _polled(sock, select.POLLERR)


def _polled(sock: trio.socket.SocketType, event: int) -> bool:
    poll = select.poll()
    poll.register(sock.fileno(), event)
    return any(events & event for _, events in poll.poll(0))


async def narrow_transports(
    size: int, host: str = "127.0.0.1"
) -> tuple[trio.SocketStream, trio.SocketStream]:
    """Who connected, with little room for *size* bytes, and who will send them."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    theirs = trio.socket.socket(family)
    # Before it connects: a window that was offered is not taken back.
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM[size])
    with trio.socket.socket(family) as listener:
        await listener.bind((host, 0))
        listener.listen(1)
        await theirs.connect(listener.getsockname()[:2])
        accepted, _ = await listener.accept()
    transport = trio.SocketStream(accepted)
    # Trio has the kernel keep no more than 16 KiB that the window has no room for,
    # others let it keep what it can: there is more to lose.
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None:  # pragma: no branch - Linux has it
        transport.setsockopt(socket.IPPROTO_TCP, option, 2**31 - 1)
    return trio.SocketStream(theirs), transport


# What was sent arrives whole:


@attrs.frozen
class Cell:
    """A slow reader, which sends something when it gets an answer."""

    sends: str
    """When: "before" we answer, "meanwhile" (we linger), or "afterwards"."""
    size: int
    parked: bool
    """Whether a task of ours is receiving."""
    host: str


@pytest.fixture(params=["127.0.0.1", "::1"])
def host(request: pytest.FixtureRequest) -> str:
    result: str = request.param
    return result


@pytest.fixture
def cell(sends: str, size: int, host: str, *, parked: bool) -> Cell:
    return Cell(sends, size, parked, host)


needs_to_see_a_fin = needs_linux("to see a FIN behind what was not read")
AFTERWARDS: Final = pytest.param("afterwards", marks=needs_to_see_a_fin)
sizes = pytest.mark.parametrize("size", [SMALL, BIG])


@attrs.frozen
class Fate:
    """What became of an answer."""

    received: int
    whole: bool
    """It ended with close_notify."""
    closer: str
    """What we were when the peer had its say."""
    held: int = attrs.field(eq=False)
    """How many bytes its kernel held then."""


async def answer_and_close(
    cell: Cell, tls: Maker, closer: Closer, theirs: trio.SocketStream, seen: Lingering
) -> Fate:
    """Answer and close, while the peer has its say."""
    transport = closer.transport_stream
    slow = FaultyStream(theirs, [Rechunk("receive", size=PIECE[cell.size])])
    peer = tls.peer(slow, server_side=False)
    heard, answered, closed = trio.Event(), trio.Event(), trio.Event()
    moment = ("", 0)

    async def hear() -> None:
        async for _ in closer:
            heard.set()

    async def answer() -> None:
        await closer.send_all(bytes(cell.size))
        answered.set()
        await closer.aclose()
        closed.set()

    async def read_until(enough: Callable[[], bool]) -> None:
        more = True
        while more:
            await trio.sleep(0.001)
            more = not enough() and await peer.receive()

    async def ask() -> None:
        nonlocal moment
        state = "lingering" if transport in seen.now else "open"
        if transport.socket.fileno() == -1:
            state = "closed"
        moment = (state, unread(theirs.socket))
        await peer.send(peer.encrypt(QUESTION))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.handshake)
        await closer.do_handshake()
    async with trio.open_nursery() as nursery:
        if cell.parked:
            nursery.start_soon(must_raise, trio.ClosedResourceError, hear)
        if cell.sends == "before":
            await ask()
            if cell.parked:
                await heard.wait()
            else:
                await trio.lowlevel.wait_readable(transport.socket)
        nursery.start_soon(answer)
        await read_until(answered.is_set)
        if cell.sends == "meanwhile":
            await until(lambda: transport in seen.now or closed.is_set())
            await ask()
        if cell.sends == "afterwards":
            await read_until(lambda: closed.is_set() or has_end(theirs.socket))
            await closed.wait()
            await ask()
        await read_until(lambda: peer.close_notify_received)
        await trio.aclose_forcefully(theirs)
    return Fate(len(peer.received), peer.close_notify_received, *moment)


async def many(cell: Cell, tls: Maker, make: MakeCloser, seen: Lingering) -> list[Fate]:
    context = server_context(tls.version)
    fates: list[Fate] = []

    async def run() -> None:
        theirs, transport = await narrow_transports(cell.size, cell.host)
        closer = make(transport, context)
        fates.append(await answer_and_close(cell, tls, closer, theirs, seen))

    async with trio.open_nursery() as nursery:
        for _ in range(RUNS):
            nursery.start_soon(run)
    return fates


@sizes
@pytest.mark.parametrize("parked", [False, True])
@pytest.mark.parametrize("sends", ["before", "meanwhile", AFTERWARDS])
async def test_what_was_sent_arrives_whole_though_the_peer_sends(
    cell: Cell, tls13: Maker, lingering: Lingering
) -> None:
    fates = await many(cell, tls13, ours, lingering)
    closer = {"before": "open", "meanwhile": "lingering", "afterwards": "closed"}
    whole = Fate(received=cell.size, whole=True, closer=closer[cell.sends], held=0)
    assert fates == [whole] * RUNS
    if cell.sends == "afterwards":
        assert min(fate.held for fate in fates) >= REST


@sizes
@pytest.mark.parametrize(
    ("sends", "parked"),
    [
        ("before", False),
        *(("meanwhile", parked) for parked in (False, True)),
        *(
            pytest.param("afterwards", parked, marks=needs_to_see_a_fin)
            for parked in (False, True)
        ),
    ],
)
async def test_trios_own_stream_loses_what_it_sent_if_the_peer_sends(
    cell: Cell, tls13: Maker, lingering: Lingering
) -> None:
    """Why there is lingering: trio.SSLStream (0.35) closes at once.

    It can lose nothing where its reader has taken what came before: then nothing is
    unread and nothing comes later, so there is no RST. These cells are left out.
    """
    fates = await many(cell, tls13, trios, lingering)
    closer = "open" if cell.sends == "before" else "closed"
    assert {fate.closer for fate in fates} == {closer}
    lost = [fate for fate in fates if fate.received < cell.size and not fate.whole]
    assert len(lost) > RUNS // 2


async def test_what_is_discarded_is_counted_to_the_last_byte(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trio_tlsdown._stream.linger.MAX_DISCARDED", 4)
    ours, theirs = await tcp_transports()
    over = trio.Event()

    async def run() -> None:
        await linger(ours, 5, until_fin=True)
        over.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await theirs.send_all(b"abc")
        await trio.testing.wait_all_tasks_blocked(0.001)
        assert not over.is_set()
        await theirs.send_all(b"d")
    assert over.is_set()
    await ours.aclose()
    await theirs.aclose()


async def test_a_peer_that_sends_meanwhile_is_waited_for_until_its_end(
    tls13: Maker, lingering: Lingering
) -> None:
    """It is in the middle of a conversation, and may send more."""
    theirs, transport = await narrow_transports(SMALL)
    peer = TLSStream(theirs, client_context(tls13.version), server_hostname=NAME)
    closer = ours(transport, server_context(tls13.version))
    await shake_hands(peer, closer)
    await closer.send_all(bytes(SMALL))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(closer.aclose)
        await until(lambda: transport in lingering.now)
        await peer.send_all(QUESTION)
        assert sum([len(chunk) async for chunk in peer]) == SMALL
        await trio.testing.wait_all_tasks_blocked(0.05)  # it polls more often
        assert transport in lingering.now
        await peer.send_all(QUESTION)
        await peer.aclose()
    assert transport.socket.fileno() == -1


@needs_posix("poll()")
@pytest.mark.parametrize("gives_up", [True, False])
async def test_a_peer_that_sends_twice_afterwards_may_never_read_what_it_has(
    tls13: Maker, *, gives_up: bool
) -> None:
    """The limit: its second send fails, though its kernel has the answer.

    A TLSStream reads on all the same. One that gives up when it cannot send, such as
    trio.SSLStream (0.35), does not ask its kernel any more. Only `shutdown`, or the
    peer's answer, proves that it has read.
    """
    theirs, transport = await tcp_transports()
    make = trio.SSLStream if gives_up else TLSStream
    peer: Closer = make(theirs, client_context(tls13.version), server_hostname=NAME)
    closer = ours(transport, server_context(tls13.version))
    await shake_hands(peer, closer)
    await closer.send_all(b"the answer")
    await closer.aclose()
    await peer.send_all(QUESTION)
    await until(lambda: was_reset(theirs.socket))
    with pytest.raises(trio.BrokenResourceError):
        await peer.send_all(QUESTION)
    assert unread(theirs.socket) > len(b"the answer")
    if gives_up:
        with pytest.raises(trio.BrokenResourceError):
            await peer.receive_some()
        assert unread(theirs.socket) > len(b"the answer")
    else:
        assert await peer.receive_some() == b"the answer"
        assert await peer.receive_some() == b""
    await trio.aclose_forcefully(peer)


# What is waited for, and what is not:


async def quiet_pair(
    tls: Maker, *, https_compatible: bool = False
) -> tuple[TLSStream[Any], TLSStream[Any]]:
    """Two that have talked, and have acknowledged and read all of it."""
    closer, peer = await tls.pair(
        "tcp", client={"policy": PATIENT, "https_compatible": https_compatible}
    )
    await closer.send_all(b"x")
    await peer.receive_some()
    await peer.send_all(b"y")
    await closer.receive_some()
    await until(lambda: unacknowledged(closer.transport_stream.socket) == 0)
    return closer, peer


@pytest.fixture
def no_short_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an old Linux, which cannot tell in one call that nothing is to be lost."""
    monkeypatch.setattr("trio_tlsdown._stream.linger.holds_nothing", lambda sock: False)


async def test_a_quiet_connection_is_closed_at_once(
    tls13: Maker, lingering: Lingering
) -> None:
    """Its FIN goes with close(), not ahead of it."""
    closer, peer = await quiet_pair(tls13)
    await closer.aclose()
    assert lingering.ever == []
    assert await peer.receive_some() == b""
    await peer.aclose()


async def test_so_it_is_where_the_kernel_has_to_be_asked_at_length(
    tls13: Maker, lingering: Lingering, no_short_answer: None
) -> None:
    closer, peer = await quiet_pair(tls13)
    await closer.aclose()
    assert lingering.ever == []
    await trio.aclose_forcefully(peer)


async def test_so_is_a_quiet_connection_that_ends_without_a_word(
    tls13: Maker, lingering: Lingering
) -> None:
    closer, peer = await quiet_pair(tls13, https_compatible=True)
    await closer.aclose()
    assert lingering.ever == []
    await trio.aclose_forcefully(peer)


async def test_unread_input_does_not_make_a_close_wait_for_the_peers_end(
    tls13: Maker, lingering: Lingering
) -> None:
    """Unread, it would make the kernel send RST."""
    closer, peer = await quiet_pair(tls13)
    await peer.send_all(b"nobody reads this")
    await trio.lowlevel.wait_readable(closer.transport_stream.socket)
    with trio.fail_after(PATIENT.linger_timeout / 2):
        await closer.aclose()
    assert lingering.ever == [closer.transport_stream]
    assert await peer.receive_some() == b""
    assert await peer.transport_stream.receive_some() == b""
    await trio.aclose_forcefully(peer)


@pytest.mark.parametrize("count", [2, 25])
async def test_a_close_waits_until_the_alert_was_acknowledged_to_its_last_byte(
    tls13: Maker, monkeypatch: pytest.MonkeyPatch, no_short_answer: None, count: int
) -> None:
    """Without it, data that are whole would look as if they were cut."""
    closer, peer = await quiet_pair(tls13)
    counts = iter([*[count] * 10, 1])  # 1: the FIN
    monkeypatch.setattr(
        "trio_tlsdown._stream.linger.unacknowledged", lambda _: next(counts)
    )
    await closer.aclose()
    assert list(counts) == []
    await trio.aclose_forcefully(peer)


@pytest.fixture
def no_count(monkeypatch: pytest.MonkeyPatch, no_short_answer: None) -> None:
    """As on systems other than Linux: then it waits for the peer's end."""
    monkeypatch.setattr("trio_tlsdown._stream.linger.unacknowledged", lambda sock: None)


@pytest.mark.parametrize("linger_timeout", [0, 0.05])
async def test_a_peer_that_never_ends_costs_linger_timeout(
    tls13: Maker, linger_timeout: float, no_count: None
) -> None:
    policy = ShutdownPolicy(linger_timeout=linger_timeout)
    closer, peer = await tls13.pair("tcp", client={"policy": policy})
    await peer.send_all(b"nobody reads this")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(must_raise, trio.BrokenResourceError, send_on_and_on, peer)
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


async def test_a_peer_that_resets_ends_lingering(tls13: Maker, no_count: None) -> None:
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
async def test_another_task_may_abort_a_lingering_stream_at_any_time(
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


async def test_nobody_lingers_where_all_was_acknowledged_and_read(tls13: Maker) -> None:
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


async def test_if_the_kernel_does_not_count_a_close_waits_for_the_peers_end(
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


@needs_linux("SO_MEMINFO")
async def test_a_socket_holds_nothing_once_all_was_read_and_acknowledged() -> None:
    ours, theirs = await tcp_transports()
    assert holds_nothing(ours.socket)
    await ours.send_all(b"x")
    assert not holds_nothing(theirs.socket)
    assert await theirs.receive_some() == b"x"
    assert holds_nothing(theirs.socket)
    await until(lambda: holds_nothing(ours.socket))
    with trio.move_on_after(0.01):
        while True:
            await ours.send_all(bytes(2**16))
    assert not holds_nothing(ours.socket)
    await trio.aclose_forcefully(theirs)
    await trio.aclose_forcefully(ours)


@needs_linux("SO_MEMINFO")
async def test_a_socket_holds_something_if_the_peers_end_was_not_read() -> None:
    ours, theirs = await tcp_transports()
    await theirs.aclose()
    await trio.lowlevel.wait_readable(ours.socket)
    assert not holds_nothing(ours.socket)
    assert all_acknowledged_and_read(ours)
    await ours.aclose()


def test_a_kernel_without_the_short_answer_is_asked_at_length() -> None:
    def refuse(*_: object) -> bytes:
        raise OSError(errno.ENOPROTOOPT, "Protocol not available")

    for answer in refuse, lambda *_: bytes(4):  # or of another option
        sock: Any = SimpleNamespace(getsockopt=answer)
        assert not holds_nothing(sock)


@needs_linux("AF_NETLINK")
async def test_a_family_of_sockets_that_cannot_tell_is_no_error() -> None:
    with trio.socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as sock:
        assert unacknowledged(sock) is None


@pytest.mark.parametrize("descriptor", [0, 7])
def test_a_socket_that_cannot_tell_is_not_known_to_be_quiet(
    monkeypatch: pytest.MonkeyPatch, no_short_answer: None, descriptor: int
) -> None:
    monkeypatch.setattr("trio_tlsdown._stream.linger.unread", lambda sock: None)
    stream: Any = SimpleNamespace(socket=SimpleNamespace(fileno=lambda: descriptor))
    assert not all_acknowledged_and_read(stream)


async def test_a_single_byte_does_not_end_the_wait_for_the_peers_end() -> None:
    ours, theirs = await tcp_transports()
    over = False

    async def wait() -> None:
        nonlocal over
        await linger(ours, 60, until_fin=True)
        over = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        for _ in range(2):
            await theirs.send_all(b"x")
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert not over
        await theirs.aclose()
    await ours.aclose()


async def test_lingering_does_not_wait_for_the_peers_end_unless_told_to() -> None:
    ours, theirs = await tcp_transports()
    with trio.fail_after(5):
        await linger(ours, 60)
    await ours.aclose()
    await theirs.aclose()


async def test_lingering_discards_8_mib_at_most() -> None:
    sizes: list[int] = []

    class Endless:
        async def recv(self, size: int) -> bytes:
            sizes.append(size)
            return bytes(size)

    endless: Any = Endless()
    await _Discarding(endless).until_delivered(until_fin=True)
    assert sizes == [2**16] * 128


def test_lingering_polls_first_and_then_sleeps_longer_and_longer() -> None:
    pauses = list(itertools.islice(_pauses(), 27))
    assert pauses == [0] * 20 + [0.001, 0.002, 0.004, 0.008, 0.016, 0.016, 0.016]
