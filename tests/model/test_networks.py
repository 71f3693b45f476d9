"""Networks that are not loopback: two network namespaces and a cable between them.

It takes root.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeAlias, TypeVar

import attrs
import pytest
import trio

from tests.namespaces import MAY_MAKE, NAMESPACES, ip, namespace
from tests.support import Maker, shake_hands
from trio_tlsdown import ShutdownOutcome, ShutdownPolicy, TLSStream

from .link import TUN, Link, Trouble, tun

T = TypeVar("T")
Pair: TypeAlias = tuple[TLSStream[Any], TLSStream[Any]]

CLONE_NEWNET: Final = 0x40000000
ADDRESSES: Final = ("10.77.77.1", "10.77.77.2")
DATA: Final = bytes(range(256)) * 1000
SOME: Final = DATA[:30_000]
SEED: Final = 7
CLOSES: Final = int(os.environ.get("TLSDOWN_CLOSES", "2"))
TROUBLES: Final = {
    "delay": Trouble(delay=0.05),
    "loss": Trouble(delay=0.005, loss=0.05),
    "reordering": Trouble(delay=0.02, reordering=0.25),
    "doubling": Trouble(delay=0.005, doubling=0.25),
}
PULLED: Final = Trouble(loss=1)

pytestmark = pytest.mark.skipif(
    not (MAY_MAKE and os.path.exists(TUN)),
    reason=f"network namespaces take root, ip and {TUN}",
)


@attrs.define
class Network:
    """Two namespaces, each with one end of a cable."""

    names: tuple[str, str]
    link: Link = attrs.field(init=False)

    @classmethod
    @contextmanager
    def open(cls, mtu: int) -> Iterator[Network]:
        with namespace() as one, namespace() as other:
            network = cls((one, other))
            network._connect(mtu)
            yield network
            network.link.close()

    def _connect(self, mtu: int) -> None:
        devices = [self.inside(place, lambda: tun("cable")) for place in (0, 1)]
        self.link = Link((devices[0], devices[1]), SEED)
        for name, ours, theirs in zip(
            self.names, ADDRESSES, reversed(ADDRESSES), strict=True
        ):
            ip("-n", name, "address", "add", ours, "peer", theirs, "dev", "cable")
            ip("-n", name, "link", "set", "cable", "mtu", str(mtu), "up")

    def inside(self, place: int, call: Callable[[], T]) -> T:
        """Call in a thread that has moved there: its sockets stay there."""
        found: list[T] = []

        def move_and_call() -> None:
            with (NAMESPACES / self.names[place]).open() as namespace:
                libc = ctypes.CDLL(None, use_errno=True)
                assert not libc.setns(namespace.fileno(), CLONE_NEWNET)
            found.append(call())

        thread = threading.Thread(target=move_and_call)
        thread.start()
        thread.join()
        return found[0]

    async def pair(self, tls: Maker, policy: ShutdownPolicy) -> Pair:
        """A client at one end, a server at the other."""

        def listen() -> socket.socket:
            return socket.create_server((ADDRESSES[1], 0))

        with self.inside(1, listen) as listener:
            address = listener.getsockname()
            client = self.inside(0, lambda: socket.create_connection(address, 10))
            server, _ = listener.accept()
        transports = []
        for sock in (client, server):
            sock.settimeout(0)
            transports.append(trio.SocketStream(trio.socket.from_stdlib_socket(sock)))
        options = {"policy": policy}
        one, other = tls.wrap(
            (transports[0], transports[1]), client=options, server=options
        )
        await shake_hands(one, other)
        return one, other


@pytest.fixture
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    with Network.open(mtu=getattr(request, "param", 1500)) as network:
        yield network


async def all_arrives(pair: Pair) -> None:
    """Both send; one closes at once; the other still gets all, and a clean end."""
    one, other = pair
    received = bytearray()

    async def receive() -> None:
        async for chunk in other:
            received.extend(chunk)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await other.send_all(b"nobody reads this")
            await one.send_all(DATA)
            await one.aclose()
    assert received == DATA
    assert other.report.close_notify_received
    assert one.report.secure
    await other.aclose()


@pytest.mark.parametrize("network", [576], indirect=True)
async def test_a_small_mtu_costs_no_byte(tls: Maker, network: Network) -> None:
    await all_arrives(await network.pair(tls, ShutdownPolicy(linger_timeout=10)))


bad_cables = pytest.mark.parametrize("trouble", TROUBLES.values(), ids=list(TROUBLES))


@pytest.mark.long
@bad_cables
async def test_a_bad_cable_costs_no_byte(
    tls: Maker, network: Network, trouble: Trouble
) -> None:
    network.link.trouble = trouble
    await all_arrives(await network.pair(tls, ShutdownPolicy(linger_timeout=10)))


@pytest.mark.long
@bad_cables
async def test_over_a_bad_cable_both_alerts_cross(
    tls13: Maker, network: Network, trouble: Trouble
) -> None:
    one, other = await network.pair(tls13, ShutdownPolicy(timeout=10))
    network.link.trouble = trouble
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.shutdown)
        nursery.start_soon(other.shutdown)
    for stream in (one, other):
        assert stream.report.outcome is ShutdownOutcome.COMPLETE
        assert stream.report.elapsed >= trouble.delay
        await stream.aclose()


@pytest.mark.long
@bad_cables
@pytest.mark.parametrize("end", ["shutdown", "aclose"])
async def test_a_bad_cable_holds_no_ending_beyond_its_bounds(
    tls13: Maker, network: Network, trouble: Trouble, end: str
) -> None:
    """The peer takes nothing and answers nothing."""
    policy = ShutdownPolicy(timeout=0.4, linger_timeout=0.2)
    one, other = await network.pair(tls13, policy)
    network.link.trouble = trouble
    before = trio.current_time()
    with trio.move_on_after(0.2):
        await one.send_all(bytes(10_000_000))
    await getattr(one, end)()
    await one.aclose()
    assert trio.current_time() - before < 2
    assert one.report.outcome is ShutdownOutcome.ABORTED
    assert not one.report.secure
    await trio.aclose_forcefully(other)


@pytest.mark.long
@pytest.mark.parametrize("loss", [0.1, 0.3, 1])
async def test_over_a_cable_that_loses_much_an_end_is_clean_only_if_all_arrived(
    tls13: Maker, network: Network, loss: float
) -> None:
    """The peer sends meanwhile, so the kernel ends it by RST when lingering is over."""
    policy = ShutdownPolicy()
    bad = Trouble(delay=0.01, loss=loss)

    async def received_of_a_close() -> bytes:
        network.link.trouble = Trouble()
        one, other = await network.pair(tls13, policy)
        network.link.trouble = bad
        received = bytearray()
        async with other, trio.open_nursery() as nursery:
            nursery.start_soon(receive, other, received)
            await other.send_all(b"nobody reads this")
            await one.send_all(SOME)
            before = trio.current_time()
            await one.aclose()
            assert trio.current_time() - before < policy.linger_timeout + 1
            network.link.trouble = Trouble()
        assert received == SOME or not other.report.close_notify_received
        return bytes(received)

    async def receive(stream: TLSStream[Any], received: bytearray) -> None:
        with suppress(trio.BrokenResourceError):
            async for chunk in stream:
                received.extend(chunk)

    got = [await received_of_a_close() for _ in range(CLOSES)]
    assert all(map(SOME.startswith, got))
    print(f"loss {loss:.0%}: of {CLOSES} closes, {got.count(SOME)} lost nothing")  # noqa: T201


@pytest.mark.parametrize("end", ["shutdown", "aclose", "unwrap"])
@pytest.mark.parametrize("unsent", [0, 10_000])
async def test_a_cable_that_is_pulled_holds_no_ending_beyond_its_bounds(
    tls: Maker, network: Network, end: str, unsent: int
) -> None:
    policy = ShutdownPolicy(timeout=0.4, linger_timeout=0.2)
    one, other = await network.pair(tls, policy)
    network.link.trouble = PULLED
    before = trio.current_time()
    if unsent:
        await one.send_all(bytes(unsent))
    if end == "shutdown":
        report = await one.shutdown()
        # What was handed to the kernel was sent, as far as anybody can know.
        assert report.outcome is ShutdownOutcome.ABORTED
        assert not report.close_notify_received
    elif end == "unwrap":
        with pytest.raises(trio.BrokenResourceError):
            await one.unwrap()
    await one.aclose()
    assert trio.current_time() - before < 2
    assert not one.report.peer_data_complete
    await trio.aclose_forcefully(other)


async def test_a_peer_whose_kernel_vanished_holds_nobody(
    tls: Maker, network: Network
) -> None:
    """The peer's machine has started anew: it knows of no connection, and says RST."""
    policy = ShutdownPolicy(timeout=0.4, linger_timeout=0.2)
    one, other = await network.pair(tls, policy)
    network.link.trouble = PULLED
    await trio.aclose_forcefully(other)  # its RST is lost
    await trio.sleep(0.1)  # until the cable has had it
    network.link.trouble = Trouble()
    await one.send_all(b"are you there?")
    with pytest.raises(trio.BrokenResourceError), trio.fail_after(20):
        await one.receive_some()
    assert one.report.outcome is ShutdownOutcome.RESET
    await one.aclose()
