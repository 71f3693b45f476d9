"""hypercorn calls `send_eof()` where there is one: TLSStream in trio.SSLStream's place."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.interop.programs import require_module
from tests.servers import HOST
from tests.support import CA, NAME, Maker, client_context
from trio_tlsdown import open_tls_over_tcp_stream

require_module("hypercorn")

import hypercorn
import hypercorn.trio

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer each request with its version of HTTP."""
    if scope["type"] == "http":
        body = scope["http_version"].encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
    else:  # lifespan
        for event in "startup", "shutdown":
            await receive()
            await send({"type": f"lifespan.{event}.complete"})


async def ask_hypercorn(tls: Maker, folder: Path, *, times: int = 1) -> None:
    """Have it answer on so many connections; on TLS 1.3 it half-closes each."""
    certificate = folder / "certificate.pem"
    issued = CA.issue_cert(NAME, HOST)
    issued.private_key_and_cert_chain_pem.write_to_path(str(certificate))
    config = hypercorn.Config()
    config.bind = [f"{HOST}:0"]
    config.certfile = config.keyfile = str(certificate)
    over = trio.Event()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            [url] = await nursery.start(
                partial(hypercorn.trio.serve, app, config, shutdown_trigger=over.wait)
            )
            for _ in range(times):
                client = await open_tls_over_tcp_stream(
                    HOST,
                    int(url.rpartition(":")[2]),
                    ssl_context=client_context(tls.version),
                    https_compatible=True,
                )
                await client.send_all(REQUEST)
                answer = b"".join([chunk async for chunk in client])
                assert answer.startswith(b"HTTP/1.1 200 ")
                assert answer.endswith(b"\r\n\r\n1.1")
                # With https_compatible only a half-close sends close_notify.
                half_closed = client.report.close_notify_received
                assert half_closed is (tls.version == "TLSv1.3")
                await client.aclose()
            over.set()


@pytest.mark.usefixtures("in_place")
async def test_hypercorn_goes_on_serving_after_each_connection(
    tls: Maker, tmp_path: Path
) -> None:
    """On TLS 1.2 it has to be told that there is no half-close in words it knows."""
    await ask_hypercorn(tls, tmp_path, times=3)
