"""Many connections, good and bad, from a seed: nothing is lost, nothing is left.

docs/proof.md has the command for more of them.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import random
import ssl
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, TypeAlias

import attrs
import pytest
import trio

from tests.servers import HOST, Stream, port_of, until
from tests.support import CA, NAME, descriptors, needs_linux, server_context
from trio_tlsdown import (
    ShutdownOutcome,
    ShutdownPolicy,
    TLSNursery,
    TLSServer,
    TLSStream,
    open_tls_nursery,
)
from trio_tlsdown.testing import (
    BEHAVIOURS,
    Cut,
    Fault,
    FaultyStream,
    Rechunk,
    Reset,
    RoguePeer,
    _behaviours,
    client_context,
    echo,
)
from trio_tlsdown.testing._transports import reset

pytestmark = needs_linux("/dev/fd and RST as there")

CONNECTIONS: Final = int(os.environ.get("TLSDOWN_SOAK", "500"))
WARM_UP: Final = 100
SAMPLES: Final = 20
SEED: Final = 7
VERSION: Final = "TLSv1.3"
POLICY: Final = ShutdownPolicy(timeout=2, linger_timeout=1)
MOST: Final = 60_000  # bytes that one client sends

# What may remain of any number of connections. Trio keeps up to a thousand deadlines that
# are over, and the allocator what it has once had.
FEW_OBJECTS: Final = 5000
LITTLE_MEMORY: Final = 2**23


@attrs.define
class Soak:
    """Clients of a server that echoes, and of one that ends at once."""

    tls: TLSNursery
    server: TLSServer
    hasty: TLSServer
    context: ssl.SSLContext
    rng: random.Random

    async def run(self, clients: Sequence[Client], count: int, at_once: int) -> float:
        """Return how many bytes this process has grown by each connection."""
        numbers = iter(range(count))
        samples: dict[int, int] = {}

        async def work() -> None:
            for number in numbers:
                if number and number % (count // SAMPLES) == 0:
                    samples[number] = resident()
                await self.rng.choice(clients)(self)

        async with trio.open_nursery() as nursery:
            for _ in range(at_once):
                nursery.start_soon(work)
        return statistics.linear_regression(list(samples), list(samples.values())).slope

    async def ended(self) -> None:
        await until(lambda: not self.server.connections and not self.hasty.connections)

    async def good(self) -> None:
        """All that was sent comes back, and both sides end well."""
        data = self.rng.randbytes(self.rng.randrange(MOST))
        stream = await self.tls.connect(
            NAME, port_of(self.server), ssl_context=self.context
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._say, stream.send_all, stream.send_eof, data)
            assert b"".join([chunk async for chunk in stream]) == data
        assert (await stream.shutdown()).outcome is ShutdownOutcome.COMPLETE
        await stream.aclose()

    async def faulty(self) -> None:
        """What comes back before a fault is a beginning; an end means all of it."""
        data = self.rng.randbytes(self.rng.randrange(MOST))
        at = self.rng.randrange(MOST)
        faults: list[Fault] = [
            Cut("receive", at=at),
            Cut("send", at=at),
            Reset("send", at=at),
            Rechunk("receive", size=(1, 5000)),
        ]
        fault = self.rng.choice(faults)
        tcp = await trio.open_tcp_stream(HOST, port_of(self.server))
        stream = TLSStream(
            FaultyStream(tcp, [fault]),
            self.context,
            server_hostname=NAME,
            policy=POLICY,
        )
        got = b""
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(self._say, stream.send_all, stream.send_eof, data)
            with suppress(trio.BrokenResourceError):
                async for chunk in stream:
                    got += chunk
                # If our direction was cut, the server echoed what it had got.
                assert got == data or fault.direction == "send"
        assert data.startswith(got)

    async def rude(self) -> None:
        """Says nothing, or nonsense, or half a handshake; then FIN or RST."""
        tcp = await trio.open_tcp_stream(HOST, port_of(self.server))
        await tcp.send_all(
            self.rng.choice([b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03"])
        )
        await self.rng.choice([reset, trio.aclose_forcefully])(tcp)

    async def rogue(self) -> None:
        """Ends badly, in any way that the test kit knows."""
        tcp = await trio.open_tcp_stream(HOST, port_of(self.hasty))
        name = self.rng.choice(list(BEHAVIOURS))
        await RoguePeer(name, tcp, server_side=False, version=VERSION, ca=CA).run()

    async def _say(
        self,
        send_all: Callable[[bytes], Awaitable[None]],
        send_eof: Callable[[], Awaitable[None]],
        data: bytes,
    ) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await send_all(data)
            await send_eof()


Client: TypeAlias = Callable[[Soak], Awaitable[None]]

ALL_KINDS: Final = (Soak.good, Soak.good, Soak.faulty, Soak.rude, Soak.rogue)


@attrs.frozen
class Traces:
    """What there is in this process, when it has nothing to do."""

    descriptors: set[tuple[int, int, int]]
    tasks: int
    sessions: int
    objects: int

    @classmethod
    def now(cls) -> Traces:
        gc.collect()
        objects = gc.get_objects()
        return cls(
            descriptors(),
            trio.lowlevel.current_statistics().tasks_living,
            sum(type(found) is ssl.SSLObject for found in objects),
            len(objects),
        )


def resident() -> int:
    """Bytes of memory that this process has and uses."""
    gc.collect()
    # What was freed is the allocator's otherwise, and comes and goes in leaps.
    with suppress(AttributeError):  # it is not glibc
        ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


async def end_at_once(stream: Stream) -> None:
    pass


@asynccontextmanager
async def served() -> AsyncIterator[Soak]:
    rng = random.Random(SEED)  # noqa: S311 - to be the same each time
    async with open_tls_nursery(policy=POLICY) as tls:
        server = await tls.start_server(echo, 0, server_context(VERSION), host=HOST)
        hasty = await tls.start_server(
            end_at_once, 0, server_context(VERSION), host=HOST, handshake_timeout=2
        )
        context = client_context(version=VERSION, ca=CA)
        yield Soak(tls, server, hasty, context, rng)


async def serve_and_be_served(
    clients: Sequence[Client], count: int, at_once: int
) -> float:
    async with served() as soak:
        slope = await soak.run(clients, count, at_once)
        await soak.ended()
    assert soak.server.tally[ShutdownOutcome.COMPLETE] > count / 4
    return slope


@pytest.fixture(autouse=True)
def quick_and_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    # pytest keeps what is logged.
    monkeypatch.setattr(logging.getLogger("trio_tlsdown"), "disabled", True)
    monkeypatch.setattr(_behaviours, "LATE", 0.1)
    monkeypatch.setattr(_behaviours, "DRIP", 0.01)
    monkeypatch.setattr(_behaviours, "FLOOD", 2**18)


@pytest.mark.parametrize("client", [Soak.faulty, Soak.rude])
async def test_a_connection_that_has_ended_does_not_wait_for_the_garbage_collector(
    client: Client,
) -> None:
    async with served() as soak:
        await client(soak)
        before = Traces.now()
        gc.disable()
        try:
            for _ in range(10):
                await client(soak)
            await soak.ended()
            sessions = sum(type(found) is ssl.SSLObject for found in gc.get_objects())
        finally:
            gc.enable()
    assert sessions <= before.sessions + 1


@pytest.mark.parametrize(
    ("clients", "at_once"),
    [
        pytest.param([Soak.good], 1, id="one after the other"),
        pytest.param(ALL_KINDS, 20, id="all kinds at once", marks=pytest.mark.long),
    ],
)
async def test_of_many_connections_nothing_is_lost_and_nothing_is_left(
    clients: Sequence[Client], at_once: int
) -> None:
    await serve_and_be_served(clients, WARM_UP, at_once)
    warm = Traces.now()
    slope = await serve_and_be_served(clients, CONNECTIONS, at_once)
    done = Traces.now()
    print(  # noqa: T201 - these are the figures of docs/proof.md
        f"{CONNECTIONS} connections: {slope:+.1f} bytes of memory each;",
        f"{len(done.descriptors - warm.descriptors)} descriptors,",
        f"{done.tasks - warm.tasks} tasks, {done.sessions - warm.sessions} sessions,",
        f"{done.objects - warm.objects} objects more than after {WARM_UP}",
    )
    assert done.descriptors <= warm.descriptors
    assert done.tasks == warm.tasks
    assert done.sessions == warm.sessions
    assert done.objects < warm.objects + FEW_OBJECTS
    assert slope * CONNECTIONS < LITTLE_MEMORY
