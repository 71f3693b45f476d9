"""TLS over a TCP socket: the kernel is asked first, and the scheduler once."""

from __future__ import annotations

import errno
import os
import socket
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any
from unittest.mock import Mock

import attrs
import pytest
import trio
import trio.testing

from tests.support import (
    NAME,
    Maker,
    cancel_when_blocked,
    client_context,
    must_raise,
    needs_posix,
    reset,
    server_context,
    shake_hands,
)
from trio_tlsdown import (
    ShutdownOutcome,
    TLSStream,
    TraceEvent,
    TraceKind,
    TransportBrokenError,
    TruncatedError,
)
from trio_tlsdown._stream.connection import MAX_PLAINTEXT_PER_SEND
from trio_tlsdown._stream.stream import allow_receive, interrupt_receive
from trio_tlsdown._stream.transport import (
    NonBlockingSocket,
    ReceiveInterruptedError,
    is_reset,
)
from trio_tlsdown.testing import Cancellation, cancel_everywhere, tcp_transports


@attrs.define(eq=False)
class Trips(trio.abc.Instrument):
    """How often the scheduler came back to a task."""

    task: trio.lowlevel.Task
    count: int = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += task is self.task


async def receive_all(stream: TLSStream[trio.SocketStream]) -> bytes:
    data = bytearray()
    async for chunk in stream:
        data += chunk
    return bytes(data)


async def trips(call: Callable[[], Awaitable[object]]) -> int:
    instrument = Trips(trio.lowlevel.current_task())
    trio.lowlevel.add_instrument(instrument)
    try:
        await call()
    finally:
        trio.lowlevel.remove_instrument(instrument)
    return instrument.count


async def test_a_call_that_need_not_wait_takes_one_trip_through_the_scheduler(
    tls: Maker,
) -> None:
    a, b = await tls.pair("tcp")
    for size in 1, 2**14, 2**16:
        assert await trips(partial(a.send_all, bytes(size))) == 1
    await trio.lowlevel.wait_readable(b.transport_stream.socket)
    assert await trips(lambda: b.receive_some(1)) == 1  # from the kernel
    assert await trips(b.receive_some) == 1  # what came along
    await a.aclose()
    await b.aclose()


async def test_a_receive_that_has_to_wait_takes_one_trip_through_the_scheduler(
    tls: Maker,
) -> None:
    a, b = await tls.pair("tcp")
    b._engine.take(b._engine.unread)

    async def send_when_b_waits() -> None:
        await trio.testing.wait_all_tasks_blocked()
        await a.send_all(b"at last")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_when_b_waits)
        assert await trips(b.receive_some) == 1
    await a.aclose()
    await b.aclose()


async def test_every_call_is_a_checkpoint(tls: Maker) -> None:
    a, b = await tls.pair("tcp")
    for data in b"", b"x", bytearray(b"x"), memoryview(b"x"):
        with trio.testing.assert_checkpoints():
            await a.send_all(data)
    await trio.lowlevel.wait_readable(b.transport_stream.socket)
    left = 3
    while left:
        with trio.testing.assert_checkpoints():
            left -= len(await b.receive_some(1))
    with trio.testing.assert_checkpoints():
        await a.shutdown(wait=False)
    for _ in range(2):
        with trio.testing.assert_checkpoints():
            assert await b.receive_some() == b""
    with trio.testing.assert_checkpoints():
        await b.shutdown()
    with trio.testing.assert_checkpoints():
        await a.aclose()
    await b.aclose()


async def test_a_call_that_was_cancelled_before_has_no_effect(tls: Maker) -> None:
    a, b = await tls.pair("tcp")
    await b.send_all(b"for later")
    await trio.lowlevel.wait_readable(a.transport_stream.socket)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: a.send_all(b"never sent"),
        a.receive_some,
        lambda: a.send_eof(allow_tls12=True),
    ]
    for call in calls:
        with trio.CancelScope() as scope:
            scope.cancel()
            await call()
        assert scope.cancelled_caught
    assert await a.receive_some() == b"for later"
    await a.aclose()
    assert await b.receive_some() == b""
    await b.aclose()


async def test_one_wake_up_brings_many_records(tls: Maker) -> None:
    a, b = await tls.pair("tcp")
    for _ in range(5):
        await a.send_all(b"x" * 1000)
    await trio.lowlevel.wait_readable(b.transport_stream.socket)
    assert len(await b.receive_some()) == 5000
    await a.aclose()
    await b.aclose()


