"""What we do in the four scenarios, whoever the peer is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

import pytest
import trio

from trio_tlsdown import TLSStream, TransportBrokenError

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


async def shut_down_too_when_it_is_gone(ours: Stream, peer: Peer) -> None:
    await peer.ended.wait()
    await shut_down_too(ours, peer)


async def close_the_transport(ours: Stream, peer: Peer) -> None:
    await trio.aclose_forcefully(ours)


async def read_and_close_the_transport(ours: Stream, peer: Peer) -> None:
    assert await ours.receive_some() == b""
    await trio.aclose_forcefully(ours)


async def close_the_transport_unread(ours: Stream, peer: Peer) -> None:
    await trio.lowlevel.wait_readable(ours.transport_stream.socket)
    await trio.aclose_forcefully(ours)


async def receive(ours: Stream, size: int) -> bytearray:
    data = bytearray()
    while len(data) < size:
        data += await ours.receive_some(size - len(data))
    return data
