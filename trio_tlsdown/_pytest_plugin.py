"""Fixtures for pytest-trio: pairs, servers, and peers that misbehave.

pytest loads this in every project where the package is installed. So it imports
nothing but pytest and what the package itself needs; the rest, which comes with the
extra ``testing``, when a fixture is used.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import trio
    import trustme

    from . import testing

EXTRA = ("pytest_trio", "trustme", "cryptography")
FOR_ASYNC_TESTS = ("tls_pair", "tls_server", "rogue_peer")


@pytest.fixture(scope="session")
def _tlsdown_extra() -> None:
    for needed in EXTRA:
        if find_spec(needed) is None:
            pytest.fail(
                f"the fixtures of trio-tlsdown need {needed.replace('_', '-')}, which "
                "comes with: pip install 'trio-tlsdown[testing]'",
                pytrace=False,
            )


@pytest.fixture
def _tlsdown_trio(_tlsdown_extra: None, request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("trio") is None:
        used = " and ".join(
            name for name in FOR_ASYNC_TESTS if name in request.fixturenames
        )
        pytest.fail(
            f"{request.node.name} uses {used}, which takes an async test that "
            "pytest-trio runs: make it `async def`, and either set trio_mode = true in "
            "pytest's configuration or mark it with @pytest.mark.trio",
            pytrace=False,
        )


@pytest.fixture(scope="session")
def tls_ca(_tlsdown_extra: None) -> trustme.CA:
    """A throw-away certificate authority (`trustme.CA`): one a session."""
    import trustme

    return trustme.CA()


@pytest.fixture
def tls_server_context(tls_ca: trustme.CA) -> ssl.SSLContext:
    """A context for a server that is called localhost, 127.0.0.1 and ::1.

    Override it, or ``tls_client_context``, and the fixtures below follow.
    """
    from .testing import server_context

    return server_context(ca=tls_ca)


@pytest.fixture
def tls_client_context(tls_ca: trustme.CA) -> ssl.SSLContext:
    """A context for a client that trusts the servers of ``tls_ca`` only."""
    from .testing import client_context

    return client_context(ca=tls_ca)


@pytest.fixture
async def tls_pair(
    _tlsdown_trio: None,
    tls_client_context: ssl.SSLContext,
    tls_server_context: ssl.SSLContext,
) -> AsyncGenerator[testing.TLSPair[testing.MemoryTransport]]:
    """Two connected TLSStreams in memory: ``client, server = tls_pair``."""
    from .testing import memory_transports, wrap_pair

    contexts = tls_client_context, tls_server_context
    async with await wrap_pair(memory_transports(), contexts) as pair:
        yield pair


@pytest.fixture
def tls_server(
    _tlsdown_trio: None,
    nursery: trio.Nursery,
    tls_client_context: ssl.SSLContext,
    tls_server_context: ssl.SSLContext,
) -> Callable[..., Awaitable[testing.LoopbackServer]]:
    """A function that starts a TLS server on loopback, with a handler of yours.

    ``server = await tls_server(handler)``: the arguments are those of
    `trio_tlsdown.testing.start_server`. Clients connect with
    ``await server.connect()``; ``await server.wait_reports()`` tells how they ended.
    """
    from .testing import start_server

    return partial(
        start_server, nursery, server=tls_server_context, client=tls_client_context
    )


@pytest.fixture
def rogue_peer(
    _tlsdown_trio: None,
    nursery: trio.Nursery,
    tls_ca: trustme.CA,
    tls_client_context: ssl.SSLContext,
    tls_server_context: ssl.SSLContext,
) -> Callable[..., Awaitable[testing.RogueConnection]]:
    """A function that connects to a peer which ends badly, in a way you name.

    `trio_tlsdown.testing.BEHAVIOURS` has the names::

        async with await rogue_peer("cut_before_close_notify") as stream:
            with pytest.raises(trio.BrokenResourceError):
                await fetch(stream)

    The arguments are those of `trio_tlsdown.testing.connect_rogue`. The stream has
    the ``tls_client_context`` (or ``tls_server_context``, if the peer is the client),
    unless they ask for another one.
    """
    from .testing import ContextOptions, connect_rogue

    def connect(name: str, **options: Any) -> Awaitable[testing.RogueConnection]:
        if not ContextOptions.__annotations__.keys() & options.keys():
            ours = (
                tls_client_context
                if options.get("server_side", True)
                else tls_server_context
            )
            options.setdefault("context", ours)
        options.setdefault("ca", tls_ca)
        return connect_rogue(nursery, name, **options)

    return connect
