"""`TLSServer` with many peers at once: who ends how is known beforehand, exactly."""

from __future__ import annotations

import gc
import itertools
import logging
import re
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import attrs
import pytest
import trio
import trio.testing

from tests.servers import HOST, Stream, port_of, rogue_of, serving, until, what_it_sees
from tests.support import CA, NAME, TLS13_FIRST, Maker, client_context, needs_linux
from trio_tlsdown import (
    HandshakeTimeoutError,
    ShutdownOutcome,
    ShutdownPolicy,
    TLSFailedError,
    TLSStream,
    TransportBrokenError,
    TruncatedError,
    cancel_on_drain,
)
from trio_tlsdown.testing import BEHAVIOURS, RoguePeer, _behaviours

ABORTED: Final = ShutdownOutcome.ABORTED
COMPLETE: Final = ShutdownOutcome.COMPLETE
FAILED: Final = ShutdownOutcome.FAILED
RESET: Final = ShutdownOutcome.RESET
TRUNCATED: Final = ShutdownOutcome.TRUNCATED

pytestmark = needs_linux("an address for each client, thousands of descriptors")

AT_ONCE: Final = 10  # handshakes, or some more: so that none takes too long


@pytest.fixture(autouse=True)
def enough_descriptors() -> Iterator[None]:
    """Both ends of all connections are in this process."""
    import resource  # Windows has none

    gc.collect()  # what other tests have left is not to be counted here
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# A drain:


@attrs.frozen(kw_only=True)
class Fate:
    """What becomes of one kind of connection in the drain."""

    share: int
    """How many of six connections are of this kind."""
    outcome: ShutdownOutcome
    alert_sent: bool
    cancelled: bool = False


FATES: Final = {
    b"idle": Fate(share=2, outcome=COMPLETE, alert_sent=True),
    b"busy": Fate(share=2, outcome=COMPLETE, alert_sent=True),
    # Their clients never read:
    b"deaf": Fate(share=1, outcome=ABORTED, alert_sent=True),
    b"clogged": Fate(share=1, outcome=ABORTED, alert_sent=False, cancelled=True),
}

CROWDED: Final = 5.0  # seconds
GRACE: Final = 1.5  # seconds
TIMEOUT: Final = 1.4
LINGER: Final = 1.0  # nobody is to need it
REST: Final = 0.3  # of an answer: well within the grace

HALF: Final = b"half an answer, "
WHOLE: Final = HALF + HALF


@contextmanager
def closing(clients: dict[bytes, list[Stream]]) -> Iterator[None]:
    """Close the sockets of all, whatever happened, and wait for nobody."""
    try:
        yield
    finally:
        for client in itertools.chain.from_iterable(clients.values()):
            client.transport_stream.socket.close()


@pytest.mark.parametrize("version", TLS13_FIRST)
@pytest.mark.parametrize("sixth", [10, pytest.param(167, marks=pytest.mark.long)])
async def test_many_connections_are_drained_each_as_it_deserves(
    tls: Maker, sixth: int
) -> None:
    counts = {kind: fate.share * sixth for kind, fate in FATES.items()}
    served: dict[bytes, list[Stream]] = {kind: [] for kind in FATES}

    async def answer(kind: bytes, stream: Stream) -> None:
        match kind:
            case b"busy":
                await stream.send_all(HALF)
                await server.draining.wait()
                await trio.sleep(REST)
                await stream.send_all(HALF)
            case b"deaf":
                await stream.send_all(WHOLE)
            case b"clogged":
                transport = stream.transport_stream
                transport.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**12)
                while True:
                    await stream.send_all(bytes(2**14))
            case _:
                pass  # idle from the beginning

    async def handler(stream: Stream) -> None:
        while True:
            with cancel_on_drain() as scope:
                kind = await stream.receive_some()
            if scope.cancelled_caught:
                return
            served[kind].append(stream)
            await answer(kind, stream)

    context = client_context(tls.version)
    clients: dict[bytes, list[Stream]] = {kind: [] for kind in FATES}
    asking = iter([kind for kind in FATES for _ in range(counts[kind])])

    async def ask() -> None:
        for kind in asking:
            transport = await trio.open_tcp_stream(HOST, port_of(server))
            client = TLSStream(transport, context, server_hostname=NAME)
            clients[kind].append(client)
            await client.send_all(kind)

    async def listen(client: Stream, answer: bytes) -> None:
        assert b"".join([chunk async for chunk in client]) == answer
        assert (await client.shutdown()).outcome is COMPLETE

    policy = ShutdownPolicy(timeout=TIMEOUT, linger_timeout=LINGER)
    async with serving(tls.version, handler, policy) as (nursery, server):
        with closing(clients):
            async with trio.open_nursery() as asks:
                for _ in range(AT_ONCE):
                    asks.start_soon(ask)
            await until(
                lambda: all(len(served[kind]) == counts[kind] for kind in FATES)
            )
            assert len(server.connections) == 6 * sixth
            async with trio.open_nursery() as listening:
                for client in clients[b"idle"]:
                    listening.start_soon(listen, client, b"")
                for client in clients[b"busy"]:
                    listening.start_soon(listen, client, WHOLE)
                report = await server.drain(grace=GRACE)

            expected: Counter[ShutdownOutcome] = Counter()
            for kind, fate in FATES.items():
                expected[fate.outcome] += counts[kind]
            assert report.tally == server.tally == nursery.tally == expected
            assert report.handlers_cancelled == sum(
                counts[kind] for kind, fate in FATES.items() if fate.cancelled
            )
            # Beside other programs, what a thousand endings cost takes a while more.
            assert GRACE <= report.elapsed <= GRACE + TIMEOUT + LINGER + CROWDED
            for kind, fate in FATES.items():
                facts = {
                    (stream.report.outcome, stream.report.close_notify_sent)
                    for stream in served[kind]
                }
                assert facts == {(fate.outcome, fate.alert_sent)}, kind
                secure = {stream.report.secure for stream in served[kind]}
                assert secure == {fate.alert_sent}, kind

            # Whoever reads only now finds all of it, or sees that it is not all.
            for client in clients[b"deaf"]:
                await listen(client, WHOLE)
            for client in clients[b"clogged"]:
                assert await what_it_sees(client) in ("truncated", "reset")


