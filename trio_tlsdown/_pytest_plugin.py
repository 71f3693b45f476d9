"""Fixtures for pytest-trio: pairs, servers, and peers that misbehave.

pytest loads this in every project where the package is installed. So it imports
nothing but pytest, and what else it needs when a fixture is used.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import trio
    import trustme

    from . import testing

EXTRA = ("pytest_trio", "trustme", "cryptography")


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
        pytest.fail(
            "this fixture is for async tests of pytest-trio: set trio_mode = true in "
            "pytest's configuration, or mark the test with @pytest.mark.trio",
            pytrace=False,
        )


@pytest.fixture(scope="session")
def tls_ca(_tlsdown_extra: None) -> trustme.CA:
    """A throw-away certificate authority (`trustme.CA`): one a session."""
    import trustme

    return trustme.CA()


@pytest.fixture
def tls_server_context(tls_ca: trustme.CA) -> ssl.SSLContext:
    """A context for a server that is called localhost, 127.0.0.1 and ::1."""
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
    """A function that starts a TLS server on loopback, and tells how it went."""
    from .testing import start_server

    return partial(
        start_server, nursery, server=tls_server_context, client=tls_client_context
    )


@pytest.fixture
def rogue_peer(
    _tlsdown_trio: None,
    nursery: trio.Nursery,
    tls_ca: trustme.CA,
) -> Callable[..., Awaitable[testing.RogueConnection]]:
    """A function that connects to a peer which ends badly, in a way you name."""
    from .testing import connect_rogue

    return partial(connect_rogue, nursery, ca=tls_ca)
