"""httpx on a connection pool with our network backend."""

from __future__ import annotations

import runpy
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest
import trio

from tests.servers import Stream, nothing_left, serving, until
from tests.support import NAME, TLS13_FIRST, Maker, client_context, server_context
from trio_tlsdown import (
    ShutdownOutcome,
    ShutdownPolicy,
    TLSServer,
    TruncatedError,
    open_tls_nursery,
)
from trio_tlsdown.contrib.httpcore import TLSBackend
from trio_tlsdown.contrib.httpx import PoolTransport
from trio_tlsdown.testing import cancel_everywhere

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
HALF = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf of it"


def client_for(version: str, **options: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=PoolTransport(
            httpcore.AsyncConnectionPool(
                ssl_context=client_context(version),
                network_backend=TLSBackend(policy=ShutdownPolicy(timeout=1)),
                **options,
            )
        )
    )


def url_of(server: TLSServer) -> str:
    return f"https://{NAME}:{server.addresses[0][1]}"


async def answer_requests(stream: Stream) -> None:
    """Answer each request with its own size."""
    received = b""
    async for chunk in stream:
        received += chunk
        end = b"end of body" if received.startswith(b"POST") else b"\r\n\r\n"
        if received.endswith(end):  # pragma: no branch - it may come in parts
            size = b"%d" % len(received)
            received = b""
            await stream.send_all(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(size), size)
            )


async def test_a_client_gets_posts_streams_and_uses_a_connection_again(
    tls: Maker,
) -> None:
    async with serving(tls.version, answer_requests) as (_, server):
        async with client_for(tls.version) as client:
            response = await client.get(url_of(server), headers={"X": "y"})
            assert response.http_version == "HTTP/1.1"
            assert int(response.text) > 20
            more = await client.post(url_of(server), content=b"1234 end of body")
            assert int(more.text) > int(response.text)
            async with client.stream("GET", url_of(server)) as response:
                body = "".join([part async for part in response.aiter_text()])
            assert int(body) > 20
    assert server.tally == {ShutdownOutcome.COMPLETE: 1}


async def cut_short(stream: Stream) -> None:
    await stream.receive_some()
    await stream.send_all(HALF)


async def test_half_a_body_without_a_length_is_an_error(tls: Maker) -> None:
    async with serving(tls.version, cut_short, https_compatible=True) as (_, server):
        async with client_for(tls.version) as client:
            with pytest.raises(httpx.ReadError, match="data may be missing") as caught:
                await client.get(url_of(server))
            cause = caught.value.__cause__
            assert isinstance(cause, httpcore.ReadError)
            assert isinstance(cause.args[0], TruncatedError)
            async with client.stream("GET", url_of(server)) as response:
                assert response.status_code == 200
                with pytest.raises(httpx.ReadError):
                    await response.aread()


async def test_plain_httpx_takes_half_a_body_for_a_whole_one(tls: Maker) -> None:
    """Why this transport is worth having."""
    async with serving(tls.version, cut_short, https_compatible=True) as (_, server):
        async with httpx.AsyncClient(verify=client_context(tls.version)) as client:
            response = await client.get(url_of(server))
            assert (response.status_code, response.text) == (200, "half of it")


@asynccontextmanager
async def http2_server(tls: Maker) -> AsyncIterator[str]:
    """The URL of one; behind the block, one connection has ended well."""
    handler = runpy.run_path(str(EXAMPLES / "h2_server.py"))["handler"]
    context = server_context(tls.version)
    context.set_alpn_protocols(["h2"])
    async with nothing_left(), open_tls_nursery() as nursery:
        server = await nursery.start_server(handler, 0, context, host="127.0.0.1")
        yield url_of(server)
        await server.drain()
    assert server.tally == {ShutdownOutcome.COMPLETE: 1}


async def test_alpn_chooses_http2_and_requests_share_a_connection(
    tls: Maker,
) -> None:
    async with http2_server(tls) as url:
        async with client_for(tls.version, http2=True) as client:
            responses = []

            async def ask(path: str) -> None:
                responses.append(await client.get(f"{url}{path}"))

            async with trio.open_nursery() as asking:
                for path in ("/one", "/two", "/three"):
                    asking.start_soon(ask, path)
            assert {r.http_version for r in responses} == {"HTTP/2"}
            assert {r.text for r in responses} == {"/one", "/two", "/three"}


