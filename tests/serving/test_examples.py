"""The examples of servers, run as users run them."""

from __future__ import annotations

import runpy
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from prometheus_client.parser import text_string_to_metric_families

from harness.process import Program, running
from tests.interop.programs import require
from tests.servers import HOST, client_of, is_told_goodbye, serving, until
from tests.support import NAME, TLS13_FIRST, Files, Maker, client_context, needs_posix
from trio_tlsdown import ShutdownOutcome, TLSStream

from .processes import (
    EXAMPLES,
    curl,
    end,
    example,
    free_port,
    terminate,
)

pytestmark = needs_posix("SIGTERM")

COMPLETE = ShutdownOutcome.COMPLETE


async def connect(port: int, preamble: bytes = b"") -> trio.SocketStream:
    transport = await trio.open_tcp_stream(HOST, port)
    if preamble:
        await transport.send_all(preamble)
    return transport


def tls_over(transport: trio.SocketStream, tls: Maker) -> TLSStream[trio.SocketStream]:
    return TLSStream(transport, client_context(tls.version), server_hostname=NAME)


async def whole(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([chunk async for chunk in stream])


# The PROXY protocol:

PROXY = runpy.run_path(str(EXAMPLES / "proxy_protocol.py"))
parse: Callable[[bytes], Any] = PROXY["parse"]
ProxyProtocolError: type[Exception] = PROXY["ProxyProtocolError"]

V2 = b"\r\n\r\n\0\r\nQUIT\n"
PORTS = (56324).to_bytes(2, "big") + (443).to_bytes(2, "big")
V2_IPV4 = V2 + b"\x21\x11\x00\x0c" + bytes([192, 0, 2, 1, 192, 0, 2, 2]) + PORTS
V2_IPV6 = V2 + b"\x21\x21\x00\x24" + bytes(15) + b"\x01" + bytes(15) + b"\x02" + PORTS


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", "192.0.2.1:56324"),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n", "[2001:db8::1]:56324"),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
        (V2_IPV4, "192.0.2.1:56324"),
        (V2_IPV6, "[::1]:56324"),
        (V2 + b"\x20\x00\x00\x00", None),  # LOCAL: of the proxy itself
        (V2 + b"\x21\x31\x00\xd8" + bytes(216), None),  # Unix sockets
        (V2 + b"\x21\x11\x00\x10" + V2_IPV4[16:] + b"\x04\x00\x01x", "192.0.2.1:56324"),
    ],
)
def test_a_header_tells_who_the_client_is(header: bytes, name: str | None) -> None:
    """However much of it has come, and whatever comes behind it."""
    for size in range(1, len(header)):
        assert parse(header[:size]) is None
    assert parse(header) == parse(header + b"\x16\x03\x01") == (name, len(header))


@pytest.mark.parametrize(
    "header",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"PROXY TCP4 192.0.2.1\r\n",
        b"PROXY TCP4 localhost 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 x 443\r\n",
        b"PROXY TCP4 " + b"1" * 200,
        V2 + b"\x31\x11\x00\x0c" + V2_IPV4[16:],  # version 3
        V2 + b"\x21\x11\x00\x04" + V2_IPV4[16:20],
        V2 + b"\x21\x11\xff\xff",
    ],
)
def test_what_is_no_header_is_refused(header: bytes) -> None:
    with pytest.raises(ProxyProtocolError):
        parse(header)


