"""Servers in processes of their own, and clients that are not ours."""

from __future__ import annotations

import random
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trio

from harness.process import Program, running
from tests.interop.programs import require
from tests.support import Files

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@asynccontextmanager
async def example(
    name: str, files: Files, *arguments: object
) -> AsyncIterator[tuple[Program, int]]:
    """An example that serves; it must end well when it is told to."""
    path = str(EXAMPLES / f"{name}.py")
    command = sys.executable, path, files.certificate, files.key, *map(str, arguments)
    async with running(*command) as program:
        yield program, await listening(program)
        await end(program)


async def listening(program: Program) -> int:
    """The port that a server has, as soon as it listens."""
    line = await program.prints_line()
    assert line.startswith("listening on port "), line
    return int(line.split()[-1])


told_to_end: set[int] = set()


def terminate(program: Program) -> None:
    """Tell it to end, once: the second SIGTERM kills."""
    if program.process.pid not in told_to_end:
        told_to_end.add(program.process.pid)
        program.process.send_signal(signal.SIGTERM)


async def end(program: Program) -> None:
    """Tell it to end, if nobody has, and see it succeed."""
    terminate(program)
    await program.ended.wait()
    assert program.process.returncode == 0, program.log.decode()


async def curl(
    files: Files, url: str, *options: str, prefix: Sequence[str] = ()
) -> str:
    """What it prints. It must succeed.

    Args:
      files: It trusts this CA.
      url: What to get.
      *options: More options of curl.
      prefix: What to put before the command.
    """
    command = [*prefix, require("curl"), "-sS", "--http1.1", "--cacert", files.ca]
    result = await trio.run_process(
        [*command, *options, url],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout.decode()


def free_port() -> int:
    """One for a server that is to be started; no other caller gets it, and no client.

    It stays bound until this process ends, by a socket that does not listen. Those that
    reuse addresses, as servers do, can have it all the same.
    """
    while True:
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", random.randrange(10_000, 30_000)))  # noqa: S311
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            port: int = sock.getsockname()[1]
            sock.detach()
            return port


def alive(pid: int) -> bool:
    """Whether there is such a process, that has not ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return False
    return state != "Z"
