"""A transport in memory fails as one over TCP does."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest
import trio
import trio.testing

from tests.support import descriptors
from trio_tlsdown.testing import (
    MemoryTransport,
    cancel_everywhere,
    memory_transports,
    tcp_transports,
)
from trio_tlsdown.testing._transports import abort, reset

Connect: TypeAlias = Callable[[], Awaitable[tuple[Any, Any]]]


async def in_memory() -> tuple[MemoryTransport, MemoryTransport]:
    return memory_transports()


@pytest.fixture(params=[in_memory, tcp_transports], ids=["memory", "tcp"])
def connect(request: pytest.FixtureRequest) -> Connect:
    result: Connect = request.param
    return result


async def fails_with(
    call: Callable[[], Awaitable[object]], kind: type[OSError], number: int
) -> None:
    with pytest.raises(trio.BrokenResourceError) as caught:
        await call()
    assert type(caught.value.__cause__) is kind
    assert caught.value.__cause__.errno == number


async def is_reset(call: Callable[[], Awaitable[object]]) -> None:
    await fails_with(call, ConnectionResetError, errno.ECONNRESET)


async def test_what_one_end_sends_the_other_receives(connect: Connect) -> None:
    one, other = await connect()
    async with one, other:
        for sender, receiver in (one, other), (other, one):
            await sender.send_all(b"data")
            assert await receiver.receive_some() == b"data"
            await sender.send_all(b"more")
            assert await receiver.receive_some(2) == b"mo"
            assert await receiver.receive_some() == b"re"


async def test_a_direction_ends_alone(connect: Connect) -> None:
    one, other = await connect()
    async with one, other:
        await one.send_eof()
        assert await other.receive_some() == b""
        await other.send_all(b"still")
        assert await one.receive_some() == b"still"


async def test_a_reset_fails_the_other_ends_receive(connect: Connect) -> None:
    one, other = await connect()
    async with other:
        await reset(one)
        await is_reset(other.receive_some)


async def test_a_reset_fails_the_other_ends_send(connect: Connect) -> None:
    one, other = await connect()
    async with other:
        await reset(one)
        await is_reset(lambda: other.send_all(b"x"))


async def test_a_reset_wakes_a_parked_reader(connect: Connect) -> None:
    one, other = await connect()
    async with other, trio.open_nursery() as nursery:
        nursery.start_soon(is_reset, other.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        await reset(one)


async def test_a_reset_wakes_a_parked_sender() -> None:
    """Over TCP; in memory none is ever parked."""
    one, other = await tcp_transports()
    async with other, trio.open_nursery() as nursery:
        nursery.start_soon(is_reset, lambda: other.send_all(bytes(2**24)))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert nursery.child_tasks, "it was not parked"
        await reset(one)


async def test_in_memory_no_sender_is_ever_parked() -> None:
    one, other = memory_transports()
    async with one, other:
        with trio.testing.assert_checkpoints():
            await one.send_all(bytes(2**24))  # with nobody who receives
        assert len(await other.receive_some()) == 2**24


async def test_what_came_before_a_reset_is_still_read(connect: Connect) -> None:
    one, other = await connect()
    async with other:
        await one.send_all(b"last words")
        await reset(one)
        assert await other.receive_some() == b"last words"
        await is_reset(other.receive_some)


async def test_the_end_that_resets_is_closed(connect: Connect) -> None:
    one, other = await connect()
    async with other:
        await reset(one)
        for call in one.receive_some, lambda: one.send_all(b"x"), one.send_eof:
            with pytest.raises(trio.ClosedResourceError):
                await call()
        await one.aclose()  # is fine


async def test_a_reset_closes_even_when_it_is_cancelled(connect: Connect) -> None:
    one, other = await connect()
    async with other:
        with trio.CancelScope() as scope:
            scope.cancel()
            await reset(one)
        await is_reset(other.receive_some)


async def test_another_kind_of_stream_is_just_closed() -> None:
    one, other = trio.testing.memory_stream_pair()
    await reset(one)
    assert await other.receive_some() == b""


async def test_sending_to_an_end_that_has_closed_is_a_broken_pipe(
    connect: Connect,
) -> None:
    one, other = await connect()
    async with other:
        await one.aclose()
        if isinstance(other, trio.SocketStream):
            await other.send_all(b"meets a RST")
        await fails_with(lambda: other.send_all(b"x"), BrokenPipeError, errno.EPIPE)


async def test_waiting_to_send_does_not_wait(connect: Connect) -> None:
    one, other = await connect()
    async with one, other:
        with trio.testing.assert_checkpoints():
            await one.wait_send_all_might_not_block()


async def test_in_memory_what_has_come_is_received_without_waiting() -> None:
    one, other = memory_transports()
    with pytest.raises(trio.WouldBlock):
        one.receive_some_nowait()
    await other.send_all(b"data")
    assert one.receive_some_nowait(3) == b"dat"
    assert one.receive_some_nowait() == b"a"
    with pytest.raises(trio.WouldBlock):
        one.receive_some_nowait()
    with pytest.raises(ValueError, match="max_bytes must be >= 1, not 0"):
        one.receive_some_nowait(0)
    await other.send_all(b"last words")
    await other.send_eof()
    assert one.receive_some_nowait() == b"last words"
    for _ in range(2):
        assert one.receive_some_nowait() == b""
    await one.aclose()
    with pytest.raises(trio.ClosedResourceError):
        one.receive_some_nowait()


async def test_in_memory_a_reset_is_seen_without_waiting() -> None:
    one, other = memory_transports()
    await other.send_all(b"last words")
    await reset(other)
    assert one.receive_some_nowait() == b"last words"
    with pytest.raises(trio.BrokenResourceError) as caught:
        one.receive_some_nowait()
    assert isinstance(caught.value.__cause__, ConnectionResetError)


async def test_a_parked_reader_gets_what_comes_and_nobody_else() -> None:
    one, other = memory_transports()
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            assert await one.receive_some() == b"data"

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        await other.send_all(b"")  # wakes nobody who would have nothing
        await other.wait_send_all_might_not_block()
        with pytest.raises(trio.BusyResourceError):
            one.receive_some_nowait()
        await other.send_all(b"data")


async def test_a_reset_after_closing_changes_nothing() -> None:
    one, other = memory_transports()
    await one.aclose()
    one.reset()
    assert await other.receive_some() == b""


async def test_a_memory_transport_keeps_the_contract_of_a_half_closeable_stream() -> (
    None
):
    await trio.testing.check_half_closeable_stream(in_memory, None)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_tcp_transports_are_on_this_machine(host: str) -> None:
    one, other = await tcp_transports(host)
    async with one, other:
        assert one.socket.getpeername() == other.socket.getsockname()
        assert one.socket.getpeername()[0] == host


async def test_tcp_transports_leave_nothing_open_when_cancelled() -> None:
    async def connect_and_close() -> None:
        await abort(*await tcp_transports())

    assert await cancel_everywhere(connect_and_close) >= 3


async def test_tcp_transports_close_the_client_when_none_is_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def accept(_: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    before = descriptors()
    monkeypatch.setattr(trio.SocketListener, "accept", accept)
    with pytest.raises(OSError, match="too many open files"):
        await tcp_transports()
    assert descriptors() <= before


async def test_abort_closes_all_even_when_it_is_cancelled(connect: Connect) -> None:
    ends = await connect()
    with trio.CancelScope() as scope:
        scope.cancel()
        await abort(*ends)
    for end in ends:
        with pytest.raises(trio.ClosedResourceError):
            await end.receive_some()
