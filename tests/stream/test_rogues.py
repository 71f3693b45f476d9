"""How each operation ends with each peer that misbehaves, and when cancelled.

`ENDINGS` was written from the RFCs (RFC 9846 section 6.1, RFC 5246 section 7.2) and
from what each outcome means; the tests compare with it.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cache
from itertools import product
from typing import Any, Final, Literal

import pytest
import trio
import trio.testing

from tests.support import CA, TLS13_FIRST, VERSIONS, client_context, server_context
from trio_tlsdown import ShutdownOutcome, ShutdownPolicy, TLSStream
from trio_tlsdown.testing import (
    BEHAVIOURS,
    Cancellation,
    TLSPair,
    cancel_everywhere,
    connect_rogue,
    memory_tls_pair,
    tcp_tls_pair,
)

PATIENCE: Final = 60  # seconds, on a clock that jumps: it would wait for ever

Operation = Callable[[TLSStream[Any]], Awaitable[object]]


async def receive(stream: TLSStream[Any]) -> None:
    """To the end."""
    async for _ in stream:
        pass


async def shutdown_beside_a_reader(stream: TLSStream[Any]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_read_quietly, stream)
        await trio.testing.wait_all_tasks_blocked()
        await stream.shutdown()
        nursery.cancel_scope.cancel()


async def _read_quietly(stream: TLSStream[Any]) -> None:
    with suppress(trio.BrokenResourceError):
        await receive(stream)


async def unwrap(stream: TLSStream[Any]) -> None:
    transport, _ = await stream.unwrap()
    await trio.aclose_forcefully(transport)


OPERATIONS: Final[dict[str, Operation]] = {
    "handshake": lambda stream: stream.do_handshake(),
    "send": lambda stream: stream.send_all(b"more"),
    "receive": receive,
    "send_eof": lambda stream: stream.send_eof(allow_tls12=True),
    "shutdown": lambda stream: stream.shutdown(),
    "shutdown beside a reader": shutdown_beside_a_reader,
    "unwrap": unwrap,
    "aclose": lambda stream: stream.aclose(),
}

# The outcome after each of OPERATIONS, in that order. The peer has heard a byte
# and misbehaved before all of them but the handshake. `-` stands for OPEN: nothing
# of ours has ended, whatever the peer did. A peer's end that was not read changes
# nothing, so sending succeeds, and send_eof and aclose leave SENT.
ENDINGS: Final = """
                                 hands send recv eof  down +rdr unwr close
