"""The code that docs/how-to shows for other libraries, run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.interop.programs import require_module
from tests.servers import HOST, Stream, client_of, port_of, serving
from tests.support import NAME, Maker, client_context
from trio_tlsdown import (
    TLSListener,
    TruncatedError,
)

for _name in ("dns", "hypercorn", "trio_websocket"):
    require_module(_name)

import dns.message
import dns.rrset
import h11
import httpx
import trio_websocket

from tests.programs.test_hypercorn import ask_hypercorn

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def code_of(page: str) -> dict[str, Any]:
    """What the Python blocks of a page define."""
    namespace: dict[str, Any] = {}
    for block in BLOCK.findall((HOW_TO / page).read_text("utf-8")):
        exec(block, namespace)  # noqa: S102 - ours
    return namespace


@pytest.fixture(scope="module")
def shown() -> dict[str, Any]:
    return code_of("other-libraries.md")


HEADS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    "until close": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
}


@pytest.mark.parametrize("framing", HEADS)
@pytest.mark.parametrize("whole", [True, False])
async def test_with_h11_half_a_body_is_an_error(
    tls: Maker, shown: dict[str, Any], framing: str, *, whole: bool
) -> None:
    async def serve(stream: Stream) -> None:
        await stream.receive_some()
        await stream.send_all(HEADS[framing] + (b"hello" if whole else b"he"))

    async with serving(tls.version, serve, https_compatible=not whole) as (_, server):
        stream = await client_of(port_of(server), tls.version)
        async with stream:
            if whole:
                assert await shown["get"](stream, NAME, "/") == b"hello"
            else:
                with pytest.raises((TruncatedError, h11.RemoteProtocolError)):
                    await shown["get"](stream, NAME, "/")


async def test_trio_websocket_serves_on_a_tls_server(
    tls: Maker, shown: dict[str, Any]
) -> None:
    async with serving(tls.version, shown["echo_websockets"]) as (_, server):
        async with trio_websocket.open_websocket(
            HOST, port_of(server), "/", use_ssl=client_context(tls.version)
        ) as socket:
            await socket.send_message("hello")
            assert await socket.get_message() == "hello"


@pytest.mark.parametrize("answer", ["right", "wrong", "none"])
async def test_dnspython_reads_and_writes_the_messages(
    tls: Maker, shown: dict[str, Any], answer: str
) -> None:
    async def serve(stream: Stream) -> None:
        query = dns.message.from_wire(bytes((await stream.receive_some())[2:]))
        response = dns.message.make_response(query)
        response.answer = [
            dns.rrset.from_text(query.question[0].name, 300, "IN", "A", "192.0.2.1")
        ]
        if answer == "wrong":
            response.id ^= 1
        wire = response.to_wire(prepend_length=True)
        await stream.send_all(wire[:1])
        if answer != "none":
            await stream.send_all(wire[1:])

    async with serving(tls.version, serve) as (_, server):
        async with await client_of(port_of(server), tls.version) as stream:
            if answer == "right":
                assert await shown["ask"](stream, "example.org") == ["192.0.2.1"]
            else:
                with pytest.raises(EOFError if answer == "none" else ValueError):
                    await shown["ask"](stream, "example.org")


async def test_hypercorn_sends_a_close_notify_on_tls13(
    tls: Maker,
    shown: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trio, "SSLListener", trio.SSLListener)  # to be undone
    shown["let_hypercorn_use_tlsstream"]()
    assert vars(trio)["SSLListener"] is TLSListener
    await ask_hypercorn(tls, tmp_path)


async def test_the_page_about_httpx_is_right(tls: Maker) -> None:
    page = code_of("httpx.md")

    async def serve(stream: Stream) -> None:
        request = await stream.receive_some()
        whole = request.startswith(b"GET /whole")
        await stream.send_all(HEADS["length" if whole else "until close"] + b"hello")

    async with serving(tls.version, serve, https_compatible=True) as (_, server):
        url = f"https://{NAME}:{port_of(server)}"
        async with page["open_client"](client_context(tls.version)) as client:
            response = await client.get(f"{url}/whole")
            assert page["tls_version"](response) == tls.version
            with pytest.raises(httpx.ReadError) as caught:
                await client.get(f"{url}/half")
            assert page["is_truncated"](caught.value)
    assert not page["is_truncated"](httpx.ReadError(""))
    for proxy in "http://localhost", "https://localhost":
        client = page["open_client_behind_proxy"](proxy, client_context())
        await client.aclose()
