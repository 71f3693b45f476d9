"""The four scenarios, with Boost.Asio as each of the parties.

A shuts down, B is the other. Each is played by Boost.Asio with itself, by Boost.Asio
as A with us as B, and the other way round.
"""

from __future__ import annotations

import re
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, suppress
from itertools import product
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

import attrs
import trio

from tests import support
from tests.support import VERSIONS
from trio_tlsdown import ShutdownReport, TransportBrokenError

from .lab import Lab, open_lab
from .peer import ROLES, Key, Role
from .playing import LIMIT, Player
from .situations import HELLO, Ours

PATIENCE: Final = 60  # seconds for all of them; it takes a few

# Less than we keep without a reader (`ShutdownPolicy.max_unread`), and more than one
# record: when A shuts down, most of it is still on its way.
B_SENDS: Final = 2**19
# More than a kernel keeps for a reader that does not read, less than for one that does.
A_SENDS: Final = 2**20


class Code(NamedTuple):
    """An error code of Boost's."""

    operation: str
    category: str
    value: str
    message: str

    @property
    def words(self) -> str:
        return f"{self.category} {self.value} {self.message}"

    @property
    def brief(self) -> str:
        """The part that does not depend on versions, unlike OpenSSL's numbers and libc's
        wording."""
        what = self.message if self.category == "asio.ssl" else self.value
        return f"{self.operation}: {self.category} {what}"


CODE: Final = re.compile(r"(\w+): (\S+) (-?\d+) ([^;]+)")


def codes(answer: str) -> list[Code]:
    """The codes in a line of the lab.

    Since 1.76 Boost adds OpenSSL's name of the library to its reason.
    """
    found = [Code(*match) for match in CODE.findall(answer)]
    return [
        code._replace(message=re.sub(r" \(SSL routines.*\)$", "", code.message))
        for code in found
    ]


@attrs.define(eq=False)
class Theirs:
    """Boost.Asio as a party."""

    lab: Lab
    said: list[Code] = attrs.field(factory=list)
    read: int = 0
    """Bytes, besides the greeting."""

    async def sends(self, size: int) -> None:
        await self.lab.sends(size)

    async def receives(self, size: int) -> None:
        await self.lab.receives(size)

    async def reads_to_the_end(self) -> None:
        answer = await self._does("receive")
        self.read += int(answer.split()[2])

    async def starts_to_send(self, nursery: trio.Nursery, size: int) -> None:
        # Its kernel takes all of it.
        await self.sends(size)

    async def awaits_input(self) -> None:
        await self._does("await-input")

    async def shuts_down(self) -> None:
        await self._does("shutdown")

    async def shuts_down_while_reading(self) -> None:
        await self._does("shutdown reading")

    async def closes_without_waiting(self) -> None:
        await self._does("close")

    async def closes_the_transport(self) -> None:
        await self._does("close-transport")

    async def _does(self, command: str) -> str:
        [answer] = await self.lab.does(command)
        self.said += codes(answer)
        return answer


@attrs.define(eq=False)
class We(Ours):
    """TLSStream as a party."""

    read: int = 0

    async def reads_to_the_end(self) -> int:
        before = self.received
        with suppress(TransportBrokenError):  # the report tells
            await super().reads_to_the_end()
        self.read += self.received - before
        return self.read

    async def starts_to_send(self, nursery: trio.Nursery, size: int) -> None:
        nursery.start_soon(self._sends_if_it_can, size)

    async def _sends_if_it_can(self, size: int) -> None:
        with suppress(TransportBrokenError):  # the report tells
            await self.sends(size)

    async def awaits_input(self) -> None:
        await trio.lowlevel.wait_readable(self.stream.transport_stream.socket)

    async def shuts_down(self) -> None:
        await self.stream.shutdown()

    async def shuts_down_while_reading(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.reads_no_more_than_the_end)
            nursery.start_soon(self.shuts_down)

    async def closes_without_waiting(self) -> None:
        await self.stream.shutdown(wait=False)
        await self.stream.aclose()

    async def closes_the_transport(self) -> None:
        await support.cut(self.stream)


Party: TypeAlias = We | Theirs


async def b_closes_then_a_shuts_down(a: Party, b: Party) -> None:
    await b.closes_the_transport()
    await a.shuts_down()


async def b_reads_and_closes(a: Party, b: Party) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.shuts_down)
        await b.reads_to_the_end()
        await b.closes_the_transport()


async def b_closes_without_reading(a: Party, b: Party) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.shuts_down)
        await b.awaits_input()
        await b.closes_the_transport()


async def both_shut_down(a: Party, b: Party) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.shuts_down)
        await b.reads_to_the_end()
        await b.shuts_down()


async def both_shut_down_and_a_reads(a: Party, b: Party) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.shuts_down_while_reading)
        await b.reads_to_the_end()
        await b.shuts_down()


async def a_does_not_wait(a: Party, b: Party) -> None:
    await a.closes_without_waiting()
    await b.reads_to_the_end()
    await b.shuts_down()


