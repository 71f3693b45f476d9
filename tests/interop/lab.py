"""A lab: a program that plays the peer, and obeys commands, a line each.

`README.md` has the commands.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import trio

from harness.process import PATIENCE, Program, running
from tests.support import write_files

from .endings import Saw

SETTLES = 1  # seconds for a lab that is busy when our side has gone

KINDS = {
    "clean": Saw.CLOSE_NOTIFY,
    "cut": Saw.CUT,
    "reset": Saw.RESET,
    "error": Saw.FAILED,
}


@attrs.frozen
class End:
    """How a lab says that receiving ended."""

    saw: Saw
    size: int


@attrs.define(eq=False)
class Lab:
    """A running lab."""

    program: Program

    port: int
    """Where it listens."""

    version: str
    """Its name and version, as it says."""

    said: list[str] = attrs.field(factory=list)
    """All its answers."""

    _owes: int = 0

    async def does(self, *commands: str) -> list[str]:
        """Send it commands, all at once, and return its answers."""
        answers = await self.tries(*commands)
        assert not any(answer.startswith("failed") for answer in answers), answers
        return answers

    async def tries(self, *commands: str) -> list[str]:
        """The same, but allow it to fail."""
        assert not self.program.ended.is_set(), f"gone: {self.program.log.decode()}"
        self._owes += len(commands)
        await self.program.type("".join(f"{line}\n" for line in commands).encode())
        return [await self._answer() for _ in commands]

    async def sends(self, size: int) -> None:
        assert await self.does(f"send {size}") == ["sent"]

    async def receives(self, size: int) -> None:
        assert await self.does(f"receive {size}") == [f"received {size}"]

    async def ends(self) -> End:
        """Have it receive until the end, whichever that is."""
        return end(*await self.does("receive"))

    async def shuts_down(self) -> Saw:
        """Have it send close_notify, wait for ours, and close."""
        return end(*await self.does("shutdown")).saw

    async def closes(self) -> bool:
        """Have it close gracefully; return whether it says that this succeeded."""
        [answer] = await self.tries("close")
        return not answer.startswith("failed")

    async def settles(self) -> None:
        """Wait for the answers that it owes; if they do not come, kill it."""
        with trio.move_on_after(SETTLES):
            while self._owes:
                await self._answer()
            return
        self.program.process.kill()
        await self.program.ended.wait()
        self._owes = 0

    async def _answer(self) -> str:
        answer = await self.program.prints_line()
        self._owes -= 1
        self.said.append(answer)
        return answer


def end(answer: str) -> End:
    word, kind, size, *_ = [*answer.split(), "", ""]
    assert word == "end", answer
    return End(KINDS[kind], int(size))


@asynccontextmanager
async def open_lab(
    command: Sequence[str], folder: Path, patience: float = PATIENCE
) -> AsyncIterator[Lab]:
    """Run a lab. It ends when its standard input does, or is killed.

    Args:
      command: Three arguments are added, names of PEM files: the server's certificate,
        its key, and the CA.
      folder: For these files.
      patience: Seconds that it may run.
    """
    files = write_files(folder)
    names = files.certificate, files.key, files.ca
    async with running(*command, *names, patience=patience) as program:
        word, port, version = (await program.prints_line()).split(maxsplit=2)
        assert word == "listening"
        yield Lab(program, int(port), version)
        await program.type_eof()
        await program.ended.wait()
