"""Under load, and while servers come and go, no request is lost.

For a few seconds; `make test-all` takes longer.
"""

from __future__ import annotations

import os
import runpy
import socket
import ssl
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median
from typing import Any

import attrs
import pytest
import trio

from harness.process import running
from tests.interop import nginx
from tests.interop.programs import require
from tests.servers import HOST, SyncClient, client_of, until
from tests.support import (
    NAME,
    TLS13_FIRST,
    Files,
    Maker,
    client_context,
    needs_linux,
    server_context,
)
from trio_tlsdown import (
    DrainReport,
    ListenFailedError,
    ShutdownPolicy,
    TLSNursery,
    TLSServer,
    TLSStream,
    open_tls_nursery,
)

from .processes import EXAMPLES, free_port, listening

pytestmark = needs_linux("a socket that processes share")

HTTP = runpy.run_path(str(EXAMPLES / "http11.py"))

POLICY = ShutdownPolicy(timeout=2, linger_timeout=1)

# For more: make test-all ARGS=tests/serving/test_no_request_is_lost.py TLSDOWN_DRAINS=100
MANY = pytest.param(int(os.environ.get("TLSDOWN_DRAINS", "8")), marks=pytest.mark.long)
rounds = pytest.mark.parametrize("drains", [2, MANY])


# Servers that take turns:


@attrs.define
class Turns:
    """Servers on one listening socket: each drains when the next one accepts."""

    nursery: TLSNursery
    version: str
    sock: socket.socket
    reports: list[DrainReport] = attrs.field(factory=list)
    _now: TLSServer | None = None

    async def next(self, **options: Any) -> None:
        before = self._now
        shared = trio.socket.from_stdlib_socket(self.sock.dup())
        self._now = await self.nursery.start_server(
            HTTP["handler"],
            listeners=[trio.SocketListener(shared)],
            ssl_context=server_context(self.version),
        )
        if before is not None:
            self.reports.append(await before.drain(**options))


@asynccontextmanager
async def turns(version: str) -> AsyncIterator[Turns]:
    with socket.create_server((HOST, 0), backlog=1000) as sock:
        sock.setblocking(False)  # noqa: FBT003
        async with open_tls_nursery(POLICY) as nursery:
            yield Turns(nursery, version, sock)