(a good peer)                    -     -    -    S    C    C    C    S
cut_in_handshake                 T     T    T    T    T    T    T    T
stall_in_handshake               A     A    A    A    A    A    A    A
cut_before_close_notify          -     -    T    S    T    T    T    S
cut_after_close_notify           -     -    -    S    T    T    T    S
cut_inside_record                -     -    T    S    T    T    T    S
reset_before_close_notify        -     R    R    R    R    R    R    R
reset_after_close_notify         -     -    -    S    R    R    R    S
never_answer                     -     -    -    S    A    A    A    S
answer_late                      -     -    -    S    C    C    C    S
slow_drip                        -     -    -    S    C    C    C    S
keep_sending_after_close_notify  -     -    -    S    C    C    C    S
flood                            -     -    -    S    A    C    A    S
close_without_waiting tcp        -     -    -    S    C    C    C    S
close_without_waiting memory     -     R    -    R    R    R    R    R
second_close_notify              -     -    -    S    C    C    C    S
data_after_close_notify          -     -    -    S    C    C    C    S
cleartext_after_close_notify     -     -    -    S    C    C    C    S
garbage_after_close_notify       -     -    -    S    C    C    C    S
fatal_alert                      -     -    F    S    F    F    F    S
bad_record                       -     -    F    S    F    F    F    S
fatal_close_notify TLSv1.3       -     -    -    S    C    C    C    S
fatal_close_notify TLSv1.2       -     -    F    S    F    F    F    S
user_canceled_first              -     -    -    S    C    C    C    S
"""

GOOD: Final = "(a good peer)"

LETTERS: Final = {
    "-": ShutdownOutcome.OPEN,
    "C": ShutdownOutcome.COMPLETE,
    "S": ShutdownOutcome.SENT,
    "A": ShutdownOutcome.ABORTED,
    "T": ShutdownOutcome.TRUNCATED,
    "R": ShutdownOutcome.RESET,
    "F": ShutdownOutcome.FAILED,
}


def _rows() -> dict[frozenset[str], dict[str, ShutdownOutcome]]:
    lines = [
        line.replace(GOOD, "good").split() for line in ENDINGS.strip().splitlines()[1:]
    ]
    width = len(OPERATIONS)
    return {
        frozenset(words[:-width]): dict(
            zip(OPERATIONS, map(LETTERS.__getitem__, words[-width:]), strict=True)
        )
        for words in lines
    }


ROWS: Final = _rows()


def ending(behaviour: str, operation: str, *about: str) -> ShutdownOutcome:
    [row] = [
        row
        for words, row in ROWS.items()
        if behaviour in words and words <= {behaviour, *about}
    ]
    return row[operation]


def test_every_behaviour_has_its_row() -> None:
    words = {word for words in ROWS for word in words}
    assert words - {"good", "memory", "tcp", *VERSIONS} == set(BEHAVIOURS)


# More than `keep_sending_after_close_notify` sends, and less than a flood.
POLICY: Final = ShutdownPolicy(max_unread=2**18)


@pytest.fixture(autouse=True)
def less_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_tlsdown.testing._behaviours.FLOOD", 2**20)
    monkeypatch.setattr("trio_tlsdown.testing._behaviours.DROP", 8)


@cache
def our_context(version: str, *, server_side: bool) -> ssl.SSLContext:
    """To make one takes as long as to shake hands."""
    return (server_context if server_side else client_context)(version)


async def _play(
    behaviour: str,
    operation: str,
    version: str,
    *,
    rogue_is_server: bool,
    transport: Literal["memory", "tcp"],
    cancellation: Cancellation | None = None,
) -> ShutdownOutcome:
    async with trio.open_nursery() as nursery:
        connection = await connect_rogue(
            nursery,
            behaviour,
            server_side=rogue_is_server,
            transport=transport,
            version=version,
            hears=1,
            policy=POLICY,
            context=our_context(version, server_side=not rogue_is_server),
            ca=CA,
        )
        async with connection as stream:
            if not (BEHAVIOURS[behaviour].in_handshake or operation == "handshake"):
                await stream.send_all(b"x")
                await trio.testing.wait_all_tasks_blocked()
            with suppress(trio.BrokenResourceError):
                with cancellation or trio.CancelScope():
                    with trio.move_on_after(PATIENCE):
                        await OPERATIONS[operation](stream)
            outcome = stream.report.outcome
            await trio.aclose_forcefully(stream)
    return outcome


@pytest.mark.parametrize("transport", ["memory", "tcp"])
@pytest.mark.parametrize("rogue_is_server", [False, True])
@pytest.mark.parametrize(("behaviour", "operation"), [*product(BEHAVIOURS, OPERATIONS)])
@pytest.mark.parametrize("version", VERSIONS)
async def test_each_operation_ends_as_the_table_says(
    behaviour: str,
    operation: str,
    version: str,
    transport: Literal["memory", "tcp"],
    autojump_clock: trio.testing.MockClock,
    *,
    rogue_is_server: bool,
) -> None:
    outcome = await _play(
        behaviour,
        operation,
        version,
        rogue_is_server=rogue_is_server,
        transport=transport,
    )
    assert outcome is ending(behaviour, operation, version, transport)


def check_cancelled(
    operation: str, by_itself: ShutdownOutcome, outcome: ShutdownOutcome
) -> None:
    """A cancelled operation has not ended, or it has ended as it would have."""
    so_far = {by_itself, ShutdownOutcome.OPEN, ShutdownOutcome.ABORTED}
    if operation not in {"handshake", "send", "receive"}:
        so_far.add(ShutdownOutcome.SENT)
    assert outcome in so_far


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("version", TLS13_FIRST)
async def test_wherever_it_is_cancelled_no_operation_ends_better_or_worse(
    behaviour: str,
    operation: str,
    version: str,
    autojump_clock: trio.testing.MockClock,
) -> None:
    by_itself = ending(behaviour, operation, version, "memory")

    async def scenario(cancellation: Cancellation) -> None:
        outcome = await _play(
            behaviour,
            operation,
            version,
            rogue_is_server=version == "TLSv1.3",
            transport="memory",
            cancellation=cancellation,
        )
        if cancellation.cancelled:
            check_cancelled(operation, by_itself, outcome)
        else:
            assert outcome is by_itself

    await cancel_everywhere(scenario)


@pytest.mark.parametrize("we_are_server", [False, True])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("transport", ["memory", "tcp"])
@pytest.mark.parametrize("version", VERSIONS)
async def test_wherever_it_is_cancelled_a_good_peer_and_we_agree_how_it_ended(
    operation: str,
    version: str,
    transport: str,
    autojump_clock: trio.testing.MockClock,
    *,
    we_are_server: bool,
) -> None:
    """What `cancel_everywhere` checks by itself, too."""
    by_itself = ending("good", operation)

    async def scenario(cancellation: Cancellation) -> None:
        shaken = operation != "handshake"
        if transport == "memory":
            pair: TLSPair[Any] = await memory_tls_pair(
                version=version, handshake=shaken
            )
        else:
            pair = await tcp_tls_pair(version=version, handshake=shaken)
        ours, theirs = reversed(pair) if we_are_server else pair
        async with trio.open_nursery() as nursery:
            nursery.start_soon(be_good, theirs)
            with cancellation, trio.move_on_after(PATIENCE):
                await OPERATIONS[operation](ours)
            outcome = ours.report.outcome
            nursery.cancel_scope.cancel()
        if cancellation.cancelled:
            check_cancelled(operation, by_itself, outcome)
        else:
            assert outcome is by_itself

    await cancel_everywhere(scenario)


async def be_good(stream: TLSStream[Any]) -> None:
    """Hear the other out, and answer its goodbye."""
    with suppress(trio.BrokenResourceError):
        await receive(stream)
        await stream.shutdown(wait=False)
