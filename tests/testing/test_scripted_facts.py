"""What a ScriptedPeer says of itself."""

from __future__ import annotations

import trio

from tests.support import Maker
from trio_tlsdown.testing import ScriptedPeer, memory_transports


async def shaken(version: str) -> tuple[ScriptedPeer, ScriptedPeer]:
    ours, theirs = memory_transports()
    client = ScriptedPeer(ours, server_side=False, version=version)
    server = ScriptedPeer(theirs, server_side=True, version=version)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.handshake)
        nursery.start_soon(server.handshake)
    return client, server


async def test_a_close_notify_is_sent_when_its_last_byte_is(tls: Maker) -> None:
    client, server = await shaken(tls.version)
    for byte in client.encrypt(b"data") + client.close_notify():
        assert not client.close_notify_sent
        await client.send(bytes([byte]))
    assert client.close_notify_sent
    await server.hear_close_notify()


async def test_a_close_notify_is_sent_with_what_stands_before_and_behind_it(
    tls: Maker,
) -> None:
    client, server = await shaken(tls.version)
    await client.send(client.encrypt(b"data") + client.close_notify() + bytes(100))
    assert client.close_notify_sent
    await server.hear_close_notify()


async def test_a_close_notify_that_was_made_only_is_not_sent(tls: Maker) -> None:
    client, _ = await shaken(tls.version)
    data = client.encrypt(b"data")
    client.close_notify()
    await client.send(data)
    assert not client.close_notify_sent