async def test_http2_goes_on_after_one_of_its_requests_was_cancelled(
    tls: Maker,
) -> None:
    async with http2_server(tls) as url:
        sending = trio.Event()

        async def endless_body() -> AsyncIterator[bytes]:
            yield b"beginning"
            sending.set()
            await trio.sleep_forever()

        async with client_for(tls.version, http2=True) as client:
            assert (await client.get(f"{url}/one")).text == "/one"
            async with trio.open_nursery() as asking:
                asking.start_soon(partial(client.post, url, content=endless_body()))
                await sending.wait()
                asking.cancel_scope.cancel()
            assert (await client.get(f"{url}/two")).text == "/two"


@pytest.mark.parametrize("version", TLS13_FIRST)
async def test_a_cancelled_request_leaves_nothing_and_the_client_goes_on(
    tls: Maker,
) -> None:
    async with serving(tls.version, answer_requests) as (_, server):

        async def scenario(cancellation: Any) -> None:
            async with client_for(tls.version) as client:
                with cancellation:
                    assert (await client.get(url_of(server))).status_code == 200
                    async with client.stream("GET", url_of(server)) as response:
                        await response.aread()
                assert (await client.get(url_of(server))).status_code == 200
            await until(lambda: not server.connections)

        assert await cancel_everywhere(scenario) > 10


# How a server sees its clients go: with this transport, and with httpx as it comes.


def plain_client(version: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(verify=client_context(version))


@pytest.mark.parametrize(
    ("make", "outcome"),
    [(client_for, ShutdownOutcome.COMPLETE), (plain_client, ShutdownOutcome.TRUNCATED)],
)
async def test_only_plain_httpx_closes_without_close_notify(
    tls: Maker, make: Callable[[str], httpx.AsyncClient], outcome: ShutdownOutcome
) -> None:
    async def serve(stream: Stream) -> None:
        with suppress(TruncatedError):
            await answer_requests(stream)

    async with serving(tls.version, serve) as (_, server):
        async with make(tls.version) as client:
            await client.get(url_of(server))
    assert server.tally == {outcome: 1}


@pytest.mark.parametrize(
    ("make", "outcome"),
    [(client_for, ShutdownOutcome.RESET), (plain_client, ShutdownOutcome.TRUNCATED)],
)
async def test_a_cancelled_request_is_a_reset_to_the_server_but_not_with_plain_httpx(
    tls: Maker, make: Callable[[str], httpx.AsyncClient], outcome: ShutdownOutcome
) -> None:
    asked = trio.Event()

    async def serve(stream: Stream) -> None:
        await stream.receive_some()
        asked.set()
        with suppress(trio.BrokenResourceError):
            await stream.receive_some()

    async with serving(tls.version, serve) as (_, server):
        async with make(tls.version) as client:
            async with trio.open_nursery() as asking:
                asking.start_soon(client.get, url_of(server))
                await asked.wait()
                asking.cancel_scope.cancel()
            await until(lambda: server.tally)
    assert server.tally == {outcome: 1}


async def test_errors_are_httpxs_own() -> None:
    async with client_for("TLSv1.3") as client:
        with pytest.raises(httpx.UnsupportedProtocol):
            await client.get("gopher://localhost")

    async def never_answer(stream: Stream) -> None:
        await trio.sleep_forever()

    async with serving("TLSv1.3", never_answer) as (nursery, server):
        async with client_for("TLSv1.3") as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.get(url_of(server), timeout=0.1)
        nursery.cancel_scope.cancel()


async def test_the_body_of_a_sync_client_is_refused() -> None:
    parts: Iterator[bytes] = iter([b"one", b"two"])
    request = httpx.Request("POST", "https://localhost", content=parts)
    async with client_for("TLSv1.3") as client:
        with pytest.raises((TypeError, RuntimeError), match="sync"):
            await client.send(request)
    async with PoolTransport(httpcore.AsyncConnectionPool()) as transport:
        with pytest.raises(TypeError, match="sync"):
            await transport.handle_async_request(request)


def test_what_is_no_pool_is_refused() -> None:
    pool: Any = httpcore.ConnectionPool()
    with pytest.raises(TypeError, match="pool must be"):
        PoolTransport(pool)


async def test_the_example_says_what_is_whole_and_what_is_not(
    tls: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    example = runpy.run_path(str(EXAMPLES / "httpx_client.py"))
    context = client_context(tls.version)
    example["main"].__globals__["ssl"] = FakeSSL(context)
    async with serving(tls.version, cut_short, https_compatible=True) as (_, server):
        with pytest.raises(SystemExit, match="no complete response: ReadError"):
            await example["main"](url_of(server))
    async with http2_server(tls) as url:
        await example["main"](f"{url}/five")
    assert capsys.readouterr().out == "HTTP/2 200 5\n"


class FakeSSL:
    """In place of the module `ssl`: its contexts trust the test's CA."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.create_default_context = lambda: context
