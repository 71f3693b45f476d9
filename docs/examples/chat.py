"""A chat server: what one client says, all others hear. Idle clients are disconnected.

    python chat.py cert.pem key.pem 8443 &
    openssl s_client -quiet -connect localhost:8443
    kill %1

On SIGTERM, all clients get what was said before, then a close_notify.
"""

import signal
import ssl
import sys
from contextlib import suppress
from functools import partial

import trio

from trio_tlsdown import (
    ShutdownPolicy,
    TLSStream,
    open_tls_nursery,
    receive_until_drain,
)

MOST_WAITING = 100  # messages; a client that reads too slowly misses some
LONGEST = 4096  # bytes

Outbox = trio.MemorySendChannel[bytes]


class Room:
    """The clients in the room."""

    def __init__(self) -> None:
        self.outboxes: set[Outbox] = set()

    def say(self, message: bytes, speaker: Outbox) -> None:
        for outbox in self.outboxes - {speaker}:
            with suppress(trio.WouldBlock):
                outbox.send_nowait(message)


async def handler(
    room: Room, idle: float, stream: TLSStream[trio.SocketStream]
) -> None:
    outbox, messages = trio.open_memory_channel[bytes](MOST_WAITING)
    async with trio.open_nursery() as nursery:
        # One task does all the sending. Nobody cancels it: it ends when its channel ends.
        nursery.start_soon(deliver, messages, stream)
        with outbox:
            room.outboxes.add(outbox)
            try:
                await listen(room, outbox, idle, stream)
            finally:
                room.outboxes.discard(outbox)


async def deliver(
    messages: trio.MemoryReceiveChannel[bytes], stream: TLSStream[trio.SocketStream]
) -> None:
    async for message in messages:
        await stream.send_all(message)


async def listen(
    room: Room, outbox: Outbox, idle: float, stream: TLSStream[trio.SocketStream]
) -> None:
    unread = b""
    # It ends when the client has left or is idle, or the server drains.
    while data := await receive_until_drain(stream, timeout=idle):
        *lines, unread = (unread + data).split(b"\n")
        if len(unread) > LONGEST:
            raise ValueError("the line is too long")
        for line in lines:
            room.say(line + b"\n", outbox)


async def main(certificate: str, key: str, port: int, idle: float = 600) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with open_tls_nursery(ShutdownPolicy(timeout=2)) as tls:
            server = await tls.start_server(
                partial(handler, Room(), idle), port, context
            )
            print("listening on port", server.addresses[0][1], flush=True)
            async for _ in signals:
                break
            await server.drain(grace=5)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
