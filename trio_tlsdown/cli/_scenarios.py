"""The four shutdown scenarios, played live over TCP on this machine.

Every step waits for what it needs to have happened, so each scenario goes the
same way each time. B is an ordinary server where it can be: it reads until the
end, then shuts down.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import trio

from trio_tlsdown import ShutdownReport, TraceEvent, TraceKind, TruncatedError

from ._stage import Party, Stage, Version, open_stage

PATIENCE: Final = 10.0  # seconds; a scenario takes a few milliseconds


@attrs.frozen
class Scenario:
    """One of the four, or one of two ways to play it."""

    name: str
    """The number that it has in the original question and its answer, and a
    letter if there are two ways."""

    title: str
    """What the parties do, in one line."""

    play: Callable[[Stage], Awaitable[None]]
    """Does it, on a connection whose handshake is done."""

    @property
    def number(self) -> str:
        """The name without the letter."""
        return self.name[0]


@attrs.frozen(kw_only=True)
class ScenarioRun:
    """One scenario that was played, and what both parties saw."""

    scenario: Scenario
    """Which."""

    version: Version
    """The TLS version."""

    began: float
    """Seconds on Trio's clock, as `events` have them."""

    events: tuple[TraceEvent, ...]
    """What the parties saw, in order."""

    reports: dict[Party, ShutdownReport]
    """How each party's stream ended."""

    ports: dict[Party, int]
    """The TCP port of each party, to find the connection in a capture."""

    surprises: tuple[str, ...]
    """What went otherwise on the way, in words. Empty, if all is well."""


async def run(scenario: str, version: Version) -> ScenarioRun:
    """Play one scenario.

    With the environment variable ``SSLKEYLOGFILE`` set, the client writes the
    session's secrets to that file.

    Args:
      scenario: A key of `SCENARIOS`.
      version: The TLS version of both parties.

    Cancellation:
      The connection is closed.

    Raises:
      KeyError: there is no such scenario.
      CannotPlayError: there is no stage for it on this machine.
      trio.TooSlowError: it did not end within `PATIENCE`.
    """
    chosen = SCENARIOS[scenario]
    with trio.fail_after(PATIENCE):
        async with open_stage(version) as stage:
            await chosen.play(stage)
            return ScenarioRun(
                scenario=chosen,
                version=version,
                began=stage.began,
                events=tuple(stage.record.events),
                reports={"A": stage.a.report, "B": stage.b.report},
                ports=stage.ports,
                surprises=tuple(stage.surprises),
            )


async def _b_closes_then_a_shuts_down(stage: Stage) -> None:
    await trio.aclose_forcefully(stage.b)
    await stage.a.shutdown()
    await stage.a.aclose()


async def _b_closes_then_a_reads_and_shuts_down(stage: Stage) -> None:
    await trio.aclose_forcefully(stage.b)
    with contextlib.suppress(TruncatedError):
        stage.check("what A reads", await stage.a.receive_some(), TruncatedError)
    await stage.a.shutdown()
    await stage.a.aclose()


async def _b_closes_instead_of_answering(stage: Stage) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.a.shutdown)
        # Closing a socket with unread input makes the kernel send RST instead
        # of FIN, and A would see a reset: so B reads.
        await _b_reads_to_the_end(stage)
        await trio.aclose_forcefully(stage.b)
    await stage.a.aclose()


async def _both_shut_down_and_go_on_in_clear_text(stage: Stage) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.a.shutdown)
        await _b_reads_to_the_end(stage)
        await stage.b.shutdown()
    a = await stage.unwrap("A")
    b = await stage.unwrap("B")
    await a.send(b"ping\n")
    stage.check("the line that B received", await b.receive_line(), b"ping\n")
    await b.send(b"pong!\n")
    stage.check("the line that A received", await a.receive_line(), b"pong!\n")
    await a.close()
    stage.check("what B received at the end", await b.receive_line(), b"")
    await b.close()


async def _a_closes_without_waiting(stage: Stage) -> None:
    await stage.a.shutdown(wait=False)
    await stage.a.aclose()
    await _b_reads_to_the_end(stage)
    await stage.b.shutdown()
    await stage.b.aclose()


async def _a_is_cancelled_while_it_waits(stage: Stage) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.a.shutdown)
        # A's alert is with B, which does not answer: A waits.
        await _b_reads_to_the_end(stage)
        nursery.cancel_scope.cancel()
    await stage.a.aclose()
    await stage.b.shutdown()
    await stage.b.aclose()


async def _b_reads_to_the_end(stage: Stage) -> None:
    # What a party sends is traced when the transport has taken it, which can be
    # after the other party has it. So wait, for the sake of the order.
    await stage.record.wait_for("client", TraceKind.CLOSE_NOTIFY_SENT)
    stage.check("what B reads", await stage.b.receive_some(), b"")


SCENARIOS: Final[dict[str, Scenario]] = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "1a",
            "B closes the transport, then A shuts down",
            _b_closes_then_a_shuts_down,
        ),
        Scenario(
            "1b",
            "B closes the transport, A reads, then A shuts down",
            _b_closes_then_a_reads_and_shuts_down,
        ),
        Scenario(
            "2",
            "A shuts down and waits, B closes instead of answering",
            _b_closes_instead_of_answering,
        ),
        Scenario(
            "3",
            "A shuts down and waits, B shuts down too",
            _both_shut_down_and_go_on_in_clear_text,
        ),
        Scenario(
            "4a",
            "A sends close_notify and closes, then B shuts down",
            _a_closes_without_waiting,
        ),
        Scenario(
            "4b",
            "A is cancelled while it waits, closes, then B shuts down",
            _a_is_cancelled_while_it_waits,
        ),
    )
}