async def a_shuts_down_while_data_come(a: Party, b: Party) -> None:
    async def a_sends_and_shuts_down() -> None:
        await a.awaits_input()
        await a.sends(A_SENDS)
        await a.shuts_down()

    async with trio.open_nursery() as nursery:
        await b.starts_to_send(nursery, B_SENDS)
        if isinstance(a, Theirs):  # it gives up before B has read anything
            await a_sends_and_shuts_down()
            await b.reads_to_the_end()
        else:
            nursery.start_soon(a_sends_and_shuts_down)
            await b.reads_to_the_end()
            await b.shuts_down()
            await a.reads_to_the_end()


# A and B.
Pair: TypeAlias = Literal["Boost, Boost", "Boost, we", "we, Boost"]
PAIRS: Final[Sequence[Pair]] = ("Boost, Boost", "Boost, we", "we, Boost")


@attrs.frozen(kw_only=True, eq=False)
class Variant:
    """How a scenario is played, and how it ends.

    For Boost.Asio that is what its programs are told (`Code.brief`), for us a cell of
    `endings.TABLE`.
    """

    name: str
    """It begins with the scenario's."""

    says: str
    play: Callable[[Party, Party], Awaitable[None]]

    boost_a: str
    boost_b: str = ""
    our_a: str
    our_b: str
    boost_a_with_us: str = attrs.field()
    """If it differs from what it is told with itself."""

    boost_b_with_us: str = attrs.field()

    either: Sequence[Code] = ()
    """A's codes between which a race decides, the usual one first."""

    got: Mapping[Pair, tuple[str, str]] = attrs.field(factory=dict)
    """How much A and B got of each other's data, if any is sent."""

    versions: Sequence[str] = tuple(VERSIONS)
    roles: Sequence[Role] = ROLES
    """A's."""

    greet: bool = True
    """Whether each greets the other first, so that no session tickets lie unread."""

    @boost_a_with_us.default
    def _boost_a(self) -> str:
        return self.boost_a

    @boost_b_with_us.default
    def _boost_b(self) -> str:
        return self.boost_b


# boost/asio/ssl/error.hpp, boost/asio/error.hpp, errno(3).
SUCCESS: Final = "system 0"
BAD_DESCRIPTOR: Final = "system 9"
RESET: Final = "system 104"
CANCELED: Final = "system 125"  # boost::asio::error::operation_aborted
EOF: Final = "asio.misc 2"
TRUNCATED: Final = "asio.ssl.stream 1"

NOT_BEHIND_IT: Final = "write: asio.ssl protocol is shutdown"
ANSWERS: Final = f"read: {EOF}; shutdown: {SUCCESS}"

# io_op in boost/asio/ssl/detail/io.hpp, engine::map_error_code and engine::do_shutdown in
# engine.ipp, shutdown_op in shutdown_op.hpp; SSL_shutdown(3).
VARIANTS: Final = (
    Variant(
        name="1",
        says="B closes the transport, then A shuts down",
        play=b_closes_then_a_shuts_down,
        boost_a=f"shutdown: {TRUNCATED}",
        our_a="1A",
        our_b="1B",
    ),
    Variant(
        name="1, tickets unread",
        says="B has not read its session tickets when it closes: TCP resets",
        play=b_closes_then_a_shuts_down,
        boost_a=f"shutdown: {RESET}",
        # Like trio.SSLStream, we send the tickets with what we send first: here it
        # is the close_notify, and B has gone.
        our_a="1A",
        our_b="1B reset",
        versions=["TLSv1.3"],
        roles=["server"],
        greet=False,
    ),
    Variant(
        name="2",
        says="A shuts down and waits; B reads its close_notify, and closes the transport",
        play=b_reads_and_closes,
        boost_a=f"shutdown: {TRUNCATED}",
        boost_b=f"read: {EOF}",
        our_a="2A",
        our_b="2B",
    ),
    Variant(
        name="2, alert unread",
        says="B has not read it when it closes: TCP resets",
        play=b_closes_without_reading,
        boost_a=f"shutdown: {RESET}",
        our_a="2A reset",
        our_b="2B reset",
    ),
    Variant(
        name="3",
        says="A shuts down and waits; B shuts down too",
        play=both_shut_down,
        boost_a=f"shutdown: {SUCCESS}",
        boost_b=ANSWERS,
        our_a="3A",
        our_b="3B",
    ),
    Variant(
        name="3, a read pending",
        says="A has a read pending when it shuts down",
        play=both_shut_down_and_a_reads,
        boost_a=f"shutdown: {CANCELED}; read: {EOF}",
        # Unless B's answer is there before the handler of its own write has run.
        either=(
            Code("shutdown", "system", "125", "Operation canceled"),
            Code("shutdown", "system", "0", "Success"),
        ),
        boost_b=ANSWERS,
        our_a="3A",
        our_b="3B",
    ),
    Variant(
        name="4",
        says="A sends its close_notify and closes without waiting; B shuts down",
        play=a_does_not_wait,
        boost_a=f"shutdown: {CANCELED}; {NOT_BEHIND_IT}",
        boost_b=ANSWERS,
        our_a="4A",
        our_b="4B",
    ),
    Variant(
        name="4, tickets unread",
        says="A does so straight after the handshake, with its session tickets unread",
        play=a_does_not_wait,
        boost_a=f"shutdown: {BAD_DESCRIPTOR}; {NOT_BEHIND_IT}",
        # We have sent none yet.
        boost_a_with_us=f"shutdown: {CANCELED}; {NOT_BEHIND_IT}",
        boost_b=ANSWERS,
        our_a="4A",
        our_b="4B",
        versions=["TLSv1.3"],
        roles=["client"],
        greet=False,
    ),
    Variant(
        name="data",
        says="A has sent 1 MiB; it shuts down while 512 KiB of B's are on their way",
        play=a_shuts_down_while_data_come,
        boost_a="shutdown: asio.ssl application data after close notify",
        boost_b=f"read: {RESET}",
        boost_b_with_us=ANSWERS,
        our_a="3A",
        our_b="1A reset",
        got={
            "Boost, Boost": ("none", "part"),
            "Boost, we": ("none", "part"),
            "we, Boost": ("all", "all"),
        },
    ),
)


