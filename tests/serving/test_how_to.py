"""The how-tos, with the processes that they tell of. The programs are in their text."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio

from harness.process import Program, running
from tests.interop.programs import require, unavailable
from tests.namespaces import MAY_MAKE, inside, namespace
from tests.servers import HOST, client_of, until
from tests.support import NAME, Files, needs_linux
from trio_tlsdown import ShutdownOutcome

from .processes import EXAMPLES, alive, curl, end, free_port

pytestmark = [needs_linux("what is inherited, /proc"), pytest.mark.long]

HOW_TO = EXAMPLES.parent / "how-to"

APP = """
import os
import ssl

import http11


async def handler(stream):
    await http11.handler(stream)


def make_context():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain("cert.pem", "key.pem")
    return context
"""


@pytest.fixture
def files(files: Files) -> Files:
    """And a program that they serve."""
    (files.folder / "app.py").write_text(APP)
    (files.folder / "http11.py").write_bytes((EXAMPLES / "http11.py").read_bytes())
    return files


def write_programs(page: str, folder: Path) -> None:
    """Those of a how-to: each begins with its name."""
    text = (HOW_TO / page).read_text("utf-8")
    programs = re.findall(r"```python\n# (\S+)\n(.*?)```", text, re.DOTALL)
    assert programs
    for name, program in programs:
        (folder / name).write_text(program)


@attrs.define
class Load:
    """Clients that ask again and again, each time on a new connection."""

    files: Files
    port: int
    prefix: Sequence[str] = ()
    """What to put before curl."""

    answers: int = 0
    asking: int = 0
    over: bool = False

    async def ask(self) -> None:
        url = f"https://{NAME}:{self.port}/"
        self.asking += 1
        while not self.over:
            answer = await curl(self.files, url, prefix=self.prefix)
            assert answer == "GET / HTTP/1.1, 0 bytes\n"
            self.answers += 1
        self.asking -= 1

    async def goes_on(self) -> None:
        """Wait for some more answers, so that all of this happens under load."""
        enough = self.answers + 20
        await until(lambda: self.answers >= enough)

    async def end(self) -> None:
        await self.goes_on()
        self.over = True
        await until(lambda: not self.asking)


@asynccontextmanager
async def under_load(
    files: Files, port: int, prefix: Sequence[str] = ()
) -> AsyncIterator[Load]:
    """None of them may fail."""
    load = Load(files, port, prefix)
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(load.ask)
        await load.goes_on()
        yield load
        if not load.over:
            await load.end()


# systemd:


START = """
import os, sys

