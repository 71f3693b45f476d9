"""The situations in which a connection ends, and how it has to end in each.

The number is that of the scenario, the letter is *our* part. `endings` has what TLS and
TCP demand; where a peer deviates, its own test module says so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final, TypeAlias

import attrs
import pytest
import trio

from tests import support
from tests.support import reset
from trio_tlsdown import (
    ShutdownOutcome as Outcome,
    TLSStream,
    TransportBrokenError,
    TruncatedError,
)

from .data import stretch
from .endings import INSECURE, SECURE, TABLE, Ending, Saw
from .lab import End, Lab

TLS12: Final = "https://www.rfc-editor.org/rfc/rfc5246#section-7.2.1"
TLS13: Final = "https://www.rfc-editor.org/rfc/rfc9846#section-6.1"

SOME: Final = 10_000  # bytes
ANSWER: Final = 2**16
MUCH: Final = 2**23

# What a peer may hold, and drop, when the end comes, as uvloop does; it has two buffers,
# FLOW_CONTROL_HIGH_WATER_SSL_READ and SSL_READ_MAX_SIZE.
ITS_BUFFERS: Final = 2 * 2**18  # bytes

# A header that promises 256 bytes, and some of them.
PART_OF_A_RECORD: Final = b"\x17\x03\x03\x01\x00" + bytes(20)


@attrs.define(eq=False)
class Ours:
    """Our end of a connection, and how much has crossed it."""

    stream: TLSStream[trio.SocketStream]
    sent: int = 0
    received: int = 0

    async def sends(self, size: int) -> None:
        await self.stream.send_all(stretch(self.sent, size))
        self.sent += size

    async def receives(self, size: int) -> None:
        until = self.received + size
        while self.received < until:
            assert await self._receive(until - self.received), "an early end"

    async def reads_to_the_end(self) -> int:
        """How many bytes these were."""
        before = self.received
        while await self._receive(None):
            pass
        return self.received - before

    async def _receive(self, at_most: int | None) -> bytes:
        data = await self.stream.receive_some(at_most)
        assert data == stretch(self.received, len(data)), "not what was sent"
        self.received += len(data)
        return bytes(data)

    async def reads_no_more_than_the_end(self) -> None:
        assert await self.stream.receive_some() == b""


@attrs.frozen
class Seen:
    """How it ended, apart from our report."""

    by_it: Saw = Saw.NOTHING
    received: int = 0
    whole: bool = True
    closes: bool = True


Play: TypeAlias = Callable[[Ours, Lab], Awaitable[Seen]]


async def scenario_1a(ours: Ours, it: Lab) -> Seen:
    """It closes the transport, then we shut down."""
    await it.does("close-transport")
    await ours.stream.shutdown()
    return Seen()


async def scenario_1b(ours: Ours, it: Lab) -> Seen:
    """We close the transport, then it shuts down."""
    await support.cut(ours.stream)
    end = await it.ends()
    return Seen(end.saw, closes=await it.closes())


async def scenario_2a(ours: Ours, it: Lab) -> Seen:
    """We shut down and wait; it closes the transport instead of answering."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.stream.shutdown)
        end = await it.ends()
        await it.does("close-transport")
    return Seen(end.saw)


async def scenario_2b(ours: Ours, it: Lab) -> Seen:
    """It shuts down and waits; we close the transport instead of answering."""

    async def close_the_transport() -> None:
        await ours.reads_no_more_than_the_end()
        await support.cut(ours.stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(close_the_transport)
        saw = await it.shuts_down()
    return Seen(saw)


async def scenario_3a(ours: Ours, it: Lab) -> Seen:
    """We shut down and wait; it shuts down too."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.stream.shutdown)
        end = await it.ends()
        await it.does("close")
    return Seen(end.saw)


async def scenario_3b(ours: Ours, it: Lab) -> Seen:
    """It shuts down and waits; we shut down too."""

    async def shut_down_too() -> None:
        await ours.reads_no_more_than_the_end()
        await ours.stream.shutdown()
        await ours.stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(shut_down_too)
        saw = await it.shuts_down()
    return Seen(saw)


async def scenario_4a(ours: Ours, it: Lab) -> Seen:
    """We send close_notify and close without waiting; it shuts down."""
    await ours.stream.shutdown(wait=False)
    await ours.stream.aclose()
    end = await it.ends()
    return Seen(end.saw, closes=await it.closes())


async def scenario_4b(ours: Ours, it: Lab) -> Seen:
    """It sends close_notify and closes without waiting; we shut down."""
    await it.does("close")
    await ours.reads_no_more_than_the_end()
    await ours.stream.shutdown()
    return Seen()


async def half_close_a(ours: Ours, it: Lab) -> Seen:
    """We half-close; it answers, and shuts down too."""
    end, closes = End(Saw.NOTHING, 0), False

    async def answer() -> None:
        nonlocal end, closes
        end = await it.ends()
        # It may refuse: then nothing comes, which `received` shows.
        await it.tries(f"send {ANSWER}")
        closes = await it.closes()

    await ours.stream.send_eof(allow_tls12=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        received = await ours.reads_to_the_end()
        await ours.stream.shutdown()
    return Seen(end.saw, received, closes=closes)


async def half_close_b(ours: Ours, it: Lab) -> Seen:
    """It half-closes; we answer, and shut down too."""

    async def answer() -> None:
        await ours.sends(ANSWER)
        await ours.stream.shutdown()

    await it.does("half-close")
    await ours.reads_no_more_than_the_end()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        end = await it.ends()
    await it.does("close")
    return Seen(end.saw, whole=end.size == ANSWER)


async def cut_a(ours: Ours, it: Lab) -> Seen:
    """We send some data and close the transport."""
    await ours.sends(SOME)
    await support.cut(ours.stream)
    return await it_sees(it, SOME)


async def cut_b(ours: Ours, it: Lab) -> Seen:
    """It sends some data and closes the transport."""
    await it.does(f"send {SOME}", "close-transport")
    await we_see_a_cut(ours, mid_record=False)
    return Seen(received=ours.received - len(HELLO))


async def cut_inside_a(ours: Ours, it: Lab) -> Seen:
    """We send some data, then part of a record, and close the transport."""
    await ours.sends(SOME)
    await ours.stream.transport_stream.send_all(PART_OF_A_RECORD)
    await support.cut(ours.stream)
    return await it_sees(it, SOME)


async def cut_inside_b(ours: Ours, it: Lab) -> Seen:
    """It sends some data, then part of a record, and closes the transport."""
    await it.does(f"send {SOME}", "cut-inside")
    await we_see_a_cut(ours, mid_record=True)
    return Seen(received=ours.received - len(HELLO))


async def reset_a(ours: Ours, it: Lab) -> Seen:
    """We reset the connection."""
    reset(ours.stream)
    await trio.aclose_forcefully(ours.stream)
    return Seen((await it.ends()).saw)


async def reset_b(ours: Ours, it: Lab) -> Seen:
    """It resets the connection."""
    await it.does("reset")
    with pytest.raises(TransportBrokenError):
        await ours.stream.receive_some()
    return Seen()


async def much_a(ours: Ours, it: Lab) -> Seen:
    """8 MiB come; we send 8 MiB, and close at once."""

    async def send_and_close() -> None:
        await ours.sends(MUCH)
        await ours.stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.sends, MUCH)
        await ours.receives(MUCH)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_and_close)
        seen = await it_sees(it, MUCH)
    return attrs.evolve(seen, received=MUCH)


async def much_b(ours: Ours, it: Lab) -> Seen:
    """We send 8 MiB; it sends 8 MiB, and closes at once."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.sends, MUCH)
        await it.receives(MUCH)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.does, f"send {MUCH}", "close")
        before = ours.received
        with suppress(TruncatedError):  # the report tells
            await ours.reads_to_the_end()
        await ours.stream.shutdown()
        await ours.stream.aclose()
    return Seen(received=ours.received - before)


