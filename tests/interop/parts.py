"""How any program is made to end a connection, and what we do meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from harness.process import Program, stop

from . import we

Part: TypeAlias = Callable[[we.Stream, Program], Awaitable[None]]


async def end_its_input(ours: we.Stream, program: Program) -> None:
    await program.type_eof()
    await we.shut_down_too(ours, program)


async def kill_it(ours: we.Stream, program: Program) -> None:
    program.process.kill()
    await we.shut_down_when_it_is_gone(ours, program)


async def kill_it_inside_a_record(ours: we.Stream, program: Program) -> None:
    """It is sending more than there is room for."""
    await we.wait_until_no_more_comes(ours)
    program.process.kill()
    await we.read_to_a_cut_record(ours)


async def kill_it_before_it_reads(ours: we.Stream, program: Program) -> None:
    stop(program)
    await ours.shutdown(wait=False)
    program.process.kill()
    await ours.shutdown()