# Among rogues:

GOOD: Final = "(a good client)"
GREETING: Final = b"220 welcome"

# How a connection counts, and what on_error is told, while a server echoes; those
# that wait for a close_notify get it from a drain.
ENDINGS: Final[dict[str, tuple[ShutdownOutcome, type[Exception] | None]]] = {
    GOOD: (COMPLETE, None),
    "cut_in_handshake": (FAILED, TruncatedError),
    "stall_in_handshake": (FAILED, HandshakeTimeoutError),
    "cut_before_close_notify": (TRUNCATED, TruncatedError),
    "cut_after_close_notify": (TRUNCATED, None),
    "cut_inside_record": (TRUNCATED, TruncatedError),
    "reset_before_close_notify": (RESET, TransportBrokenError),
    "reset_after_close_notify": (RESET, None),
    "never_answer": (ABORTED, None),
    "answer_late": (COMPLETE, None),
    "slow_drip": (COMPLETE, None),
    "keep_sending_after_close_notify": (COMPLETE, None),
    "flood": (COMPLETE, None),
    "close_without_waiting": (COMPLETE, None),
    "second_close_notify": (COMPLETE, None),
    "data_after_close_notify": (COMPLETE, None),
    "cleartext_after_close_notify": (COMPLETE, None),
    "garbage_after_close_notify": (COMPLETE, None),
    "fatal_alert": (FAILED, TLSFailedError),
    "bad_record": (FAILED, TLSFailedError),
    "fatal_close_notify": (COMPLETE, None),  # but see below
    "user_canceled_first": (COMPLETE, None),
}

ENDINGS_TLS12: Final = {**ENDINGS, "fatal_close_notify": (FAILED, TLSFailedError)}

# Who waits for the server to end it:
WAITING: Final = {
    "cut_after_close_notify",
    "reset_after_close_notify",
    "never_answer",
    "answer_late",
    "keep_sending_after_close_notify",
}


async def echo_until_drained(stream: Stream) -> None:
    while True:
        with cancel_on_drain() as scope:
            chunk = await stream.receive_some()
        if scope.cancelled_caught or not chunk:
            return
        await stream.send_all(chunk)


def test_the_table_has_a_row_for_every_rogue() -> None:
    assert set(ENDINGS) == {GOOD, *BEHAVIOURS}
    assert set(BEHAVIOURS) > WAITING


