"""A faulty stream misbehaves at its byte, and keeps Trio's contracts otherwise."""

from __future__ import annotations

import errno
import gc
import math
import weakref
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from tests.support import (
    TLS13_FIRST,
    TRANSPORTS,
    Maker,
    lockstep_transports,
    memory_transports,
    shake_hands,
    tcp_transports,
)
from trio_tlsdown import PeerState, TLSStream, TruncatedError, testing
from trio_tlsdown.testing import (
    Cancellation,
    Cut,
    Delay,
    Direction,
    Fault,
    FaultyStream,
    Rechunk,
    Reset,
    Stall,
    cancel_everywhere,
)

KINDS = ["memory", "tcp"]


class Whole(trio.abc.Stream):
    """A stream that has no send_eof, and remembers the pieces that were sent."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.pieces: list[bytes] = []

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.pieces.append(bytes(data))
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None: ...

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.stream.aclose()


async def pair(
    *faults: Fault, kind: str = "memory", seed: int = 0
) -> tuple[FaultyStream, trio.abc.Stream]:
    ours, theirs = await TRANSPORTS[kind]()
    return FaultyStream(ours, faults, seed=seed), theirs


async def everything(stream: trio.abc.Stream) -> bytes:
    return b"".join([bytes(chunk) async for chunk in stream])


async def fails_with(number: int, call: Callable[[], Awaitable[object]]) -> None:
    with trio.testing.assert_checkpoints():
        with pytest.raises(trio.BrokenResourceError) as caught:
            await call()
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == number


async def is_closed(call: Callable[[], Awaitable[object]]) -> None:
    with trio.testing.assert_checkpoints():
        with pytest.raises(trio.ClosedResourceError):
            await call()


async def close_both(*streams: trio.abc.AsyncResource) -> None:
    for stream in streams:
        await trio.aclose_forcefully(stream)


# Trio's contracts:

ONE_BYTE_PIECES: list[Fault] = [
    Rechunk("send", size=1),
    Rechunk("receive", size=1),
    # Trio's check sends a megabyte in the end: not all of it byte by byte.
    Rechunk("send", at=3000, size=2**15),
    Rechunk("receive", at=3000, size=2**15),
]


@pytest.mark.parametrize("kind", ["memory", "tcp", "lockstep"])
@pytest.mark.parametrize("faults", [[], ONE_BYTE_PIECES], ids=["none", "rechunk"])
async def test_a_faulty_stream_keeps_the_contract_of_a_half_closeable_stream(
    kind: str, faults: list[Fault]
) -> None:
    async def make() -> tuple[FaultyStream, FaultyStream]:
        left, right = await TRANSPORTS[kind]()
        return FaultyStream(left, faults), FaultyStream(right, faults)

    clogged = make if kind == "lockstep" else None
    await trio.testing.check_half_closeable_stream(make, clogged)


async def test_a_transport_without_send_eof_cannot_half_close() -> None:
    transport, _ = await memory_transports()
    with pytest.raises(NotImplementedError, match="no send_eof"):
        await FaultyStream(Whole(transport)).send_eof()


async def test_a_transport_that_someone_else_closed_is_closed() -> None:
    ours, _ = await memory_transports()
    stream = FaultyStream(ours)
    await ours.aclose()
    await is_closed(stream.receive_some)


# Cut:


@pytest.mark.parametrize("kind", KINDS)
async def test_a_cut_of_receiving_looks_like_a_fin(kind: str) -> None:
    stream, peer = await pair(Cut("receive", at=3), kind=kind)
    await peer.send_all(b"abcdef")
    assert await everything(stream) == b"abc"
    with trio.testing.assert_checkpoints():
        assert await stream.receive_some(1) == b""
    await stream.send_all(b"still open")
    assert await peer.receive_some() == b"still open"
    await close_both(stream, peer)
    await is_closed(stream.receive_some)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_cut_of_sending_lets_its_bytes_through_and_ends(kind: str) -> None:
    stream, peer = await pair(Cut("send", at=3), kind=kind)
    await fails_with(errno.EPIPE, lambda: stream.send_all(b"abcdef"))
    assert await everything(peer) == b"abc"
    await fails_with(errno.EPIPE, lambda: stream.send_all(b""))
    await fails_with(errno.EPIPE, stream.wait_send_all_might_not_block)
    await fails_with(errno.EPIPE, stream.send_eof)
    await peer.send_all(b"still open")
    assert await stream.receive_some() == b"still open"
    await close_both(stream, peer)


async def test_a_cut_of_sending_closes_a_transport_that_has_no_send_eof() -> None:
    ours, peer = await memory_transports()
    stream = FaultyStream(Whole(ours), [Cut("send", at=3)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fails_with, errno.ECONNRESET, stream.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        await fails_with(errno.EPIPE, lambda: stream.send_all(b"abcdef"))
    assert await everything(peer) == b"abc"
    await fails_with(errno.EPIPE, lambda: stream.send_all(b"x"))
    await fails_with(errno.ECONNRESET, stream.receive_some)


async def exchange(
    tls: Maker, direction: Direction, *faults: Fault
) -> tuple[bool, list[bytes]]:
    """A client asks, a server answers and closes; all faults are on the answer.

    Returns:
      Whether that looked like a clean end to the client, and what the server sent.
    """
    left, right = await memory_transports()
    if direction == "receive":
        left = FaultyStream(left, faults)
    else:
        right = FaultyStream(right, faults)
    recorder = Whole(right)
    client, server = tls.wrap((left, recorder))

    async def serve() -> None:
        try:
            assert await server.receive_some() == b"question"
            await server.send_all(b"answer")
            await server.aclose()
        except trio.BrokenResourceError:
            await trio.aclose_forcefully(server)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        try:
            await client.send_all(b"question")
            answer = await everything(client)
        except trio.BrokenResourceError:
            clean = False
        else:
            clean = True
            assert answer == b"answer"
        assert client.report.peer_data_complete is clean
        await trio.aclose_forcefully(client)
    return clean, recorder.pieces


@pytest.mark.parametrize("direction", ["send", "receive"])
@pytest.mark.parametrize("version", TLS13_FIRST)
async def test_a_cut_at_any_byte_is_never_a_clean_end(
    tls: Maker, direction: Direction, autojump_clock: trio.testing.MockClock
) -> None:
    clean, pieces = await exchange(tls, direction)
    assert clean
    size = sum(map(len, pieces))
    # Each byte of the answer and of the close_notify; some of the handshake.
    for at in [*range(0, size - 80, 101), *range(size - 80, size + 1)]:
        clean, pieces = await exchange(tls, direction, Cut(direction, at=at))
        # Signatures differ in length by a byte or two.
        assert at >= sum(map(len, pieces)) or not clean
    clean, _ = await exchange(tls, direction, Cut(direction, at=size + 20))
    assert clean


async def test_a_cut_in_a_record_is_told_by_the_stream_above(tls: Maker) -> None:
    """With real TCP beneath."""
    left, right = await tcp_transports()
    faulty = FaultyStream(left, [Cut("receive", at=3)])
    client, server = tls.wrap((faulty, right))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server_sees_the_end, server)
        with pytest.raises(TruncatedError) as caught:
            await client.do_handshake()
        await trio.aclose_forcefully(client)
    assert caught.value.mid_record


async def server_sees_the_end(server: TLSStream[Any]) -> None:
    with pytest.raises(trio.BrokenResourceError):
        await server.do_handshake()
    await trio.aclose_forcefully(server)


# Reset:


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("direction", ["send", "receive"])
async def test_a_reset_breaks_both_directions_and_wakes_the_other(
    kind: str, direction: Direction
) -> None:
    stream, peer = await pair(Reset(direction, at=3), kind=kind)
    if direction == "send":
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails_with, errno.ECONNRESET, stream.receive_some)
            await trio.testing.wait_all_tasks_blocked()
            await fails_with(errno.ECONNRESET, lambda: stream.send_all(b"abcdef"))
    else:
        await peer.send_all(b"abcdef")
        assert await stream.receive_some() == b"abc"
        await fails_with(errno.ECONNRESET, stream.receive_some)
    await fails_with(errno.ECONNRESET, stream.receive_some)
    await fails_with(errno.ECONNRESET, lambda: stream.send_all(b"x"))
    await fails_with(errno.ECONNRESET, stream.wait_send_all_might_not_block)
    await fails_with(errno.ECONNRESET, stream.send_eof)
    if kind == "tcp":  # a real peer gets an RST, which destroys what was under way
        await fails_with(errno.ECONNRESET, partial(everything, peer))
    else:
        assert await everything(peer) == (b"abc" if direction == "send" else b"")
    await close_both(stream, peer)
    await is_closed(stream.receive_some)
    await is_closed(lambda: stream.send_all(b"x"))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_that_a_fault_closed_does_not_wait_for_the_garbage_collector(
    kind: str,
) -> None:
    failures = 0

    async def fails(call: Callable[[], Awaitable[object]]) -> None:
        nonlocal failures
        try:
            await call()
        except trio.BrokenResourceError:  # pytest.raises would keep its frames
            failures += 1

    faulty, peer = await pair(Reset("send", at=1), kind=kind)
    gone = weakref.ref(faulty)
    gc.collect()
    gc.disable()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails, faulty.receive_some)
            await trio.testing.wait_all_tasks_blocked()
            await fails(partial(faulty.send_all, b"ab"))
        await close_both(faulty, peer)
        del faulty, nursery
        await trio.lowlevel.checkpoint()
        assert (failures, gone()) == (2, None)
    finally:
        gc.enable()


async def test_a_reset_wakes_a_task_that_another_fault_holds() -> None:
    stream, peer = await pair(Stall("receive"), Reset("send"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fails_with, errno.ECONNRESET, stream.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        await fails_with(errno.ECONNRESET, stream.send_eof)
    await close_both(stream, peer)


async def test_a_reset_wakes_a_clogged_sender() -> None:
    ours, peer = await lockstep_transports()
    stream = FaultyStream(ours, [Reset("receive")])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            fails_with, errno.ECONNRESET, lambda: stream.send_all(b"abc")
        )
        await trio.testing.wait_all_tasks_blocked()
        await fails_with(errno.ECONNRESET, stream.receive_some)
    await close_both(stream, peer)


async def test_a_reset_strikes_although_someone_else_closed_the_socket() -> None:
    ours, peer = await tcp_transports()
    stream = FaultyStream(ours, [Reset("receive")])
    await ours.aclose()
    await fails_with(errno.ECONNRESET, stream.receive_some)
    await close_both(stream, peer)


# Stall:


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stall_blocks_its_direction_only(
    kind: str, autojump_clock: trio.testing.MockClock
) -> None:
    stream, peer = await pair(Stall("receive", at=1), Stall("send", at=2), kind=kind)
    await peer.send_all(b"abc")
    assert await stream.receive_some() == b"a"
    await stream.send_all(b"x")  # the other direction goes on
    for blocked in (
        stream.receive_some,
        lambda: stream.send_all(b"yz"),
        stream.wait_send_all_might_not_block,
        stream.send_eof,
    ):
        with trio.move_on_after(1000) as scope:
            await blocked()
        assert scope.cancelled_caught
    assert await peer.receive_some(1) == b"x"
    assert await peer.receive_some() == b"y"
    await close_both(stream, peer)


@pytest.mark.parametrize("direction", ["send", "receive"])
async def test_closing_wakes_stalled_tasks(direction: Direction) -> None:
    stream, peer = await pair(Stall(direction))
    async with trio.open_nursery() as nursery:
        if direction == "send":
            nursery.start_soon(is_closed, lambda: stream.send_all(b"x"))
        else:
            nursery.start_soon(is_closed, stream.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        await stream.aclose()
    await close_both(peer)


async def test_two_tasks_in_a_stalled_direction_are_a_bug() -> None:
    stream, peer = await pair(Stall("send"), Stall("receive"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.receive_some)
        nursery.start_soon(stream.send_all, b"x")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError, match="to receive"):
            await stream.receive_some()
        with pytest.raises(trio.BusyResourceError, match="to send"):
            await stream.send_all(b"x")
        with pytest.raises(trio.BusyResourceError, match="to send"):
            await stream.send_eof()
        with pytest.raises(trio.BusyResourceError, match="to send"):
            await stream.wait_send_all_might_not_block()
        nursery.cancel_scope.cancel()
    await close_both(stream, peer)


# Rechunk:

ALPHABET = bytes(range(ord("a"), ord("z") + 1))


async def sent_pieces(*faults: Fault, seed: int = 0) -> list[bytes]:
    ours, peer = await memory_transports()
    recorder = Whole(ours)
    await FaultyStream(recorder, faults, seed=seed).send_all(ALPHABET)
    assert await peer.receive_some() == ALPHABET
    return recorder.pieces


async def received_pieces(
    *faults: Fault, seed: int = 0, arriving: int = 100, max_bytes: int | None = None
) -> list[bytes]:
    stream, peer = await pair(*faults, seed=seed)
    pieces: list[bytes] = []
    for start in range(0, len(ALPHABET), arriving):
        await peer.send_all(ALPHABET[start : start + arriving])
        while sum(map(len, pieces)) < min(start + arriving, len(ALPHABET)):
            pieces.append(bytes(await stream.receive_some(max_bytes)))
    assert b"".join(pieces) == ALPHABET
    return pieces


def sizes(pieces: Iterable[bytes]) -> list[int]:
    return [len(piece) for piece in pieces]


async def test_pieces_begin_at_their_byte() -> None:
    assert sizes(await sent_pieces(Rechunk("send", at=4, size=10))) == [4, 10, 10, 2]
    received = await received_pieces(Rechunk("receive", at=4, size=10))
    assert sizes(received) == [4, 10, 10, 2]
    both = [Rechunk("send", size=3), Rechunk("send", at=7, size=9)]
    assert sizes(await sent_pieces(*both)) == [3, 3, 1, 9, 9, 1]


async def test_pieces_depend_on_nothing_but_the_seed() -> None:
    fault = Rechunk("send", size=(1, 5))
    once = await sent_pieces(fault, seed=7)
    assert set(sizes(once)) <= set(range(1, 6))
    assert once == await sent_pieces(fault, seed=7)
    assert once != await sent_pieces(fault, seed=8)
    fault = Rechunk("receive", size=(1, 5))
    once = await received_pieces(fault, seed=7)
    assert once == await received_pieces(fault, seed=7)
    assert once != await received_pieces(fault, seed=8)


@pytest.mark.parametrize(("arriving", "max_bytes"), [(3, None), (100, 2), (5, 3)])
async def test_where_pieces_end_does_not_depend_on_arrival(
    arriving: int, max_bytes: int | None
) -> None:
    def ends(pieces: list[bytes]) -> set[int]:
        return {sum(sizes(pieces[: index + 1])) for index in range(len(pieces))}

    fault = Rechunk("receive", size=(1, 9))
    fine = await received_pieces(fault, arriving=arriving, max_bytes=max_bytes)
    assert ends(await received_pieces(fault)) <= ends(fine)


async def test_one_byte_pieces_change_nothing_for_tls(tls: Maker) -> None:
    directions: list[Direction] = ["send", "receive"]
    for direction in directions:
        clean, _ = await exchange(tls, direction, Rechunk(direction, size=1))
        assert clean


async def test_pieces_and_a_cut_can_be_combined() -> None:
    stream, peer = await pair(Rechunk("receive", size=4), Cut("receive", at=6))
    await peer.send_all(ALPHABET)
    assert [bytes(chunk) async for chunk in stream] == [b"abcd", b"ef"]
    await close_both(stream, peer)


# Delay:


@pytest.mark.parametrize("kind", KINDS)
async def test_a_delay_comes_once_at_its_byte(
    kind: str, autojump_clock: trio.testing.MockClock
) -> None:
    stream, peer = await pair(
        Delay("receive", at=1, seconds=5), Delay("send", at=1, seconds=3), kind=kind
    )
    await peer.send_all(b"ab")
    start = trio.current_time()
    assert await stream.receive_some() == b"a"
    assert trio.current_time() == start
    assert await stream.receive_some() == b"b"
    assert trio.current_time() == pytest.approx(start + 5)
    await stream.send_all(b"xy")
    await stream.send_all(b"z")
    assert trio.current_time() == pytest.approx(start + 8)
    await close_both(stream, peer)


async def test_a_delay_goes_on_after_a_cancelled_call(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stream, peer = await pair(
        Delay("receive", seconds=5), Delay("receive", at=1, seconds=1)
    )
    await peer.send_all(b"ab")
    start = trio.current_time()
    with trio.move_on_after(3):
        await stream.receive_some()
    assert await stream.receive_some() == b"a"
    assert trio.current_time() == pytest.approx(start + 5)
    assert await stream.receive_some() == b"b"
    assert trio.current_time() == pytest.approx(start + 6)
    await close_both(stream, peer)


async def test_closing_ends_a_delay() -> None:
    stream, peer = await pair(Delay("receive", seconds=math.inf))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(is_closed, stream.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        await stream.aclose()
    await close_both(peer)


# Cancellation:


async def test_a_cancelled_receive_loses_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def scenario(cancellation: Cancellation) -> None:
        stream, peer = await pair(
            Delay("receive", at=2, seconds=1), Rechunk("receive", size=3)
        )
        await peer.send_all(ALPHABET)
        await peer.aclose()
        got = bytearray()

        async def receive() -> None:
            while chunk := await stream.receive_some():
                got.extend(chunk)

        with cancellation:
            await receive()
        await receive()
        assert got == ALPHABET
        await close_both(stream)

    assert await cancel_everywhere(scenario) >= 10


async def test_a_cancelled_cut_strikes_the_next_call() -> None:
    async def scenario(cancellation: Cancellation) -> None:
        stream, peer = await pair(Cut("send"))

        async def send() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await stream.send_all(b"xyz")

        with cancellation:
            await send()
        await fails_with(errno.EPIPE, stream.send_eof)
        assert await everything(peer) == b""
        await close_both(stream, peer)

    assert await cancel_everywhere(scenario) >= 2


# Arguments:


@pytest.mark.parametrize(
    ("kind", "options", "error"),
    [
        (Cut, {"direction": "sideways"}, ValueError),
        (Cut, {"direction": None}, ValueError),
        (Cut, {"at": -1}, ValueError),
        (Reset, {"at": 1.5}, TypeError),
        (Stall, {"at": True}, TypeError),
        (Rechunk, {"size": 0}, ValueError),
        (Rechunk, {"size": "1"}, TypeError),
        (Rechunk, {"size": (0, 3)}, ValueError),
        (Rechunk, {"size": (4, 3)}, ValueError),
        (Rechunk, {"size": (1, 2, 3)}, ValueError),
        (Rechunk, {"size": (1, 2.5)}, TypeError),
        (Delay, {"seconds": -1}, ValueError),
        (Delay, {"seconds": math.nan}, ValueError),
        (Delay, {"seconds": "1"}, TypeError),
        (Delay, {"seconds": False}, TypeError),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(
    kind: Callable[..., Fault], options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"^(direction|at|size|seconds) must be "):
        kind(**{"direction": "send", **options})


async def test_a_stream_tells_its_transport_and_its_bad_arguments() -> None:
    transport, _ = await memory_transports()
    assert repr(FaultyStream(transport)) == f"<FaultyStream over {transport!r}>"
    with pytest.raises(TypeError, match="transport must be"):
        FaultyStream(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"faults must be a list of faults, not Cut"):
        FaultyStream(transport, Cut("send"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"faults must be a list of faults, not 3"):
        FaultyStream(transport, 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="each of faults must be a Cut"):
        FaultyStream(transport, ["cut"])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="seed must be an int"):
        FaultyStream(transport, seed="x")  # type: ignore[arg-type]


# Receiving without waiting:


def now(stream: FaultyStream, max_bytes: int | None = None) -> bytes:
    return bytes(stream.receive_some_nowait(max_bytes))


def nothing_comes(stream: FaultyStream) -> None:
    with pytest.raises(trio.WouldBlock):
        stream.receive_some_nowait()


def breaks_now(stream: FaultyStream) -> None:
    with pytest.raises(trio.BrokenResourceError) as caught:
        stream.receive_some_nowait()
    assert isinstance(caught.value.__cause__, ConnectionResetError)


async def test_without_faults_a_receive_that_does_not_wait_is_the_transports() -> None:
    ours, theirs = testing.memory_transports()
    stream = FaultyStream(ours)
    nothing_comes(stream)
    await theirs.send_all(b"abc")
    assert now(stream, 2) == b"ab"
    assert now(stream) == b"c"
    nothing_comes(stream)
    await theirs.aclose()
    assert now(stream) == b""
    await stream.aclose()
    with pytest.raises(trio.ClosedResourceError):
        now(stream)


async def test_faults_strike_a_receive_that_does_not_wait(
    autojump_clock: trio.testing.MockClock,
) -> None:
    cases: list[tuple[Fault, Callable[[FaultyStream], object]]] = [
        (Cut("receive", at=2), lambda stream: now(stream) == b""),
        (Reset("receive", at=2), breaks_now),
        (Stall("receive", at=2), nothing_comes),
    ]
    for fault, strikes in cases:
        ours, theirs = testing.memory_transports()
        stream = FaultyStream(ours, [fault])
        await theirs.send_all(b"abcd")
        assert now(stream) == b"ab"
        for _ in range(2):
            assert strikes(stream) in (True, None)
        await close_both(stream, theirs)

    ours, theirs = testing.memory_transports()
    faults: list[Fault] = [
        Rechunk("receive", size=3),
        Delay("receive", at=3, seconds=5),
        Cut("receive", at=5),
    ]
    stream = FaultyStream(ours, faults)
    await theirs.send_all(b"abcdefg")
    assert now(stream) == b"abc"
    nothing_comes(stream)
    await trio.sleep(4.9)
    nothing_comes(stream)
    await trio.sleep(0.1)
    assert now(stream) == b"de"
    assert now(stream) == b""
    await close_both(stream, theirs)


async def test_a_reset_without_waiting_closes_the_transport_with_the_stream() -> None:
    ours, theirs = testing.memory_transports()
    stream = FaultyStream(ours, [Reset("receive")])
    breaks_now(stream)
    await fails_with(errno.ECONNRESET, partial(stream.send_all, b"x"))
    await stream.aclose()
    assert await theirs.receive_some() == b""


@pytest.mark.parametrize("kind", KINDS)
async def test_over_a_transport_that_cannot_tell_it_says_so(
    tls: Maker, kind: str
) -> None:
    stream, theirs = await pair(kind=kind)
    with pytest.raises(NotImplementedError, match="has no receive_some_nowait"):
        stream.receive_some_nowait()
    a, b = tls.wrap((stream, theirs))
    await shake_hands(a, b)
    assert a.peer_state_nowait() is PeerState.UNKNOWN
    await close_both(a, b)


@pytest.mark.parametrize(
    ("fault", "state"),
    [(Cut, PeerState.BROKEN), (Reset, PeerState.BROKEN), (Stall, PeerState.IDLE)],
)
async def test_the_stream_above_sees_the_fault_without_waiting(
    tls: Maker, fault: type[Cut | Reset | Stall], state: PeerState
) -> None:
    ours, theirs = testing.memory_transports()
    faulty = FaultyStream(ours, [fault("receive", at=50_000)])  # in the data
    a, b = tls.wrap((faulty, theirs))
    await shake_hands(a, b)
    assert a.peer_state_nowait() is PeerState.IDLE
    await b.send_all(bytes(60_000))
    while a.peer_state_nowait() is PeerState.DATA_WAITING:
        await a.receive_some()
    assert a.peer_state_nowait() is state
    await close_both(a, b)
