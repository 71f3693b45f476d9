"""Two TLSStreams, two tasks at each, faults below them: what each of them saw.

Each send is of one byte value, its number, so that what was received tells which sends
it came from, and how much of each.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any, Final

import attrs
import trio
import trio.testing

from tests.support import Maker
from trio_tlsdown import (
    HalfCloseUnsupportedError,
    ShutdownOutcome,
    ShutdownPolicy,
    TLSStream,
)
from trio_tlsdown.testing import Fault, FaultyStream, memory_transports

POLICY: Final = ShutdownPolicy(timeout=5, linger_timeout=2, max_unread=2000)

# Seconds on a clock of which nobody waits for a second.
PATIENCE: Final = 30.0

# A call may have to wait for another task's, and that for its deadline.
SLOWEST: Final = 2 * (POLICY.timeout + POLICY.linger_timeout)

MISUSE: Final = (trio.BusyResourceError, trio.ClosedResourceError)
ERRORS: Final[dict[str, tuple[type[Exception], ...]]] = {
    "send": (*MISUSE, trio.BrokenResourceError),
    "wait to send": (*MISUSE, trio.BrokenResourceError),
    "receive": (*MISUSE, trio.BrokenResourceError),
    "send_eof": (*MISUSE, trio.BrokenResourceError, HalfCloseUnsupportedError),
    "shutdown": MISUSE,
    "shutdown, no wait": MISUSE,
    "unwrap": (*MISUSE, trio.BrokenResourceError),
    "aclose": (),
    "abort": (),
    "peer state": (trio.ClosedResourceError,),
    "sleep": (),
}
BOUNDED: Final = frozenset({"shutdown", "shutdown, no wait", "unwrap", "aclose"})


@attrs.frozen
class Call:
    """One call of a task."""

    name: str
    size: int = 0
    """How many bytes to send, or to receive at most; seconds to sleep."""

    cancel_at: int | None = None
    """Before which step of the task; None: never."""


@attrs.define
class Sent:
    """One send_all."""

    number: int
    size: int
    whole: bool = False


class CancelAt(trio.abc.Instrument):
    """Cancels a scope when one task is about to take its nth step."""

    def __init__(self, step: int, scope: trio.CancelScope) -> None:
        self._left = step
        self._scope = scope
        self._task = trio.lowlevel.current_task()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self._left -= 1
            if self._left == 0:
                self._scope.cancel()


@attrs.define
class Side:
    """A stream, and what its tasks saw."""

    stream: TLSStream[Any]
    sends: list[Sent] = attrs.field(factory=list)
    received: bytearray = attrs.field(factory=bytearray)
    ended: bool = False
    """Whether a receive has returned b""."""

    async def run(self, calls: list[Call]) -> None:
        for call in calls:
            before = trio.current_time()
            with trio.move_on_after(PATIENCE), trio.CancelScope() as scope:
                instrument = CancelAt(call.cancel_at or -1, scope)
                if call.cancel_at == 0:
                    scope.cancel()
                trio.lowlevel.add_instrument(instrument)
                try:
                    await self.make(call)
                except ERRORS[call.name]:
                    await trio.lowlevel.checkpoint()
                finally:
                    trio.lowlevel.remove_instrument(instrument)
            if call.name in BOUNDED:
                elapsed = trio.current_time() - before
                assert elapsed <= SLOWEST, f"{call.name} took {elapsed} s"

    async def send(self, size: int) -> None:
        sent = Sent(len(self.sends) + 1, size)
        self.sends.append(sent)
        try:
            await self.stream.send_all(bytes([sent.number]) * size)
        except trio.BusyResourceError:
            sent.size = 0  # nothing of it is ever sent
            raise
        sent.whole = True

    async def receive(self, size: int) -> None:
        data = await self.stream.receive_some(size or None)
        self.received += data
        if not data:
            assert self.stream.report.close_notify_received
            self.ended = True

    async def unwrap(self) -> None:
        transport, trailing = await self.stream.unwrap()
        assert trailing == b""
        assert self.stream.report.outcome is ShutdownOutcome.COMPLETE
        await transport.aclose()

    async def finish(self) -> None:
        """Read what has come, then close."""
        with trio.move_on_after(PATIENCE):
            try:
                while not self.ended:
                    await self.receive(0)
            except ERRORS["receive"]:
                pass
        await self.run([Call("aclose")])

    async def make(self, call: Call) -> None:
        stream = self.stream
        match call.name:
            case "send":
                await self.send(call.size)
            case "wait to send":
                await stream.wait_send_all_might_not_block()
            case "receive":
                await self.receive(call.size)
            case "send_eof":
                await stream.send_eof()
            case "shutdown":
                report = await stream.shutdown()
                assert report.outcome is not ShutdownOutcome.OPEN
            case "shutdown, no wait":
                await stream.shutdown(wait=False)
            case "unwrap":
                await self.unwrap()
            case "aclose":
                await stream.aclose()
            case "abort":
                await trio.aclose_forcefully(stream)
            case "peer state":
                stream.peer_state_nowait()
            case _:
                assert call.name == "sleep"
                await trio.sleep(call.size)


@attrs.frozen
class Scenario:
    """What the tasks do and what goes wrong below them."""

    version: str
    tasks: tuple[list[Call], list[Call], list[Call], list[Call]]
    """Two of the client's, then two of the server's."""

    faults: tuple[list[Fault], list[Fault]]
    """After the handshake, at the client's transport and at the server's."""

    def play(self) -> None:
        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(self._play, clock=clock)

    async def _play(self) -> None:
        a, b = memory_transports()
        faulty = FaultyStream(a), FaultyStream(b)
        options = {"policy": POLICY}
        streams = Maker(self.version).wrap(faulty, client=options, server=options)
        async with trio.open_nursery() as nursery:
            for stream in streams:
                nursery.start_soon(stream.do_handshake)
        for transport, faults in zip(faulty, self.faults, strict=True):
            strike_from_now_on(transport, faults)
        client, server = sides = Side(streams[0]), Side(streams[1])
        async with trio.open_nursery() as nursery:
            for side, calls in zip(
                (client, client, server, server), self.tasks, strict=True
            ):
                nursery.start_soon(side.run, calls)
        async with trio.open_nursery() as nursery:
            for side in sides:
                nursery.start_soon(side.finish)
        check(client, server)
        check(server, client)


def strike_from_now_on(transport: FaultyStream, faults: list[Fault]) -> None:
    """Count the bytes of *faults* from here."""
    fresh = FaultyStream(transport.transport_stream, faults)
    transport._sending, transport._receiving = fresh._sending, fresh._receiving


def check(receiver: Side, sender: Side) -> None:
    """RFC 9846 section 6.1: what may be seen of *sender*, once both have closed."""
    check_received(receiver, sender)
    ours, theirs = receiver.stream.report, sender.stream.report
    crossed = ours.close_notify_sent and ours.close_notify_received
    assert (ours.outcome is ShutdownOutcome.COMPLETE) is crossed
    if ours.close_notify_received:
        # Cancelled while it sent it, it cannot know.
        assert theirs.close_notify_sent or not theirs.secure
    assert ours.outcome is not ShutdownOutcome.OPEN
    assert (ours.error is not None) is ours.outcome.broken
    assert ours.discarded <= POLICY.max_unread + 2**19
    connection = receiver.stream._connection
    assert connection.state.closed
    assert not connection.engine.output.pending
    assert not connection.records.lock.locked


def check_received(receiver: Side, sender: Side) -> None:
    runs = [(number, len(list(run))) for number, run in groupby(receiver.received)]
    numbers = [number for number, _ in runs]
    assert numbers == sorted(set(numbers)), "something overtook, or came twice"
    last = numbers[-1] if numbers else 0
    came = dict(runs)
    for sent in sender.sends:
        size = came.pop(sent.number, 0)
        assert size <= sent.size
        if sent.whole:
            # Behind it only a cut, or what is still unread, may hide a part of it.
            assert size == sent.size or (sent.number >= last and not receiver.ended)
        else:
            # Nothing may follow a part, least of all an end.
            assert not size or (sent.number == last and not receiver.ended)
    assert not came, "nobody has sent that"