async def test_a_big_send_needs_little_memory(tls: Maker) -> None:
    a, b = await tls.pair("tcp")
    data = bytes(32 * MAX_PLAINTEXT_PER_SEND)

    async def receive() -> None:
        left = len(data)
        while left:
            left -= len(await b.receive_some())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        tracemalloc.start()
        try:
            await a.send_all(data)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    # A slice as ciphertext, and what b has in hand: several times in all, not 32.
    assert peak < 10 * MAX_PLAINTEXT_PER_SEND
    await a.aclose()
    await b.aclose()


async def test_the_trace_counts_what_the_kernel_took_in_parts(tls: Maker) -> None:
    events: list[TraceEvent] = []
    a, b = await tls.pair(
        "tcp", client={"trace": events.append}, server={"trace": events.append}
    )

    async def send() -> None:
        await a.send_all(
            bytes(32 * MAX_PLAINTEXT_PER_SEND)
        )  # more than the kernel takes at once
        await a.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        await receive_all(b)
    await b.aclose()

    sent, received = (
        sum(event.size for event in events if (event.side, event.kind) == wanted)
        for wanted in (
            ("client", TraceKind.BYTES_SENT),
            ("server", TraceKind.BYTES_RECEIVED),
        )
    )
    assert sent == received


async def test_a_send_that_fills_the_kernel_waits_for_room(tls: Maker) -> None:
    a, b = await tls.pair("tcp")
    sent = 0

    async def send() -> None:
        nonlocal sent
        while True:
            await a.send_all(bytes(2**16))
            sent += 2**16

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        before = sent
        while sent == before:
            await b.receive_some()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert not a.report.close_notify_sent
    await a.aclose()  # a record may have been cut: no goodbye can follow it
    with pytest.raises(trio.BrokenResourceError):
        await receive_all(b)
    await b.aclose()


async def test_a_number_that_another_socket_has_got_is_not_used(tls: Maker) -> None:
    """Whoever closes the transport under us frees its number for somebody else."""
    a, b = await tls.pair("tcp")
    number = a.transport_stream.socket.fileno()
    await a.transport_stream.aclose()
    others = [*socket.socketpair()]
    try:
        assert number in [other.fileno() for other in others]
        for call in (lambda: a.send_all(b"not for them"), a.receive_some):
            with pytest.raises(trio.ClosedResourceError):
                await call()
        for other in others:
            other.settimeout(0)
            with pytest.raises(BlockingIOError):
                other.recv(100)
    finally:
        for other in others:
            other.close()
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


async def test_closing_the_transport_wakes_who_waits_for_it(tls: Maker) -> None:
    a, b = await tls.pair("tcp")

    async def close_the_transport() -> None:
        await trio.testing.wait_all_tasks_blocked()
        await a.transport_stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(close_the_transport)
        with pytest.raises(trio.ClosedResourceError):
            await receive_all(a)
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


async def test_who_waits_for_room_is_told_that_the_transport_was_closed(
    tls: Maker,
) -> None:
    a, b = await tls.pair("tcp")
    await a.transport_stream.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await a.wait_send_all_might_not_block()
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


async def test_a_reader_that_is_woken_for_nothing_waits_on(tls: Maker) -> None:
    a, b = await tls.pair("tcp")

    async def wake_and_send() -> None:
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.notify_closing(a.transport_stream.socket)
        await trio.testing.wait_all_tasks_blocked()
        await b.send_all(b"data")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wake_and_send)
        assert await a.receive_some() == b"data"
    interrupt_receive(a)  # early: the next wait
    with trio.fail_after(1), pytest.raises(ReceiveInterruptedError):
        await a.receive_some()
    allow_receive(a)
    await a.aclose()
    interrupt_receive(a)  # too late: nothing happens
    assert not a._records.interrupted
    await trio.aclose_forcefully(b)


