"""Many connections, good and bad, from a seed: nothing is lost, nothing is left.

`TLSDOWN_SOAK=100000 make test ARGS=tests/model/test_soak.py` makes so many.
"""

from __future__ import annotations

import gc
import logging
import os
import random
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import attrs
import pytest
import trio

from tests.servers import until
from tests.support import CA, NAME, descriptors, needs_linux, server_context
from trio_tlsdown import (
    ShutdownOutcome,
    ShutdownPolicy,
    TLSNursery,
    TLSStream,
    open_tls_nursery,
)
from trio_tlsdown.testing import (
    Cut,
    Fault,
    FaultyStream,
    Rechunk,
    Reset,
    client_context,
    echo,
)
from trio_tlsdown.testing._transports import reset

pytestmark = needs_linux("/dev/fd and RST as there")

CONNECTIONS: Final = int(os.environ.get("TLSDOWN_SOAK", "500"))
WARM_UP: Final = 100
SEED: Final = 7
AT_ONCE: Final = 20
POLICY: Final = ShutdownPolicy(timeout=2, linger_timeout=1)
MOST: Final = 60_000  # bytes that one client sends

# What may remain of any number of connections. Trio keeps up to a thousand deadlines that
# are over.
FEW_OBJECTS: Final = 5000


@attrs.define
class Soak:
    """Clients of one server."""

    tls: TLSNursery
    port: int
    context: ssl.SSLContext
    rng: random.Random

    async def run(self, count: int) -> None:
        clients = iter(range(count))

        async def work() -> None:
            for _ in clients:
                await self.rng.choice(CLIENTS)(self)

        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(work)

    async def good(self) -> None:
        """All that was sent comes back, and both sides end well."""
        data = self.rng.randbytes(self.rng.randrange(MOST))
        stream = await self.tls.connect(NAME, self.port, ssl_context=self.context)
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
        tcp = await trio.open_tcp_stream("127.0.0.1", self.port)
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
        tcp = await trio.open_tcp_stream("127.0.0.1", self.port)
        await tcp.send_all(
            self.rng.choice([b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03"])
        )
        await self.rng.choice([reset, trio.aclose_forcefully])(tcp)

    async def _say(
        self,
        send_all: Callable[[bytes], Awaitable[None]],
        send_eof: Callable[[], Awaitable[None]],
        data: bytes,
    ) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await send_all(data)
            await send_eof()


CLIENTS: Final = (Soak.good, Soak.good, Soak.faulty, Soak.rude)


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


async def serve_and_be_served(count: int) -> None:
    rng = random.Random(SEED)  # noqa: S311 - to be the same each time
    async with open_tls_nursery(policy=POLICY) as tls:
        server = await tls.start_server(
            echo, 0, server_context("TLSv1.3"), host="127.0.0.1"
        )
        port = server.addresses[0][1]
        context = client_context(version="TLSv1.3", ca=CA)
        await Soak(tls, port, context, rng).run(count)
        await until(lambda: not server.connections)
    assert server.tally[ShutdownOutcome.COMPLETE] > count / 3


async def test_of_many_connections_nothing_is_lost_and_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # pytest keeps what is logged.
    monkeypatch.setattr(logging.getLogger("trio_tlsdown"), "disabled", True)
    await serve_and_be_served(WARM_UP)
    warm = Traces.now()
    await serve_and_be_served(CONNECTIONS)
    done = Traces.now()
    assert done.descriptors <= warm.descriptors
    assert done.tasks == warm.tasks
    assert done.sessions == warm.sessions
    assert done.objects < warm.objects + FEW_OBJECTS
