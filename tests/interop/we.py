"""What we do to end a connection, whoever the peer is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

import pytest
import trio

from tests import support
from tests.support import reset, unread
from trio_tlsdown import TLSStream, TransportBrokenError, TruncatedError

from .situations import PART_OF_A_RECORD

Stream: TypeAlias = TLSStream[trio.SocketStream]


class Peer(Protocol):
    ended: trio.Event


Part: TypeAlias = Callable[[Stream, Peer], Awaitable[None]]


async def shut_down(ours: Stream, peer: Peer) -> None:
    await ours.shutdown()


async def shut_down_when_it_is_gone(ours: Stream, peer: Peer) -> None:
    await peer.ended.wait()
    await ours.shutdown()


async def shut_down_after_a_reset(ours: Stream, peer: Peer) -> None:
    await peer.ended.wait()
    with pytest.raises(TransportBrokenError):
        await ours.receive_some()
    await ours.shutdown()


async def shut_down_and_close_at_once(ours: Stream, peer: Peer) -> None:
    await ours.shutdown(wait=False)
    await ours.aclose()


async def shut_down_too(ours: Stream, peer: Peer) -> None:
    assert await ours.receive_some() == b""
    await ours.shutdown()


async def close_the_transport(ours: Stream, peer: Peer) -> None:
    await support.cut(ours)


async def read_and_close_the_transport(ours: Stream, peer: Peer) -> None:
    assert await ours.receive_some() == b""
    await support.cut(ours)


async def close_the_transport_unread(ours: Stream, peer: Peer) -> None:
    await trio.lowlevel.wait_readable(ours.transport_stream.socket)
    await support.cut(ours)


async def cut_a_record(ours: Stream, peer: Peer) -> None:
    await ours.transport_stream.send_all(PART_OF_A_RECORD)
    await support.cut(ours)


async def reset_it(ours: Stream, peer: Peer) -> None:
    reset(ours)
    await trio.aclose_forcefully(ours)


async def wait_until_no_more_comes(ours: Stream) -> None:
    """Until the peer, which sends a lot, has no room left.

    On a busy machine it may be quiet for a while because it has no turn.
    """
    sizes = [0]
    while not sizes[-1] or sizes[-5:].count(sizes[-1]) < 5:
        await trio.sleep(0.05)
        sizes.append(unread(ours.transport_stream.socket))


async def read_to_a_cut_record(ours: Stream) -> None:
    with pytest.raises(TruncatedError) as caught:
        async for _ in ours:
            pass
    assert caught.value.mid_record
    await ours.shutdown()


async def receive(ours: Stream, size: int) -> bytearray:
    data = bytearray()
    while len(data) < size:
        data += await ours.receive_some(size - len(data))
    return data