async def test_a_reset_is_told_once_when_it_is_met_first(tls: Maker) -> None:
    kinds: list[TraceKind] = []
    a, b = await tls.pair(
        "tcp", client={"trace": lambda event: kinds.append(event.kind)}
    )
    reset(b)
    await trio.aclose_forcefully(b)
    with pytest.raises(TransportBrokenError):
        await receive_all(a)
    assert kinds.count(TraceKind.RESET_RECEIVED) == 1
    with pytest.raises(TransportBrokenError):
        await a.send_all(b"x")
    await a.aclose()
    assert kinds.count(TraceKind.RESET_RECEIVED) == 1


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ECONNRESET, TransportBrokenError),
        (errno.ECONNABORTED, TransportBrokenError),  # as of `ss --kill`
        (errno.ETIMEDOUT, TransportBrokenError),  # as of TCP_USER_TIMEOUT
        (errno.EPIPE, TruncatedError),
    ],
    ids=["ECONNRESET", "ECONNABORTED", "ETIMEDOUT", "EPIPE"],
)
async def test_what_the_kernel_told_a_sender_is_no_end_of_input_to_a_receiver(
    tls: Maker,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    error: type[Exception],
) -> None:
    def write(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    a, b = await tls.pair("tcp")
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        with pytest.raises(TransportBrokenError, match=os.strerror(number)):
            await a.send_all(b"x")
    await b.transport_stream.send_eof()  # what receiving shows then
    with pytest.raises(error):
        await a.receive_some()
    assert a.report.outcome is ShutdownOutcome.RESET
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


@needs_posix("socketpair() of AF_UNIX")
async def test_a_unix_socket_does_not_linger(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    """It has no RST, and counts as unsent what its peer has not read."""
    a, b = (
        trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        for sock in socket.socketpair(socket.AF_UNIX)
    )
    client = TLSStream(a, client_context(tls.version), server_hostname=NAME)
    server = TLSStream(b, server_context(tls.version), server_side=True)
    await shake_hands(client, server)
    await server.send_all(b"it does not read this at once")
    began = trio.current_time()
    await server.aclose()
    assert trio.current_time() == began
    assert await receive_all(client) == b"it does not read this at once"
    await client.aclose()


async def test_a_socket_under_another_stream_is_left_to_that(tls: Maker) -> None:
    wrapped = [trio.StapledStream(end, end) for end in await tcp_transports()]
    a, b = tls.wrap((wrapped[0], wrapped[1]))
    received = bytearray()

    async def answer() -> None:
        async for chunk in b:
            received.extend(chunk)
        await b.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        await a.send_all(bytes(2**20))
        report = await a.shutdown()
    assert report.secure
    assert len(received) == 2**20
    await a.aclose()


async def test_a_receive_that_is_cancelled_loses_nothing(tls: Maker) -> None:
    async def scenario(cancellation: Cancellation) -> None:
        a, b = await tls.pair("tcp")
        await b.send_all(b"every byte counts")
        await trio.lowlevel.wait_readable(a.transport_stream.socket)
        received = bytearray()

        async def receive() -> None:
            received.extend(await a.receive_some())

        with cancellation:
            await receive()
        while not received:
            await receive()
        assert received == b"every byte counts"
        await a.aclose()
        await b.aclose()

    assert await cancel_everywhere(scenario) >= 1


async def test_a_receive_that_is_cancelled_while_it_waits_loses_nothing(
    tls: Maker,
) -> None:
    a, b = await tls.pair("tcp")
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_when_blocked, scope)
            await a.receive_some()
    assert scope.cancelled_caught
    await b.send_all(b"still there")
    assert await a.receive_some() == b"still there"
    await a.aclose()
    await b.aclose()


async def test_a_send_that_another_task_has_forestalled_by_closing_is_told_so(
    tls: Maker,
) -> None:
    a, b = tls.wrap(await tcp_transports())

    async def shake_hands_and_close() -> None:
        await a.do_handshake()
        await a.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(shake_hands_and_close)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(
            must_raise, trio.ClosedResourceError, a.send_all, b"never sent"
        )
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BrokenResourceError):
            await b.receive_some()
    await b.aclose()


async def test_a_shutdown_that_was_cancelled_before_says_no_goodbye(
    tls: Maker,
) -> None:
    """Half of something must not end as if it were whole."""
    a, b = await tls.pair("tcp")
    await a.send_all(b"half")
    with trio.CancelScope() as scope:
        scope.cancel()
        await a.shutdown()
    assert not a.report.close_notify_sent
    await trio.aclose_forcefully(a)
    with pytest.raises(trio.BrokenResourceError):
        await receive_all(b)
    await b.aclose()


async def test_a_shutdown_leaves_the_socket_to_a_task_that_closes(tls: Maker) -> None:
    """What lingering has thrown away would look like a cut."""
    for _ in range(20):
        a, b = await tls.pair("tcp")
        await b.shutdown(wait=False)
        await b.aclose()
        await trio.lowlevel.wait_readable(a.transport_stream.socket)

        async def shut_down(stream: TLSStream[trio.SocketStream] = a) -> None:
            with suppress(trio.ClosedResourceError):
                await stream.shutdown()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(shut_down)
            nursery.start_soon(a.aclose)
        assert a.report.secure