os.dup2({number}, 3)
os.chdir("{folder}")
# exec() keeps the process id.
found = dict(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", NOTIFY_SOCKET="{notify}")
os.execve(sys.executable, [sys.executable, "server.py"], {{**os.environ, **found}})
"""


class Systemd:
    """What it does for a service: it opens the socket, and hears what is told."""

    def __init__(self, folder: Path) -> None:
        self.listening = socket.create_server((HOST, 0), backlog=100)
        self.port: int = self.listening.getsockname()[1]
        self.notified = trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._path = str(folder / "notify")
        self._folder = folder

    async def bind(self) -> None:
        await self.notified.bind(self._path)

    async def hears(self, state: str) -> None:
        assert await self.notified.recv(100) == state.encode()

    @asynccontextmanager
    async def service(self) -> AsyncIterator[Program]:
        number = self.listening.fileno()
        script = START.format(number=number, folder=self._folder, notify=self._path)
        async with running(sys.executable, "-c", script, pass_fds=[number]) as program:
            yield program

    def close(self) -> None:
        self.listening.close()
        self.notified.close()


@pytest.fixture
async def systemd(tmp_path: Path) -> AsyncIterator[Systemd]:
    write_programs("systemd.md", tmp_path)
    manager = Systemd(tmp_path)
    await manager.bind()
    yield manager
    manager.close()


async def test_a_service_restarts_while_its_clients_wait(
    files: Files, systemd: Systemd
) -> None:
    async with systemd.service() as first:
        await systemd.hears("READY=1")
        async with under_load(files, systemd.port) as load:
            await end(first)
            await systemd.hears("STOPPING=1")
            answers = load.answers
            async with systemd.service() as second:
                await systemd.hears("READY=1")
                await load.end()
                assert load.answers > answers
                await end(second)


async def test_idle_clients_of_a_service_are_told_goodbye(
    files: Files, systemd: Systemd
) -> None:
    async with systemd.service() as program:
        await systemd.hears("READY=1")
        client = await client_of(systemd.port, "TLSv1.3")
        await client.send_all(b"GET / HTTP/1.1\r\n\r\n")
        assert b"Connection: keep-alive" in await client.receive_some()
        program.process.send_signal(signal.SIGTERM)
        await systemd.hears("STOPPING=1")
        assert await client.receive_some() == b""
        report = await client.shutdown()
        assert report.outcome is ShutdownOutcome.COMPLETE
        await client.aclose()
        await program.ended.wait()
        assert program.process.returncode == 0


# Workers:


def circus_configuration(files: Files, port: int, endpoint: int) -> str:
    """That of the how-to, with other ports and our Python."""
    text = (HOW_TO / "workers.md").read_text("utf-8")
    [found] = re.findall(r"```ini\n(.*?)```", text, re.DOTALL)
    assert isinstance(found, str)
    for old, new in [
        ("127.0.0.1:5555", f"127.0.0.1:{endpoint}"),
        ("127.0.0.1:5556", f"127.0.0.1:{free_port()}"),
        ("port = 8443", f"port = {port}"),
        ("cmd = python", f"working_dir = {files.folder}\ncmd = {sys.executable}"),
    ]:
        assert old in found
        found = found.replace(old, new)
    return found


async def test_workers_of_circus_are_replaced_one_after_the_other(
    files: Files,
) -> None:
    write_programs("workers.md", files.folder)
    port, endpoint = free_port(), free_port()
    path = files.folder / "circus.ini"
    path.write_text(circus_configuration(files, port, endpoint))

    async def circusctl(*command: str) -> str:
        result = await trio.run_process(
            [
                require("circusctl"),
                "--endpoint",
                f"tcp://127.0.0.1:{endpoint}",
                "--timeout",
                "50",
                *command,
            ],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
        stdout: bytes = result.stdout
        return stdout.decode()

    async def workers() -> set[int]:
        return {int(pid) for pid in re.findall(r"\d+", await circusctl("list", "web"))}

    async with running(require("circusd"), str(path)) as manager:
        await manager.says("Circus running|started")
        before = await workers()
        while len(before) < 3:
            before = await workers()
        async with under_load(files, port) as load:
            while "ok" not in await circusctl("reload", "web", "--sequential"):
                await load.goes_on()  # pragma: no cover - it may still be starting
            await load.goes_on()
            while before & await workers():
                await load.goes_on()  # pragma: no cover - they may have left
            after = await workers()
        assert len(after) == 3
        assert not any(alive(pid) for pid in before)
        await circusctl("quit", "--waiting")
        await manager.ended.wait()
    assert not any(alive(pid) for pid in after)


@pytest.fixture
def migrating() -> Iterator[Sequence[str]]:
    """What to put before a command: the kernel then does as the how-to says that it shall.

    The setting is that of a network namespace, here one of the test's own.
    """
    setting = Path("/proc/sys/net/ipv4/tcp_migrate_req")
    if not MAY_MAKE or not setting.exists():  # pragma: no cover - as the system is
        unavailable(f"network namespaces take root and ip; {setting} takes Linux 5.14")
    with namespace() as name:
        subprocess.run(  # noqa: S603
            [*inside(name), "/bin/sh", "-c", f"echo 1 >{setting}"], check=True
        )
        yield inside(name)


async def test_workers_with_sockets_of_their_own_are_replaced_one_after_the_other(
    files: Files, migrating: Sequence[str]
) -> None:
    write_programs("workers.md", files.folder)
    port = free_port()
    script = f'cd "{files.folder}"; exec {sys.executable} reuseport.py {HOST} {port}'

    async with trio.open_nursery() as nursery:

        async def start() -> tuple[Program, trio.Event]:
            ended = trio.Event()

            async def work(task_status: trio.TaskStatus[Program]) -> None:
                async with running(*migrating, "/bin/sh", "-c", script) as program:
                    assert await program.prints_line() == "listening"
                    task_status.started(program)
                    await ended.wait()
                    await end(program)

            return await nursery.start(work), ended

        workers = [await start() for _ in range(3)]
        async with under_load(files, port, migrating) as load:
            for number, (program, ended) in enumerate(workers):
                replacement = await start()
                ended.set()
                await program.ended.wait()
                workers[number] = replacement
                await load.goes_on()
        for _, ended in workers:
            ended.set()


# A restart:


async def test_a_successor_takes_the_socket_over(files: Files) -> None:
    write_programs("restart.md", files.folder)
    port = free_port()
    script = f'cd "{files.folder}"; exec {sys.executable} server.py {HOST} {port}'
    async with running("/bin/sh", "-c", script) as program:
        pids = [await pid_of(program)]
        async with under_load(files, port) as load:
            for _ in range(2):
                os.kill(pids[-1], signal.SIGHUP)
                pids.append(await pid_of(program))  # it says so by the same pipe
                await until(lambda: not alive(pids[-2]))
                await load.goes_on()
        os.kill(pids[-1], signal.SIGTERM)
        await until(lambda: not alive(pids[-1]))
        await program.ended.wait()
        assert program.process.returncode == 0
    assert len(set(pids)) == 3


async def test_without_a_successor_that_works_the_old_one_goes_on(
    files: Files,
) -> None:
    write_programs("restart.md", files.folder)
    port = free_port()
    script = f'cd "{files.folder}"; exec {sys.executable} server.py {HOST} {port}'
    async with running("/bin/sh", "-c", script) as program:
        pid = await pid_of(program)
        (files.folder / "app.py").write_text("raise SystemExit('broken')")
        os.kill(pid, signal.SIGHUP)
        await program.says("broken")
        url = f"https://{NAME}:{port}/"
        assert await curl(files, url) == "GET / HTTP/1.1, 0 bytes\n"
        await end(program)


async def pid_of(program: Program) -> int:
    line = await program.prints_line()
    assert line.startswith("listening as ")
    return int(line.split()[-1])