async def curl_until(
    over: trio.Event, files: Files, urls: list[str], answers: Counter[str]
) -> None:
    """Each process of it is a client; its connection stays for all of the URLs."""
    quiet = "-sS", "--http1.1", "--cacert", files.ca
    while not over.is_set():
        result = await trio.run_process(
            [require("curl"), *quiet, *urls],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr.decode()
        answers.update(result.stdout.decode().splitlines())


@pytest.mark.parametrize("version", TLS13_FIRST)
@rounds
@pytest.mark.parametrize(
    ("requests", "options"), [(1, {}), (20, {"notice": 0.5})], ids=["close", "keep"]
)
async def test_of_curl(
    requests: int, options: dict[str, float], drains: int, tls: Maker, files: Files
) -> None:
    """12 loops of it, new connections or old ones, and one drain after the other."""
    require("curl")
    over = trio.Event()
    answers: Counter[str] = Counter()
    async with turns(tls.version) as servers, trio.open_nursery() as nursery:
        await servers.next()
        port = servers.sock.getsockname()[1]
        urls = [f"https://{NAME}:{port}/{number}" for number in range(requests)]
        for _ in range(12):
            nursery.start_soon(curl_until, over, files, urls, answers)
        for _ in range(drains):
            enough = answers.total() + 12
            await until(lambda: answers.total() >= enough)  # noqa: B023
            await servers.next(**options)
        over.set()
    assert set(answers) == {
        f"GET /{number} HTTP/1.1, 0 bytes" for number in range(requests)
    }
    assert [report.discarded for report in servers.reports] == [0] * drains
    assert all(report.handlers_cancelled == 0 for report in servers.reports)
    assert answers.total() > drains * 12


# A proxy with two servers behind it:

NGINX = """
upstream backends {{
    server {host}:{first} max_fails=0;
    server {host}:{second} max_fails=0;
    {keepalive}
}}
server {{
    listen {host}:{front};
    location / {{
        proxy_pass https://backends;
        proxy_http_version 1.1;
        proxy_set_header Connection "{connection}";
        proxy_ssl_name {name};
        proxy_ssl_trusted_certificate {ca};
        proxy_ssl_verify on;
        proxy_ssl_protocols {protocols};
    }}
}}
"""


@pytest.mark.parametrize("version", TLS13_FIRST)
@rounds
@pytest.mark.parametrize("keepalive", [False, True], ids=["close", "keep"])
async def test_of_posts_through_nginx(
    drains: int, tls: Maker, files: Files, *, keepalive: bool
) -> None:
    """nginx sends no POST twice. What one of two servers that restarts has read is
    answered; on a connection that is new, nothing else happens either."""
    require("nginx")
    served = 0
    answers: Counter[str] = Counter()
    over = trio.Event()
    front = free_port()

    async def handler(stream: TLSStream[Any]) -> None:
        nonlocal served
        connection = Counting(stream)
        try:
            await HTTP["handler"](connection)
        finally:
            served += connection.answers

    class Counting:
        def __init__(self, stream: TLSStream[Any]) -> None:
            self._stream = stream
            self.answers = 0
            self.receive_some = stream.receive_some

        async def send_all(self, data: bytes) -> None:
            self.answers += 1
            await self._stream.send_all(data)

    async def post() -> None:
        url = f"http://{HOST}:{front}/"
        data = "--data", "x" * 1000, "--write-out", "%{http_code}\n"
        while not over.is_set():
            result = await trio.run_process(
                [require("curl"), "-sS", "--output", "/dev/null", *data, url],
                capture_stdout=True,
                check=False,
            )
            assert result.returncode == 0
            answers[result.stdout.decode().strip()] += 1

    async with open_tls_nursery(POLICY) as nursery:

        async def start(port: int) -> TLSServer:
            context = server_context(tls.version)
            while True:
                try:
                    return await nursery.start_server(handler, port, context, host=HOST)
                except ListenFailedError:  # pragma: no cover - see below
                    # A process that is being started has our sockets until its exec().
                    await trio.sleep(0.01)

        ports = free_port(), free_port()
        first, second = [await start(port) for port in ports]
        servers = NGINX.format(
            host=HOST,
            first=ports[0],
            second=ports[1],
            front=front,
            keepalive="keepalive 16;" if keepalive else "",
            connection="" if keepalive else "close",
            name=NAME,
            ca=files.ca,
            protocols=tls.version,
        )
        command = nginx.command(files.folder, nginx.http_servers(files.folder, servers))
        async with running(*command, patience=600) as program:
            await until(lambda: is_open(front))
            async with trio.open_nursery() as asking:
                for _ in range(12):
                    asking.start_soon(post)
                for _ in range(drains):
                    enough = answers.total() + 12
                    await until(lambda: answers.total() >= enough)  # noqa: B023
                    report = await first.drain(notice=0.5 if keepalive else 0)
                    assert report.discarded == 0
                    assert report.handlers_cancelled == 0
                    first = await start(ports[0])
                over.set()
            log = program.log.decode()
        await second.drain()
        await first.drain()
    failed = answers.total() - answers["200"]
    if keepalive:
        # RFC 9112 section 9.5: a connection that is idle may end at any time, also
        # when a request is on its way. But none was read that failed.
        assert failed <= drains, (answers, log)
    else:
        assert failed == 0, (answers, log)
    assert served == answers["200"]


def is_open(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((HOST, port)) == 0


# Among others that mean no good:


async def ask_once(port: int, version: str) -> float:
    """How long an honest client waits, from its SYN to its answer."""
    began = trio.current_time()
    client = await client_of(port, version)
    await client.send_all(b"hello")
    assert await client.receive_some() == b"hello"
    waited = trio.current_time() - began
    await client.shutdown()
    await client.aclose()
    return waited


async def typical_wait(port: int, version: str) -> float:
    return median([await ask_once(port, version) for _ in range(40)])


@pytest.mark.parametrize("version", TLS13_FIRST)
async def test_honest_clients_are_answered_soon_among_500_others(
    tls: Maker, files: Files
) -> None:
    """Silent, slow and half-shaken ones, and some that send on and on."""
    path = str(EXAMPLES / "graceful_server.py")
    command = sys.executable, path, files.certificate, files.key, "0", "1"
    async with running(*command) as program:
        port = await listening(program)
        clients: list[SyncClient] = []
        floods: list[TLSStream[Any]] = []

        def hello() -> SyncClient:
            client = SyncClient(port, tls.version)
            clients.append(client)
            return client

        async def drip() -> None:
            client = hello()
            first = client_hello(tls.version)
            for number in range(len(first)):  # pragma: no branch - it is cancelled
                await trio.sleep(0.2)
                client.sock.send(first[number : number + 1])

        async def flood() -> None:
            client = await client_of(port, tls.version)
            floods.append(client)
            while True:
                await client.send_all(bytes(2**14))  # and reads nothing

        await ask_once(port, tls.version)
        async with trio.open_nursery() as nursery:
            alone = await typical_wait(port, tls.version)
            for _ in range(200):
                hello()
            for _ in range(100):
                nursery.start_soon(drip)
            for _ in range(150):
                hello().send_hello()
            for _ in range(50):
                nursery.start_soon(flood)
            await until(lambda: len(floods) == 50 and len(clients) == 450)
            await trio.sleep(0.5)
            waits = [await typical_wait(port, tls.version) for _ in range(3)]
            # A busy machine adds some milliseconds. Whoever waits for those others to give
            # up waits for tenths of a second.
            assert min(waits) < max(3 * alone, 0.05)
            nursery.cancel_scope.cancel()
        for client in clients:
            client.sock.close()
        for stream in floods:
            await trio.aclose_forcefully(stream)


def client_hello(version: str) -> bytes:
    outgoing = ssl.MemoryBIO()
    tls = client_context(version).wrap_bio(
        ssl.MemoryBIO(), outgoing, server_hostname=NAME
    )
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()
