"""Networks that are not loopback: two network namespaces and a cable between them.

It takes root. What `tc netem` does is tried where the kernel has it.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import attrs
import pytest
import trio

from tests.support import Maker, shake_hands
from trio_tlsdown import ShutdownOutcome, ShutdownPolicy, TLSStream

T = TypeVar("T")
Pair: TypeAlias = tuple[TLSStream[Any], TLSStream[Any]]

CLONE_NEWNET: Final = 0x40000000
NAMESPACES: Final = Path("/run/netns")
ADDRESSES: Final = ("10.77.77.1", "10.77.77.2")
DATA: Final = bytes(range(256)) * 2000

ROOT: Final = (
    os.name == "posix" and os.geteuid() == 0 and shutil.which("ip") is not None
)
pytestmark = pytest.mark.skipif(not ROOT, reason="network namespaces take root and ip")

numbers = itertools.count()


def netem(namespace: str, device: str) -> str:
    return f"ip netns exec {namespace} tc qdisc add dev {device} root netem"


def has_netem() -> bool:
    """Whether the kernel can make a bad cable; not every one has it."""
    if not ROOT:  # pragma: no cover - as the user is
        return False
    name = f"tlsdown{os.getpid()}-try"
    commands = f"ip netns add {name}", f"{netem(name, 'lo')} delay 1ms"
    made = [
        subprocess.run(command.split(), check=False, capture_output=True).returncode  # noqa: S603
        for command in commands
        if shutil.which("tc") is not None
    ]
    subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)  # noqa: S603, S607
    return made == [0, 0]


DISTURBANCES: Final = (
    ["delay 50ms", "delay 5ms loss 3%", "delay 20ms reorder 25%"] if has_netem() else []
)


def run(*command: str) -> None:
    """Run *command*; a system that cannot do that skips the test."""
    process = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    if process.returncode:  # pragma: no cover - as the system is
        pytest.skip(f"a network to test with: {process.stderr.strip()}")


def ip(*arguments: str) -> None:
    run("ip", *arguments)


@attrs.frozen
class Network:
    """Two namespaces, each with one end of a cable."""

    names: tuple[str, str]

    @classmethod
    def create(cls) -> Network:
        mark = f"tlsdown{os.getpid()}-{next(numbers)}"
        network = cls((f"{mark}a", f"{mark}b"))
        one, other = network.names
        for name in network.names:
            ip("netns", "add", name)
        link = f"-n {one} link add cable type veth peer name cable netns {other}"
        ip(*link.split())
        for name, address in zip(network.names, ADDRESSES, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")
        return network

    def remove(self) -> None:
        for name in self.names:
            ip("netns", "delete", name)

    def set(self, *what: str) -> None:
        """At both ends of the cable."""
        for name in self.names:
            ip("-n", name, "link", "set", "cable", *what)

    def disturb(self, what: str) -> None:  # pragma: no cover - as the kernel is
        """Have the cable delay, lose or reorder packets."""
        for name in self.names:
            run(*f"{netem(name, 'cable')} {what}".split())

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
def network() -> Iterator[Network]:
    network = Network.create()
    yield network
    network.remove()


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


@pytest.mark.parametrize("trouble", ["mtu 576", *DISTURBANCES])
async def test_a_bad_cable_costs_no_byte(
    tls: Maker, network: Network, trouble: str
) -> None:
    if trouble in DISTURBANCES:  # pragma: no cover - not every kernel has netem
        network.disturb(trouble)
    else:
        network.set(*trouble.split())
    await all_arrives(await network.pair(tls, ShutdownPolicy(linger_timeout=10)))


@pytest.mark.parametrize("end", ["shutdown", "aclose", "unwrap"])
@pytest.mark.parametrize("unsent", [0, 10_000])
async def test_a_cable_that_is_pulled_holds_no_ending_beyond_its_bounds(
    tls: Maker, network: Network, end: str, unsent: int
) -> None:
    policy = ShutdownPolicy(timeout=0.4, linger_timeout=0.2)
    one, other = await network.pair(tls, policy)
    network.set("down")
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
    network.set("down")
    await trio.aclose_forcefully(other)  # its RST is lost
    network.set("up")
    await one.send_all(b"are you there?")
    with pytest.raises(trio.BrokenResourceError), trio.fail_after(20):
        await one.receive_some()
    assert one.report.outcome is ShutdownOutcome.RESET
    await one.aclose()