@pytest.mark.parametrize("version", TLS13_FIRST)
@pytest.mark.parametrize(
    "each", [len(BEHAVIOURS), pytest.param(200, marks=pytest.mark.long)]
)
async def test_good_clients_are_served_to_the_last_byte_among_rogues(
    tls: Maker,
    each: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """So many of each."""
    monkeypatch.setattr(_behaviours, "LATE", 0.1)
    monkeypatch.setattr(_behaviours, "DRIP", 0.01)
    # Its echo fits into the kernels. Of all 16 MiB: see below.
    monkeypatch.setattr(_behaviours, "FLOOD", 2**18)

    served: dict[str, Stream] = {}  # by the address of the client

    async def handler(stream: Stream) -> None:
        host, _ = stream.transport_stream.socket.getpeername()
        served[host] = stream
        await stream.send_all(GREETING)
        await echo_until_drained(stream)

    names: dict[str, str] = {}  # likewise
    context = client_context(tls.version)

    async def connect(name: str) -> trio.SocketStream:
        # An address of its own, for the kernel gives a port to somebody else as soon
        # as its connection was reset.
        host = f"127.1.{len(names) // 256}.{len(names) % 256}"
        names[host] = name
        return await trio.open_tcp_stream(HOST, port_of(server), local_address=host)

    async def be_good(number: int) -> None:
        transport = await connect(GOOD)
        request = number.to_bytes(2) * 2**12
        answer = bytearray()
        async with TLSStream(transport, context, server_hostname=NAME) as client:
            await client.send_all(request)
            while len(answer) < len(GREETING) + len(request):
                answer += await client.receive_some()
            assert (await client.shutdown()).outcome is COMPLETE
            assert await client.receive_some() == b""
        assert answer == GREETING + request

    rogues = sorted(
        itertools.islice(itertools.cycle(BEHAVIOURS), each),
        key="stall_in_handshake".__ne__,  # first those that take longest
    )
    pairs = iter(list(enumerate(rogues)))

    async def come(among: trio.Nursery) -> None:
        for number, name in pairs:
            rogue = RoguePeer(
                name,
                await connect(name),
                server_side=False,
                hears=len(GREETING),
                version=tls.version,
                ca=CA,
            )
            among.start_soon(rogue.run)
            await be_good(number)

    errors: list[tuple[Exception, Stream]] = []
    policy = ShutdownPolicy(timeout=1, linger_timeout=0.5)
    async with serving(
        tls.version,
        handler,
        policy,
        handshake_timeout=2,
        on_error=lambda *what: errors.append(what),
    ) as (nursery, server):
        async with trio.open_nursery() as among:
            for _ in range(AT_ONCE):
                among.start_soon(come, among)
            await until(lambda: len(names) == 2 * each)
            count = Counter(names.values())
            waiting = sum(count[name] for name in WAITING)
            await until(lambda: len(server.connections) == waiting)
            report = await server.drain(grace=1)
        assert report.tally.total() == waiting
        assert report.handlers_cancelled == 0
        assert server.tally == nursery.tally

    # Each is logged with its address, and told, in one go.
    told: dict[str, type[Exception]] = {}
    for record, (error, _) in zip(caplog.records, errors, strict=True):
        assert record.levelno == logging.WARNING  # it is no bug of the handler's
        match = re.search(r"([\d.]+):\d+", record.getMessage())
        assert match is not None
        told[match[1]] = type(error)
    seen = {
        (
            name,
            served[host].report.outcome if host in served else FAILED,
            told.get(host),
        )
        for host, name in names.items()
    }
    expected = ENDINGS if tls.version == "TLSv1.3" else ENDINGS_TLS12
    assert seen == {(name, *ending) for name, ending in expected.items()}
    assert len(told) == len(errors)
    tally: Counter[ShutdownOutcome] = Counter()
    for name, number in count.items():
        tally[expected[name][0]] += number
    assert server.tally == tally
    assert server.tally.total() == 2 * each


@pytest.mark.parametrize("version", TLS13_FIRST)
async def test_a_flood_clogs_a_server_that_echoes_until_it_drains(tls: Maker) -> None:
    """Each waits until the other reads. Only the grace of a drain ends that."""
    served: list[Stream] = []

    async def handler(stream: Stream) -> None:
        served.append(stream)
        await echo_until_drained(stream)

    errors: list[Exception] = []
    async with serving(
        tls.version, handler, on_error=lambda error, _: errors.append(error)
    ) as (_, server):
        async with trio.open_nursery() as nursery:
            rogue = await rogue_of(port_of(server), nursery, "flood", tls.version)
            await until(lambda: served)
            await trio.testing.wait_all_tasks_blocked(0.1)
            report = await server.drain(grace=0.1)
        assert report.tally == {ABORTED: 1}
        assert report.handlers_cancelled == 1
        assert report.elapsed >= 0.1
    assert not served[0].report.close_notify_sent
    assert not rogue.close_notify_sent
    assert rogue.received == b""
    assert errors == []