async def it_sees(it: Lab, size: int) -> Seen:
    """Receive so many bytes, and then the end."""
    end = await it.ends()
    assert size - ITS_BUFFERS < end.size <= size
    return Seen(end.saw, whole=end.size == size, closes=await it.closes())


async def we_see_a_cut(ours: Ours, *, mid_record: bool) -> None:
    with pytest.raises(TruncatedError) as caught:
        await ours.reads_to_the_end()
    assert caught.value.mid_record is mid_record
    await support.cut(ours.stream)


HELLO: Final = stretch(0, 5)


@attrs.frozen
class Situation:
    """How it is played, and how it has to end."""

    play: Play
    ending: Ending
    ending_in_tls12: Ending
    sends: int = 0
    """How many bytes of data we send in it."""

    witnessed: bool = True
    """Whether it is captured. Big transfers are not, unless the peer deviates there:
    dissecting them takes long."""

    @property
    def says(self) -> str:
        return str(self.play.__doc__)


def scenario(play: Play, cell: str) -> Situation:
    return both(play, TABLE[cell])


def both(
    play: Play, ending: Ending, *, sends: int = 0, witnessed: bool = True
) -> Situation:
    return Situation(play, ending, ending, sends, witnessed)


ANSWERED: Final = Ending(
    Outcome.COMPLETE, "><", SECURE, Saw.CLOSE_NOTIFY, received=ANSWER
)
# RFC 5246 section 7.2.1: who receives a close_notify answers with its own, and
# discards what it still had to send.
NOT_ANSWERED: Final = attrs.evolve(ANSWERED, received=0)

SITUATIONS: Final[Mapping[str, Situation]] = {
    "1A": scenario(scenario_1a, "1A"),
    "1B": scenario(scenario_1b, "1B"),
    "2A": scenario(scenario_2a, "2A"),
    "2B": scenario(scenario_2b, "2B"),
    "3A": scenario(scenario_3a, "3A"),
    "3B": scenario(scenario_3b, "3B"),
    "4A": scenario(scenario_4a, "4A"),
    "4B": scenario(scenario_4b, "4B"),
    "half-close A": Situation(half_close_a, ANSWERED, NOT_ANSWERED),
    "half-close B": both(
        half_close_b,
        Ending(Outcome.COMPLETE, "<>", SECURE, Saw.CLOSE_NOTIFY),
        sends=ANSWER,
    ),
    "cut A": both(cut_a, TABLE["1B"], sends=SOME),
    "cut B": both(
        cut_b, Ending(Outcome.TRUNCATED, "", INSECURE, Saw.NOTHING, received=SOME)
    ),
    "cut inside A": both(cut_inside_a, TABLE["1B"], sends=SOME),
    "cut inside B": both(
        cut_inside_b,
        Ending(Outcome.TRUNCATED, "", INSECURE, Saw.NOTHING, received=SOME),
    ),
    "reset A": both(reset_a, TABLE["1B reset"]),
    "reset B": both(reset_b, Ending(Outcome.RESET, "", INSECURE, Saw.NOTHING)),
    "8 MiB A": both(
        much_a,
        attrs.evolve(TABLE["4A"], received=MUCH),
        sends=MUCH,
        witnessed=False,
    ),
    "8 MiB B": both(
        much_b,
        attrs.evolve(TABLE["4B"], received=MUCH),
        sends=MUCH,
        witnessed=False,
    ),
}
