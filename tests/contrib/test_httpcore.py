"""httpcore with our network backend: what counts as a whole body, and what is reused."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import httpcore
import pytest
import trio

from tests.servers import HOST, Stream, nothing_left, port_of, serving, until
from tests.support import (
    CA,
    NAME,
    Maker,
    client_context,
    needs_posix,
    server_context,
)
from trio_tlsdown import (
    PeerState,
    ShutdownOutcome,
    ShutdownPolicy,
    TLSFailedError,
    TLSStream,
    TruncatedError,
    open_tls_nursery,
)
from trio_tlsdown.contrib.httpcore import TLSBackend
from trio_tlsdown.testing import BEHAVIOURS, RoguePeer, ScriptedPeer, cancel_everywhere

BODY = b"0123456789"
HASTY = ShutdownPolicy(timeout=1, linger_timeout=0.1)


@asynccontextmanager
async def pool_for(
    version: str, backend: TLSBackend | None = None, **options: Any
) -> AsyncIterator[httpcore.AsyncConnectionPool]:
    """A pool that trusts `CA`."""
    async with httpcore.AsyncConnectionPool(
        ssl_context=client_context(version),
        network_backend=TLSBackend(policy=HASTY) if backend is None else backend,
        **options,
    ) as pool:
        yield pool


def asking(**extensions: Any) -> dict[str, Any]:
    """Extensions of a request to `HOST`, whose certificate is for `NAME`."""
    return {"sni_hostname": NAME, **extensions}


@asynccontextmanager
async def listening(
    serve: Callable[[trio.SocketStream], Awaitable[object]],
) -> AsyncIterator[int]:
    """A TCP server on a free port. Neither it nor its clients leave anything behind."""
    async with nothing_left():
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(
                trio.serve_listeners, serve, await trio.open_tcp_listeners(0, host=HOST)
            )
            yield listeners[0].socket.getsockname()[1]
            nursery.cancel_scope.cancel()


# Whole bodies and halves of them:

WHOLE = {
    "length": b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY),
    "chunked": b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"
    % (len(BODY), BODY),
    "until close": b"Connection: close\r\n\r\n" + BODY,
}
# What is missing is more than a flood brings.
HALF = {
    "length": b"Content-Length: %d\r\n\r\n%s" % (2**26, BODY),
    "chunked": b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s" % (2**26, BODY),
}

IN_HANDSHAKE = {name for name in BEHAVIOURS if BEHAVIOURS[name].in_handshake}

# These say on their own that all was said; what they add to the body before.
CONFIRMED = {
    "close_without_waiting": b"",
    "second_close_notify": b"",
    "data_after_close_notify": b"",
    "cleartext_after_close_notify": b"",
    "garbage_after_close_notify": b"",
    "user_canceled_first": b"",
    "slow_drip": b"drip",
    "flood": bytes(2**24),
}

# These wait for our close_notify, which a client that reads a body does not send.
SILENT = {
    "cut_after_close_notify",
    "reset_after_close_notify",
    "never_answer",
    "answer_late",
    "keep_sending_after_close_notify",
    "stall_in_handshake",
}


IN_THE_HANDSHAKE = httpcore.ConnectTimeout, httpcore.ConnectError
# For lack of time, of data, and of more data that were announced.
IN_THE_BODY = httpcore.ReadTimeout, httpcore.ReadError, httpcore.RemoteProtocolError


async def ask_rogue(name: str, version: str, response: bytes) -> bytes | type[Exception]:
    """The body that a rogue server sends, or the exception that this raises."""

    async def serve(transport: trio.SocketStream) -> None:
        says = b"HTTP/1.1 200 OK\r\n" + response
        await RoguePeer(
            name, transport, hears=1, says=says, version=version, ca=CA
        ).run()

    # Only those who say nothing may take too long.
    timeout = {"connect": 30.0, "read": 30.0}
    if name in SILENT:
        timeout["connect" if name in IN_HANDSHAKE else "read"] = 0.3
    async with listening(serve) as port, pool_for(version) as pool:
        try:
            answer = await pool.request(
                "GET", f"https://{HOST}:{port}", extensions=asking(timeout=timeout)
            )
        except (*IN_THE_HANDSHAKE, *IN_THE_BODY) as exc:
            return type(exc)
        return answer.content


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("name", BEHAVIOURS)
async def test_a_body_with_a_length_is_whole_however_the_connection_ends(
    tls: Maker, name: str, framing: str
) -> None:
    result = await ask_rogue(name, tls.version, WHOLE[framing])
    if name in IN_HANDSHAKE:
        assert result in IN_THE_HANDSHAKE
    else:
        assert result == BODY


@pytest.mark.parametrize("framing", HALF)
@pytest.mark.parametrize("name", BEHAVIOURS)
async def test_half_a_body_with_a_length_is_an_error_however_the_connection_ends(
    tls: Maker, name: str, framing: str
) -> None:
    result = await ask_rogue(name, tls.version, HALF[framing])
    assert result in (IN_THE_HANDSHAKE if name in IN_HANDSHAKE else IN_THE_BODY)


@pytest.mark.parametrize("name", BEHAVIOURS)
async def test_a_body_without_a_length_is_whole_after_a_close_notify_and_only_then(
    tls: Maker, name: str
) -> None:
    result = await ask_rogue(name, tls.version, WHOLE["until close"])
    more = CONFIRMED.get(name)
    if name == "fatal_close_notify" and tls.version == "TLSv1.3":
        more = b""  # RFC 9846 section 6: the level can be ignored
    if more is not None:
        assert result == BODY + more
    else:
        assert result in (IN_THE_HANDSHAKE if name in IN_HANDSHAKE else IN_THE_BODY)