@pytest.mark.parametrize("version", TLS13_FIRST)
async def test_a_handler_greets_whom_the_proxy_names(files: Files, tls: Maker) -> None:
    async with example("proxy_protocol", files, 0) as (program, port):
        await (await connect(port)).aclose()  # a health check
        for header in (b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", V2_IPV4):
            client = tls_over(await connect(port, header), tls)
            assert await whole(client) == b"hello 192.0.2.1:56324\n"
            await client.shutdown()
            await client.aclose()
        async with await connect(
            port, b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nrubbish"
        ):
            await program.says("TLS handshake with 192.0.2.1:1 failed: ")
        async with await connect(port, b"rubbish") as transport:
            assert await whole(transport) == b""
    lines = program.log.decode().splitlines()
    assert len(lines) == 2
    assert "ProxyProtocolError: this is no header: b'rubbish'" in lines[1]


@pytest.mark.parametrize("version", TLS13_FIRST)
async def test_a_drain_waits_for_no_proxy_that_says_nothing(
    files: Files, tls: Maker
) -> None:
    async with example("proxy_protocol", files, 0) as (program, port):
        async with await connect(port) as transport:
            await trio.sleep(0.6)  # so that it is not new
            with trio.fail_after(5):  # the grace is 10
                await end(program)
            assert await whole(transport) == b""


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
async def test_haproxy_names_its_clients(version: str, files: Files) -> None:
    """And its health checks are no errors."""
    haproxy = require("haproxy")
    front = free_port()
    async with example("proxy_protocol", files, 0) as (program, port):
        configuration = files.folder / "haproxy.cfg"
        text = f"""
            global
                nbthread 1
            defaults
                mode tcp
                timeout connect 20s
                timeout client 20s
                timeout server 20s
            listen tls
                bind {HOST}:{front}
                server us {HOST}:{port} {version} check inter 100ms
            """
        configuration.write_text(f"{text}\n")
        async with running(haproxy, "-db", "-f", str(configuration)):
            await until(lambda: is_open(front))
            transport = await connect(front)
            host, number = transport.socket.getsockname()
            client = TLSStream(transport, client_context(), server_hostname=NAME)
            assert await whole(client) == f"hello {host}:{number}\n".encode()
            await client.aclose()
            await trio.sleep(0.3)  # some health checks
    assert program.log == b""


def is_open(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((HOST, port)) == 0


# STARTTLS:

STARTTLS = runpy.run_path(str(EXAMPLES / "starttls.py"))
Lines = STARTTLS["Lines"]


@pytest.mark.parametrize("version", TLS13_FIRST)
async def test_a_draining_server_speaks_starttls(files: Files, tls: Maker) -> None:
    """Before TLS and in it, the next line is what it waits for when it drains."""
    async with example("starttls", files, 0) as (program, port):
        in_clear_text = await connect(port, b"hello\n")
        assert await Lines(in_clear_text).next() == b"you said: hello"
        transport = await connect(port)
        client = await STARTTLS["start_tls"](
            transport, client_context(tls.version), NAME
        )
        await client.send_all(b"a secret\n")
        assert await Lines(client).next() == b"you said: a secret"
        await trio.sleep(0.6)
        with trio.fail_after(5):
            terminate(program)
            assert await whole(in_clear_text) == b""
            await is_told_goodbye(client)
            await program.ended.wait()
    assert program.log == b""
    await in_clear_text.aclose()


async def test_half_a_line_that_has_arrived_may_be_finished_while_the_server_drains(
    files: Files,
) -> None:
    async with example("starttls", files, 0) as (program, port):
        async with await connect(port, b"hello\nhalf a") as client:
            assert await Lines(client).next() == b"you said: hello"
            terminate(program)
            await until(lambda: not is_open(port))
            await trio.sleep(0.5)  # a wait for which nothing had arrived would be over
            await client.send_all(b" line\n")
            assert await whole(client) == b"you said: half a line\n"


@pytest.mark.parametrize("version", TLS13_FIRST)
async def test_a_server_refuses_clear_text_behind_starttls(
    files: Files, tls: Maker
) -> None:
    async with example("starttls", files, 0) as (program, port):
        async with await connect(port, b"STARTTLS\nMAIL FROM: <attacker>\n") as mallory:
            assert await whole(mallory) == b""  # not even an answer
            await program.says("InjectionError: 22 bytes arrived before TLS")


async def test_a_line_without_an_end_is_refused(files: Files) -> None:
    async with example("starttls", files, 0) as (program, port):
        async with await connect(port, b"x" * 2000):
            await program.says("ValueError: the line is too long")


# HTTP or TLS:


async def test_who_comes_in_clear_text_is_sent_to_https(files: Files) -> None:
    async with example("http_or_tls", files, 0) as (program, port):
        secure = await curl(files, f"https://{NAME}:{port}/")
        assert secure == "secure\n"
        moved = await curl(files, f"http://{NAME}:{port}/a/page?b=c", "-i")
        assert moved.startswith("HTTP/1.1 308 ")
        assert f"Location: https://{NAME}:{port}/a/page?b=c\r\n" in moved
        assert await curl(files, f"http://{NAME}:{port}/", "-L") == "secure\n"
        await (await connect(port)).aclose()
    assert program.log == b""


@pytest.mark.parametrize("version", TLS13_FIRST)
async def test_nobody_who_says_nothing_keeps_such_a_server_from_ending(
    files: Files, tls: Maker
) -> None:
    async with example("http_or_tls", files, 0) as (program, port):
        silent = await connect(port)
        idle = await client_of(port, tls.version)
        await trio.sleep(0.6)  # so that they are not new
        with trio.fail_after(5):  # the grace is 10
            terminate(program)
            assert await whole(silent) == b""
            await is_told_goodbye(idle)
            await program.ended.wait()
        await silent.aclose()


async def test_what_is_neither_is_refused(files: Files) -> None:
    requests = [
        b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\nSet-Cookie: y\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x" * 20_000,
    ]
    async with example("http_or_tls", files, 0) as (program, port):
        for count, request in enumerate(requests, 1):
            async with await connect(port, request):
                await program.says("(?s)" + "NoRequestError: .*" * count)


# Limits per address:


@pytest.mark.parametrize("version", TLS13_FIRST)
async def test_so_many_connections_for_one_address(files: Files, tls: Maker) -> None:
    async with example("per_address", files, 0, 2) as (program, port):
        clients = [await client_of(port, tls.version) for _ in range(2)]
        for client in clients:
            await client.send_all(b"hello")
            assert await client.receive_some() == b"hello"
        async with await connect(port) as third:
            assert await whole(third) == b""
        await program.says("TooManyError: 127.0.0.1 has 2 connections")
        await clients[0].shutdown()
        await clients[0].aclose()
        clients[0] = await client_of(port, tls.version)
        await clients[0].send_all(b"hello")
        assert await clients[0].receive_some() == b"hello"
        terminate(program)
        for client in clients:
            await is_told_goodbye(client)


async def test_who_comes_while_others_shake_hands_is_counted_too(tls: Maker) -> None:
    per_address = runpy.run_path(str(EXAMPLES / "per_address.py"))
    released = trio.Event()
    greeted = 0

    async def greet(stream: Any) -> None:
        nonlocal greeted
        greeted += 1
        await released.wait()

    limit = per_address["PerAddress"](2, greet)
    errors: list[Exception] = []
    async with serving(
        tls.version,
        limit.handler,
        prepare=limit.prepare,
        on_error=lambda error, _: errors.append(error),
    ) as (tasks, server):
        port = server.addresses[0][1]
        clients = [
            await client_of(port, tls.version, handshake=False) for _ in range(3)
        ]
        await until(lambda: len(server.connections) == 3)
        for client in clients:
            tasks.start_soon(client.do_handshake)
        await until(lambda: errors)
        assert greeted == 2
        assert [type(error).__name__ for error in errors] == ["TooManyError"]
        assert limit.open.total() == 2
        released.set()
        await until(lambda: not limit.open)
        for client in clients:
            await trio.aclose_forcefully(client)


# Prometheus:


@asynccontextmanager
async def exporting(files: Files) -> AsyncIterator[tuple[Program, int, str]]:
    path = str(EXAMPLES / "prometheus.py")
    command = sys.executable, path, files.certificate, files.key, "0", "0"
    async with running(*command) as program:
        line = await program.prints_line()
        assert line.startswith("metrics on port ")
        port = int((await program.prints_line()).split()[-1])
        yield program, port, f"http://{HOST}:{line.split()[-1]}/metrics"


@pytest.mark.parametrize("version", TLS13_FIRST)
async def test_prometheus_sees_what_the_server_does(files: Files, tls: Maker) -> None:
    require("curl")
    async with exporting(files) as (program, port, url):
        silent = await connect(port)
        idle = await client_of(port, tls.version)
        await idle.send_all(b"hello")
        assert await idle.receive_some() == b"hello"
        gone = await client_of(port, tls.version)
        await gone.shutdown()
        await gone.aclose()

        async def scrape() -> dict[str, float]:
            families = text_string_to_metric_families(await curl(files, url))
            return {
                " ".join([sample.name, *sample.labels.values()]): sample.value
                for family in families
                for sample in family.samples
            }

        seen: dict[str, float] = {"tls_connections_ended_total complete": 0}
        with trio.fail_after(20):
            while not seen["tls_connections_ended_total complete"]:
                seen = await scrape()
        assert seen["tls_connections handshaking"] == 1
        assert seen["tls_connections idle"] == 1
        assert seen["tls_connections busy"] == 0
        assert seen["tls_draining"] == 0
        assert seen["tls_connections_ended_total failed"] == 0
        assert seen["tls_connections_ended_by_total peer"] == 1
        await silent.aclose()
        terminate(program)
        await is_told_goodbye(idle)
        await program.ended.wait()
        assert program.process.returncode == 0
    assert program.log == b""