class Played(NamedTuple):
    """One connection."""

    variant: Variant
    version: str
    role: Role
    """A's."""

    pair: Pair

    def __str__(self) -> str:
        return f"{self.variant.name}-{self.version}-{self.role}-{self.pair}"

    @property
    def expected(self) -> tuple[str, str]:
        """What Boost.Asio is told, and our cells."""
        variant = self.variant
        return {
            "Boost, Boost": (variant.boost_a, variant.boost_b),
            "Boost, we": (variant.boost_a_with_us, variant.our_b),
            "we, Boost": (variant.our_a, variant.boost_b_with_us),
        }[self.pair]


ALL: Final = [
    Played(variant, version, role, pair)
    for variant in VARIANTS
    for version, role, pair in product(variant.versions, variant.roles, PAIRS)
]


def usual(told: Sequence[Code], either: Sequence[Code]) -> list[Code]:
    """The same codes, whichever way a race went."""
    briefs = [code.brief for code in either]
    return [either[0] if code.brief in briefs else code for code in told]


@attrs.frozen
class Came:
    """How it ended for a party."""

    told: Sequence[Code]
    """Boost.Asio's program."""

    report: ShutdownReport | None
    """Ours."""

    got: str
    """How much of the other's data."""


def how_much(received: int, sent: int) -> str:
    if not received:
        return "none"
    return "all" if received == sent else "part"


def came_of(party: Party, sent: int) -> Came:
    got = how_much(party.read, sent)
    if isinstance(party, Theirs):
        return Came(party.said, None, got)
    return Came((), party.stream.report, got)


@attrs.define(eq=False)
class Stage:
    """Two labs and a listener of ours."""

    labs: tuple[Lab, Lab]
    listener: trio.SocketListener
    folder: Path

    async def play(self, played: Played) -> tuple[Came, Came]:
        with trio.fail_after(LIMIT):
            async with self._parties(played) as (a, b):
                if played.variant.greet:
                    for one, other in ((a, b), (b, a)):
                        await one.sends(len(HELLO))
                        await other.receives(len(HELLO))
                await played.variant.play(a, b)
        return came_of(a, B_SENDS), came_of(b, A_SENDS)

    @asynccontextmanager
    async def _parties(self, played: Played) -> AsyncIterator[tuple[Party, Party]]:
        if played.pair == "Boost, Boost":
            server, client = self.labs
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.does, "accept")
                await client.does(f"connect {server.port} {played.version}")
            a, b = self.labs if played.role == "server" else self.labs[::-1]
            yield Theirs(a), Theirs(b)
            return
        it_is_a = played.pair == "Boost, we"
        its_role: Role = "client" if (played.role == "client") is it_is_a else "server"
        player = Player(self.labs[0], self.listener, self.folder / "secrets")
        async with player.connection(Key("", played.version, its_role), []) as stream:
            us, it = We(stream), Theirs(self.labs[0])
            yield (it, us) if it_is_a else (us, it)
            await stream.aclose()


@attrs.define
class All:
    """How each connection ended for A and B, or why it did not."""

    boost_version: str = ""
    of: dict[Played, tuple[Came, Came] | Exception] = attrs.field(factory=dict)

    def __getitem__(self, played: Played) -> tuple[Came, Came]:
        came = self.of[played]
        if isinstance(came, Exception):
            raise came
        return came


async def play_all(
    chosen: Iterable[Played], command: Sequence[str], folder: Path
) -> All:
    came = All()
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with (
        listener,
        open_lab(command, folder, PATIENCE) as one,
        open_lab(command, folder, PATIENCE) as other,
    ):
        came.boost_version = one.version
        stage = Stage((one, other), listener, folder)
        for played in chosen:
            try:
                came.of[played] = await stage.play(played)
            except Exception as error:  # noqa: BLE001 (its own test raises it)
                came.of[played] = error
                await one.settles()
                await other.settles()
    return came
