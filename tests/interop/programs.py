"""Other programs as peers: started, awaited, heard, and gone when the test is."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sysconfig
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache, partial
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import NoReturn

import attrs
import pytest
import trio

# Far more than anything here needs, on a machine however busy.
PATIENCE = 60  # seconds


def unavailable(reason: str) -> NoReturn:
    """Skip the test, or module; where all peers are promised to be there, fail it."""
    if os.environ.get("TLSDOWN_REQUIRE_PEERS") == "1":
        pytest.fail(reason)
    pytest.skip(reason, allow_module_level=True)


def require(program: str, mode: int = os.F_OK | os.X_OK) -> str:
    """The path of a program that not every machine has.

    Args:
      program: Its name, or where it has to be.
      mode: What it has to be good for: ``os.F_OK`` for a file that is no program.
    """
    # Some come from PyPI with this Python; servers are where not everybody's PATH goes.
    places = sysconfig.get_path("scripts"), os.environ["PATH"], "/usr/sbin"
    path = shutil.which(program, mode, os.pathsep.join(places))
    if path is None:
        unavailable(f"{program} is not installed")
    return path


@cache
def version_of(program: str, option: str) -> str:
    """The first number with a dot in what it says of itself."""
    told = subprocess.run(  # noqa: S603 - found by us
        [require(program), option],
        check=True,
        stdout=PIPE,
        stderr=STDOUT,
        text=True,
        timeout=PATIENCE,
    )
    found = re.search(r"\d+(\.\d+)+", told.stdout)
    assert found is not None, told.stdout
    return found[0]


def require_module(name: str) -> None:
    """The same for a Python module."""
    if importlib.util.find_spec(name) is None:
        unavailable(f"{name} is not installed")


@attrs.define(eq=False)
class Program:
    """A program that runs, or ran, and what it has said."""

    process: trio.Process
    output: bytearray = attrs.field(factory=bytearray)
    log: bytearray = attrs.field(factory=bytearray)
    ended: trio.Event = attrs.field(factory=trio.Event)
    _heard: trio.Event = attrs.field(factory=trio.Event)

    async def says(self, *patterns: str) -> None:
        """Wait until all *patterns* have come on its standard error."""
        assert await self.gets_to_say(*patterns), self.log.decode()

    async def gets_to_say(self, *patterns: str) -> bool:
        """The same; False if it ends before."""
        return await self._until(
            lambda: all(re.search(p.encode(), self.log) for p in patterns)
        )

    async def prints(self, size: int) -> None:
        """Wait until so many bytes have come on its standard output."""
        assert await self._until(lambda: len(self.output) >= size), self.log.decode()

    async def prints_line(self) -> str:
        """Take the next line from its standard output."""
        assert await self._until(lambda: b"\n" in self.output), self.log.decode()
        line, _, rest = self.output.partition(b"\n")
        self.output[:] = rest
        return line.decode()

    async def _until(self, done: Callable[[], bool]) -> bool:
        while not done():
            if self.ended.is_set():
                return False
            await self._heard.wait()
        return True

    async def type(self, keys: bytes) -> None:
        """Give it something on its standard input."""
        assert self.process.stdin is not None
        await self.process.stdin.send_all(keys)

    async def type_eof(self) -> None:
        """End its standard input."""
        assert self.process.stdin is not None
        await self.process.stdin.aclose()

    async def type_all(self, keys: bytes) -> None:
        """Give it something, and nothing else."""
        await self.type(keys)
        await self.type_eof()

    async def listen(self) -> None:
        """Keep what it says until it has ended."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._collect, self.process.stdout, self.output)
            nursery.start_soon(self._collect, self.process.stderr, self.log)
        await self.process.wait()
        self.ended.set()
        self._tell()

    async def _collect(self, pipe: trio.abc.ReceiveStream, into: bytearray) -> None:
        async for chunk in pipe:
            into += chunk
            self._tell()

    def _tell(self) -> None:
        self._heard.set()
        self._heard = trio.Event()


@asynccontextmanager
async def running(*command: str, patience: float = PATIENCE) -> AsyncIterator[Program]:
    """Start a program. When the block is left it ends, if need be by force.

    Args:
      *command: It, and its arguments.
      patience: How long it may take, in seconds.
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
                    )
                )
            )
            nursery.start_soon(program.listen)
            yield program
            nursery.cancel_scope.cancel()


async def _kill(process: trio.Process) -> None:
    process.kill()  # the one signal that reaches a stopped process


def stop(program: Program) -> None:
    """Suspend it, and return when it does nothing any more."""
    program.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, program.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


def stop_other(pid: int) -> None:
    """The same with a process that another one has started: proc_pid_stat(5)."""
    os.kill(pid, signal.SIGSTOP)
    state = ""
    while state != "T":
        time.sleep(0.001)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
