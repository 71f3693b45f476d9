"""Ctrl-C, at any line of ours: what was reported is what the peer saw.

The test traces the lines itself, so coverage cannot.
"""

from __future__ import annotations

import itertools
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest
import trio

import trio_tlsdown
from tests.support import TRANSPORTS, VERSIONS, Maker
from trio_tlsdown import ShutdownOutcome, TLSStream
from trio_tlsdown._stream.stream import abort

OURS: Final = str(Path(trio_tlsdown.__file__).parent)
CHUNKS: Final = [b"one, ", b"two, ", b"three"]


@contextmanager
def interrupted_at(line: int) -> Iterator[None]:  # pragma: no cover
    """Ctrl-C at the nth line of ours that runs."""
    lines = itertools.count(1)

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        if event == "line" and next(lines) == line:
            signal.raise_signal(signal.SIGINT)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


async def strikes(  # pragma: no cover
    line: int, call: Callable[[], Awaitable[object]]
) -> bool:
    """Whether Ctrl-C came, at the nth line of ours in the call."""
    try:
        with interrupted_at(line):
            await call()
        await trio.lowlevel.checkpoint()  # it comes in here if not before
    except KeyboardInterrupt:
        return True
    return False


def count_strikes(  # pragma: no cover
    attempt: Callable[[int], Awaitable[bool]], lines: Iterable[int]
) -> int:
    """How many of these lines the attempt has."""
    return len(list(itertools.takewhile(lambda line: trio.run(attempt, line), lines)))


async def talk(client: TLSStream[Any], heard: bytearray) -> None:  # pragma: no cover
    async with client:
        receivers = client.receive_some, client.__anext__, client.receive_some
        for receive, chunk in zip(receivers, CHUNKS, strict=True):
            await client.wait_send_all_might_not_block()
            await client.send_all(chunk)
            client.peer_state_nowait()
            heard += await receive()


async def conversation(  # pragma: no cover
    tls: Maker, transport: str, line: int
) -> bool:
    """Whether Ctrl-C came."""
    client, server = await tls.pair(transport)
    heard = bytearray()
    received = bytearray()
    ended = ""

    async def echo() -> None:
        nonlocal ended
        try:
            async for chunk in server:
                received.extend(chunk)
                await server.send_all(chunk)
            ended = "close_notify"
        except trio.BrokenResourceError:
            ended = server.report.outcome.value
        await trio.aclose_forcefully(server)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(echo)
        interrupted = await strikes(line, partial(talk, client, heard))
        if interrupted:
            # It has left the block, in which it was or by which it was being closed.
            with pytest.raises(trio.ClosedResourceError):
                client.peer_state_nowait()
    assert client.report.close_notify_sent is (ended == "close_notify")
    assert ended in ("close_notify", "truncated", "reset")
    assert b"".join(CHUNKS).startswith(received)
    assert received.startswith(heard)
    return interrupted


@pytest.mark.parametrize("transport", ["memory", "tcp"])
@pytest.mark.parametrize("version", VERSIONS)
def test_wherever_ctrl_c_strikes_the_report_is_what_the_peer_saw(  # pragma: no cover
    version: str, transport: str
) -> None:
    attempt = partial(conversation, Maker(version), transport)
    # Each of the four has a quarter of the lines.
    first = 1 + 2 * (version == "TLSv1.3") + (transport == "tcp")
    assert count_strikes(attempt, itertools.count(first, 4)) > 20


async def handshake_interrupted_at(tls: Maker, line: int) -> bool:  # pragma: no cover
    """Whether Ctrl-C came."""
    client, server = tls.wrap(await TRANSPORTS["tcp"]())
    heard = b""

    async def listen() -> None:
        nonlocal heard
        with suppress(trio.BrokenResourceError):
            heard = await server.receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        interrupted = await strikes(line, client.do_handshake)
        said = b"x"
        with trio.fail_after(5):  # whoever waits for this handshake is told
            try:
                await client.send_all(said)
            except trio.BrokenResourceError:
                said = b""
                await trio.aclose_forcefully(client)
    assert heard == said
    await trio.aclose_forcefully(client)
    await trio.aclose_forcefully(server)
    return interrupted


@pytest.mark.parametrize("version", VERSIONS)
def test_wherever_ctrl_c_strikes_a_handshake_others_learn_of_it(  # pragma: no cover
    version: str,
) -> None:
    attempt = partial(handshake_interrupted_at, Maker(version))
    # The other version has the other lines.
    first = 1 + (version == "TLSv1.3")
    assert count_strikes(attempt, itertools.count(first, 2)) > 20


async def half_close(client: TLSStream[Any]) -> None:  # pragma: no cover
    await client.send_eof(allow_tls12=True)
    await client.wait_peer_ended()


ENDINGS: Final[dict[str, Any]] = {
    "shutdown": TLSStream.shutdown,
    "half-close": half_close,
    "unwrap": TLSStream.unwrap,
}


async def end_interrupted_at(  # pragma: no cover
    tls: Maker, ending: str, line: int
) -> bool:
    """Whether Ctrl-C came."""
    client, server = await tls.pair("tcp")
    transport = client.transport_stream
    unwrapped = False
    heard = trio.Event()

    async def answer() -> None:
        assert await server.receive_some() == b""
        heard.set()
        await server.aclose()

    async def end() -> None:
        nonlocal unwrapped
        unwrapped = await ENDINGS[ending](client) and ending == "unwrap"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        interrupted = await strikes(line, end)
        if interrupted:
            if client.report.close_notify_sent:
                await heard.wait()
            else:
                await trio.testing.wait_all_tasks_blocked(0.001)
                assert not heard.is_set()
            if not unwrapped:
                assert client.transport_stream is transport
                await client.shutdown()
        assert client.report.outcome is ShutdownOutcome.COMPLETE
        await trio.aclose_forcefully(transport)
    return interrupted


@pytest.mark.parametrize(
    "ending",
    [
        "shutdown",
        *(pytest.param(it, marks=pytest.mark.long) for it in ("half-close", "unwrap")),
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_wherever_ctrl_c_strikes_an_ending_nothing_is_lost(
    version: str, ending: str
) -> None:  # pragma: no cover
    attempt = partial(end_interrupted_at, Maker(version), ending)
    # The other version has the other lines.
    first = 1 + (version == "TLSv1.3")
    assert count_strikes(attempt, itertools.count(first, 2)) > 10


async def abort_interrupted_at(line: int) -> bool:  # pragma: no cover
    """Whether Ctrl-C came."""
    client, server = await Maker("TLSv1.3").pair("tcp")
    interrupted = await strikes(line, partial(abort, client))
    assert client.transport_stream.socket.fileno() == -1
    await trio.aclose_forcefully(server)
    return interrupted


def test_wherever_ctrl_c_strikes_an_abort_closes() -> None:  # pragma: no cover
    assert count_strikes(abort_interrupted_at, itertools.count(1)) > 20


async def look_interrupted_at(line: int) -> bool:  # pragma: no cover
    """Whether Ctrl-C came."""
    client, server = await Maker("TLSv1.3").pair("tcp")
    await server.send_all(b"x")
    await trio.lowlevel.wait_readable(client.transport_stream.socket)

    async def look() -> None:
        client.peer_state_nowait()

    interrupted = await strikes(line, look)
    with trio.fail_after(5):
        assert await client.receive_some() == b"x"
    await trio.aclose_forcefully(client)
    await trio.aclose_forcefully(server)
    return interrupted


def test_wherever_ctrl_c_strikes_a_look_loses_nothing() -> None:  # pragma: no cover
    assert count_strikes(look_interrupted_at, itertools.count(1)) > 20
