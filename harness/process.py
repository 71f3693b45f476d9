"""Run other programs: start them, read what they print, and leave none running."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from subprocess import PIPE
from typing import Any, Final

import attrs
import trio

PATIENCE: Final = 60  # seconds: far more than anything here needs, on any machine


@attrs.define(eq=False)
class Program:
    """A program that runs, or has run, and what it has printed."""

    process: trio.Process

    output: bytearray = attrs.field(factory=bytearray)
    """Its standard output, but for the lines that were taken."""

    log: bytearray = attrs.field(factory=bytearray)
    """Its standard error."""

    ended: trio.Event = attrs.field(factory=trio.Event)
    _news: trio.Event = attrs.field(factory=trio.Event)

    async def says(self, *patterns: str) -> None:
        """Wait until its standard error matches all *patterns*."""
        assert await self.gets_to_say(*patterns), self.log.decode()

    async def gets_to_say(self, *patterns: str) -> bool:
        """The same, but return False if it ends first."""
        return await self._until(
            lambda: all(re.search(p.encode(), self.log) for p in patterns)
        )

    async def prints(self, size: int) -> None:
        """Wait until its standard output has *size* bytes."""
        assert await self._until(lambda: len(self.output) >= size), self.log.decode()

    async def prints_line(self) -> str:
        """Take the next line of its standard output."""
        line = await self.next_line()
        assert line is not None, self.log.decode()
        return line

    async def next_line(self) -> str | None:
        """The same, but return None if it ends first."""
        if not await self._until(lambda: b"\n" in self.output):
            return None
        size = self.output.index(b"\n")
        line = self.output[:size].decode()
        del self.output[: size + 1]
        return line

    async def _until(self, done: Callable[[], bool]) -> bool:
        while not done():
            if self.ended.is_set():
                return False
            await self._news.wait()
        return True

    async def type(self, keys: bytes) -> None:
        """Write to its standard input."""
        assert self.process.stdin is not None
        await self.process.stdin.send_all(keys)

    async def type_eof(self) -> None:
        """Close its standard input."""
        assert self.process.stdin is not None
        await self.process.stdin.aclose()

    async def type_all(self, keys: bytes) -> None:
        """Write to its standard input, and close it."""
        await self.type(keys)
        await self.type_eof()

    async def listen(self) -> None:
        """Collect what it prints until it ends."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._collect, self.process.stdout, self.output)
            nursery.start_soon(self._collect, self.process.stderr, self.log)
        await self.process.wait()
        self.ended.set()
        self._wake()

    async def _collect(self, pipe: trio.abc.ReceiveStream, into: bytearray) -> None:
        async for chunk in pipe:
            into += chunk
            self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()


@asynccontextmanager
async def running(
    *command: str, patience: float = PATIENCE, **options: Any
) -> AsyncIterator[Program]:
    """Run a program as long as the block; if it is still running then, kill it.

    Args:
      *command: The program and its arguments.
      patience: Seconds that it may take.
      **options: As for `trio.run_process`.

    Raises:
      trio.TooSlowError: It took longer.
    """
    with trio.fail_after(patience):
        async with trio.open_nursery() as nursery:
            program = Program(
                await nursery.start(
                    partial(
                        trio.run_process,
                        command,
                        stdin=PIPE,
                        stdout=PIPE,
                        stderr=PIPE,
                        check=False,
                        deliver_cancel=_kill,
                        **options,
                    )
                )
            )
            nursery.start_soon(program.listen)
            yield program
            nursery.cancel_scope.cancel()


async def _kill(process: trio.Process) -> None:
    process.kill()  # the one signal that reaches a stopped process


def stop(program: Program) -> None:
    """Suspend it, and return once it is suspended."""
    program.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, program.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


def stop_other(pid: int) -> None:
    """The same for a process that another one has started: see proc_pid_stat(5)."""
    os.kill(pid, signal.SIGSTOP)
    state = ""
    while state != "T":
        time.sleep(0.001)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
