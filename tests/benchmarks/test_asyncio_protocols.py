"""The flow control of the protocols, with a transport that only takes notes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from harness.peers.asyncio_protocols import BUFFER_SIZE, Client, Echo


class Notes(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.taken: list[str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.taken.append(f"write {len(data)}")

    def pause_reading(self) -> None:
        self.taken.append("pause")

    def resume_reading(self) -> None:
        self.taken.append("resume")

    def close(self) -> None:
        self.taken.append("close")


def play(scene: Callable[[Client, Notes], Coroutine[object, object, None]]) -> None:
    async def main() -> None:
        client, transport = Client(), Notes()
        client.connection_made(transport)
        await asyncio.wait_for(scene(client, transport), 10)

    asyncio.run(main())


def come(client: Client, data: bytes) -> None:
    client.get_buffer(-1)[: len(data)] = data
    client.buffer_updated(len(data))


def test_data_are_read_in_order_and_in_the_size_that_is_asked_for() -> None:
    async def scene(client: Client, _: Notes) -> None:
        come(client, b"abcd")
        come(client, b"ef")
        assert [bytes(await client.receive(3)) for _ in range(3)] == [
            b"abc",
            b"d",
            b"ef",
        ]

    play(scene)


def test_the_socket_is_not_read_while_much_data_wait_to_be_taken() -> None:
    async def scene(client: Client, transport: Notes) -> None:
        come(client, bytes(BUFFER_SIZE))
        come(client, b"more")
        assert transport.taken == ["pause"]
        await client.receive(3)
        assert transport.taken == ["pause"]
        await client.receive(2)
        assert transport.taken == ["pause", "resume"]

    play(scene)


def test_a_send_waits_while_the_transport_is_full() -> None:
    async def scene(client: Client, transport: Notes) -> None:
        await client.send(b"abc")
        client.pause_writing()
        sending = asyncio.create_task(client.send(b"d"))
        await asyncio.sleep(0)
        assert transport.taken == ["write 3", "write 1"]
        assert not sending.done()
        client.resume_writing()
        await sending

    play(scene)


def test_a_waiting_sender_and_a_waiting_reader_see_the_end() -> None:
    async def scene(client: Client, _: Notes) -> None:
        client.pause_writing()
        sending = asyncio.create_task(client.send(b"a"))
        reading = asyncio.create_task(client.receive())
        await asyncio.sleep(0)
        client.connection_lost(None)
        await sending
        assert not await reading
        assert not await client.receive()

    play(scene)


def test_a_failure_is_told_behind_the_data_and_when_it_is_closed() -> None:
    async def scene(client: Client, transport: Notes) -> None:
        come(client, b"abc")
        client.connection_lost(ConnectionResetError())
        assert bytes(await client.receive()) == b"abc"
        for told in client.receive, client.close:
            with pytest.raises(ConnectionResetError):
                await told()
        assert transport.taken == ["close"]

    play(scene)


def test_a_server_reads_no_more_while_its_answers_wait() -> None:
    async def main() -> None:
        connections: list[Echo] = []
        echo, transport = Echo(connections), Notes()
        echo.connection_made(transport)
        assert connections == [echo]
        echo.get_buffer(-1)[:3] = b"abc"
        echo.buffer_updated(3)
        echo.pause_writing()
        echo.resume_writing()
        assert transport.taken == ["write 3", "pause", "resume"]

    asyncio.run(main())