async def test_a_reader_that_was_just_woken_leaves_the_socket_to_a_task_that_closes(
    tls: Maker,
) -> None:
    async def read(stream: TLSStream[trio.SocketStream]) -> None:
        with suppress(trio.ClosedResourceError):
            assert await stream.receive_some() == b"data"

    for _ in range(20):  # who of the two runs first is the scheduler's whim
        a, b = await tls.pair("tcp")
        a._engine.take(a._engine.unread)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, a)
            await trio.testing.wait_all_tasks_blocked()
            await b.send_all(b"data")
            await a.aclose()
        await b.aclose()


async def test_a_goodbye_that_meets_a_closed_transport_is_lost(tls: Maker) -> None:
    a, b = await tls.pair("tcp")
    await a.transport_stream.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await a.shutdown(wait=False)
    assert a.report.outcome is ShutdownOutcome.ABORTED
    assert not a.report.close_notify_sent
    await a.aclose()
    await trio.aclose_forcefully(b)


@needs_posix("to send on a descriptor")
class SimulatedSocket(trio.socket.SocketType):
    """As `trio.socket.set_custom_socket_factory` allows: it has no descriptor."""

    family = property(lambda self: self.sock.family)
    type = property(lambda self: self.sock.type)
    did_shutdown_SHUT_WR = property(  # noqa: N815 - Trio's name
        lambda self: self.sock.did_shutdown_SHUT_WR
    )

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self.sock = sock

    def setsockopt(self, *_: object) -> None:
        """As `trio.SocketStream` tries it."""

    async def send(self, data: Any, flags: int = 0) -> int:
        return await self.sock.send(data, flags)

    async def recv(self, size: int, flags: int = 0) -> bytes:
        return await self.sock.recv(size, flags)

    def close(self) -> None:
        self.sock.close()


async def test_a_simulated_socket_needs_no_descriptor(tls: Maker) -> None:
    ours, theirs = await tcp_transports()
    simulated = trio.SocketStream(SimulatedSocket(ours.socket))
    client, server = tls.wrap((simulated, theirs))
    await shake_hands(client, server)
    await client.send_all(b"hello")
    assert await server.receive_some() == b"hello"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.aclose)
        assert (await client.shutdown()).outcome is ShutdownOutcome.COMPLETE
    await client.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_all(b"x")


async def test_where_the_type_of_trios_sockets_cannot_be_found_they_are_trusted(
    tls: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No descriptor is left, or a sandbox knows Unix sockets only."""
    ours, theirs = await tcp_transports()
    fails = Mock(side_effect=OSError(errno.EMFILE, "none left"))
    monkeypatch.setattr("trio_tlsdown._stream.linger._type_of_sockets", fails)
    client, server = tls.wrap((ours, theirs))
    assert fails.called
    assert client._records.interruptible
    await shake_hands(client, server)
    await client.send_all(b"hello")
    assert await server.receive_some() == b"hello"
    await client.aclose()
    await server.aclose()


async def test_a_full_socket_takes_nothing_and_says_so() -> None:
    ours, theirs = await tcp_transports()
    sock = NonBlockingSocket(ours)
    while sock.send(bytes(2**16)):
        pass
    assert sock.send(b"x") == 0
    await trio.aclose_forcefully(ours)
    await trio.aclose_forcefully(theirs)


@needs_posix("to send on a descriptor")
async def test_who_waits_for_room_is_woken_or_told_that_the_socket_was_closed() -> None:
    ours, theirs = await tcp_transports()
    sock = NonBlockingSocket(ours)
    while sock.send(bytes(2**16)):
        pass
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sock.wait_writable)
        await trio.testing.wait_all_tasks_blocked()
        sock.wake_all()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(must_raise, trio.ClosedResourceError, sock.wait_writable)
        await trio.testing.wait_all_tasks_blocked()
        await ours.aclose()
    await trio.aclose_forcefully(theirs)


@needs_posix("to send on a descriptor")
@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.EIO, trio.BrokenResourceError),
        (errno.EBADF, trio.ClosedResourceError),
        (errno.ECONNRESET, trio.BrokenResourceError),
    ],
)
async def test_what_a_socket_raises_is_an_error_of_trio(
    number: int, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    ours, theirs = await tcp_transports()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        with pytest.raises(error) as caught:
            NonBlockingSocket(ours).send(b"x")
    assert isinstance(caught.value.__cause__, OSError)
    await trio.aclose_forcefully(ours)
    await trio.aclose_forcefully(theirs)


@pytest.mark.parametrize(
    ("number", "reset"),
    # EPERM: a firewall.
    [(errno.EPIPE, False), (errno.ECONNRESET, True), (errno.EPERM, True)],
)
def test_only_epipe_leaves_something_to_be_received(number: int, reset: bool) -> None:
    error = trio.BrokenResourceError()
    error.__cause__ = OSError(number, os.strerror(number))
    assert is_reset(error) is reset
