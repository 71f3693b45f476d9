"""A lab: a program that plays the peer, and does what it is told line by line.

`README.md` has the lines.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import trio

from harness.process import PATIENCE, Program, running
from tests.support import CA, CERT

from .endings import Saw

SETTLES = 1  # seconds, for a lab in the middle of something when we have gone

KINDS = {
    "clean": Saw.CLOSE_NOTIFY,
    "cut": Saw.CUT,
    "reset": Saw.RESET,
    "error": Saw.FAILED,
}


@attrs.frozen
class End:
    """What a lab says of the end of what it received."""

    saw: Saw
    size: int


@attrs.define(eq=False)
class Lab:
    """A lab that runs."""

    program: Program

    port: int
    """Where it listens."""

    version: str
    """What it says that it is."""

    said: list[str] = attrs.field(factory=list)
    """All its answers."""

    _owes: int = 0

    async def does(self, *commands: str) -> list[str]:
        """Give it commands, all at once, and return its answers."""
        answers = await self.tries(*commands)
        assert not any(answer.startswith("failed") for answer in answers), answers
        return answers

    async def tries(self, *commands: str) -> list[str]:
        """The same, where it may fail."""
        assert not self.program.ended.is_set(), f"gone: {self.program.log.decode()}"
        self._owes += len(commands)
        await self.program.type("".join(f"{line}\n" for line in commands).encode())
        return [await self._answer() for _ in commands]

    async def sends(self, size: int) -> None:
        assert await self.does(f"send {size}") == ["sent"]

    async def receives(self, size: int) -> None:
        assert await self.does(f"receive {size}") == [f"received {size}"]

    async def ends(self) -> End:
        """Let it receive until the end, whichever that is."""
        return end(*await self.does("receive"))

    async def shuts_down(self) -> Saw:
        """Let it send close_notify, wait for ours, and close."""
        return end(*await self.does("shutdown")).saw

    async def closes(self) -> bool:
        """Let it close gracefully; whether it says that this went well."""
        [answer] = await self.tries("close")
        return not answer.startswith("failed")

    async def settles(self) -> None:
        """Let it answer what it has not yet. If it does not, it must go."""
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
    """Start a lab. It ends with its standard input, or else by force.

    Args:
      command: It is given three more arguments, names of PEM files: the server's
        certificate, its key, and the CA.
      folder: For these files.
      patience: How long it may run, in seconds.
    """
    certificate, key, ca = (folder / f"{name}.pem" for name in ("cert", "key", "ca"))
    CERT.cert_chain_pems[0].write_to_path(certificate)
    CERT.private_key_pem.write_to_path(key)
    CA.cert_pem.write_to_path(ca)
    files = [str(file) for file in (certificate, key, ca)]
    async with running(*command, *files, patience=patience) as program:
        word, port, version = (await program.prints_line()).split(maxsplit=2)
        assert word == "listening"
        yield Lab(program, int(port), version)
        await program.type_eof()
        await program.ended.wait()
