"""A server that has really run out of descriptors, in a process of its own."""

from __future__ import annotations

import os
import resource
import socket
from pathlib import Path

import pytest
import trio

from tests.servers import HOST, Stream, client_of
from tests.support import TLS13_FIRST, Maker, needs_linux, write_files

from .processes import example, terminate

SHORTAGE = b"cannot accept connections: Too many open files"


async def ask(client: Stream) -> None:
    await client.send_all(b"hello")
    assert await client.receive_some() == b"hello"


async def goodbye(client: Stream) -> None:
    assert await client.receive_some() == b""
    await client.shutdown()
    await client.aclose()


def leave_no_descriptor(pid: int) -> None:
    """Let the process have as many descriptors as it has, and no more."""
    has = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    free = next(number for number in range(len(has) + 1) if number not in has)
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, hard))


@needs_linux("limits of another process")
@pytest.mark.parametrize("version", TLS13_FIRST)
async def test_a_server_without_descriptors_serves_those_it_has_and_the_others_later(
    tls: Maker, tmp_path: Path
) -> None:
    async with (
        example("graceful_server", write_files(tmp_path), 0, 10) as (program, port),
        trio.open_nursery() as nursery,
    ):
        first = await client_of(port, tls.version)
        await ask(first)
        with socket.create_connection((HOST, port)) as silent:
            await trio.sleep(0.1)
            leave_no_descriptor(program.process.pid)
            second = await client_of(port, tls.version)
            await ask(second)
            assert silent.recv(1) == b""  # it has made room
        assert program.log.count(SHORTAGE) == 1

        served = trio.Event()
        third: list[Stream] = []

        async def visit() -> None:
            third.append(await client_of(port, tls.version))
            await ask(third[0])
            served.set()

        nursery.start_soon(visit)
        for _ in range(5):  # retries of the server
            await trio.sleep(0.1)
            await ask(first)
            await ask(second)
        assert not served.is_set()
        assert program.log.count(SHORTAGE) == 2
        await first.shutdown()
        await first.aclose()
        await served.wait()

        # In a drain those who are idle make room for those in the backlog.
        await trio.sleep(0.2)  # nobody waits: there is no shortage
        assert program.log.count(SHORTAGE) == 2
        last = await client_of(port, tls.version, handshake=False)
        for client in (second, *third):
            nursery.start_soon(goodbye, client)
        terminate(program)
        await ask(last)
        await goodbye(last)
        await program.ended.wait()
        assert program.log.count(SHORTAGE) <= 3
        assert b"3 complete" in program.output
