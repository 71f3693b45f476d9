"""What most tests use: certificates, contexts, transports, pairs of streams."""

from __future__ import annotations

import functools
import os
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import pytest
import trio
import trio.testing
import trustme

from trio_tlsdown import TLSStream, testing
from trio_tlsdown._stream import linger
from trio_tlsdown.testing import (
    NAME as NAME,
    ScriptedPeer,
    tcp_transports as tcp_transports,
)
from trio_tlsdown.testing._transports import reset_when_closed

from .cuts import strict

CA = trustme.CA()
CERT = CA.issue_cert(NAME)

VERSIONS = ["TLSv1.2", "TLSv1.3"]

# In place of the fixture `version`, for what takes long and hardly depends on it.
TLS13_FIRST = [pytest.param("TLSv1.2", marks=pytest.mark.long), "TLSv1.3"]


def needs_linux(what: str) -> pytest.MarkDecorator:
    """Skip a test on other systems, which do not have *what*."""
    return pytest.mark.skipif(sys.platform != "linux", reason=f"{what}: Linux only")


def needs_posix(what: str) -> pytest.MarkDecorator:
    """Skip a test on Windows, which does not have *what*."""
    return pytest.mark.skipif(sys.platform == "win32", reason=f"{what}: not on Windows")


# OpenSSL's reasons for a record that cannot be decrypted; 3.2 and newer have one only.
LAYER_FAILED = "RECORD_LAYER_FAILURE"
BAD_RECORD = {"DECRYPTION_FAILED_OR_BAD_RECORD_MAC", LAYER_FAILED}

Transports: TypeAlias = Callable[[], Awaitable[tuple[trio.abc.Stream, trio.abc.Stream]]]


@attrs.frozen
class Files:
    """A certificate, its key, and the CA that has signed it, as files."""

    folder: Path
    certificate: str
    key: str
    ca: str


def write_files(folder: Path) -> Files:
    """Those of this module."""
    files = Files(
        folder, *(str(folder / f"{name}.pem") for name in ("cert", "key", "ca"))
    )
    CERT.cert_chain_pems[0].write_to_path(files.certificate)
    CERT.private_key_pem.write_to_path(files.key)
    CA.cert_pem.write_to_path(files.ca)
    return files


def client_context(version: str | None = None) -> ssl.SSLContext:
    """A context that trusts `CA`, for one TLS version or for all."""
    return strict(testing.client_context(version=version, ca=CA))


def server_context(version: str | None = None) -> ssl.SSLContext:
    """A context with a certificate of `CA` for `NAME`, for one TLS version or for all."""
    return strict(testing.server_context(version=version, ca=CA))


async def memory_transports() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    return trio.testing.memory_stream_pair()


async def lockstep_transports() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    return trio.testing.lockstep_stream_pair()


async def stapled_transports() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    """TCP under a stream that is no `trio.SocketStream`: the socket is out of reach."""
    a, b = await tcp_transports()
    return trio.StapledStream(a, a), trio.StapledStream(b, b)


TRANSPORTS: dict[str, Transports] = {
    "memory": memory_transports,
    "lockstep": lockstep_transports,
    "tcp": tcp_transports,
    "stapled": stapled_transports,
}


def descriptors() -> set[tuple[int, int, int]]:
    """The files and sockets that this process has open; none where that is not shown.

    Compare with `assert descriptors() <= before`, which finds what is new. A mere count
    would not do: what other tests have left, such as a context with an open key log, may
    be garbage-collected, and closed, at any time.
    """
    found = set()
    for number in map(int, os.listdir("/dev/fd") if os.path.isdir("/dev/fd") else ()):
        with suppress(OSError):  # that of listdir() itself is closed by now
            status = os.fstat(number)
            found.add((number, status.st_dev, status.st_ino))
    return found


def unread(sock: trio.socket.SocketType) -> int:
    """How many bytes the kernel has received that nobody has read."""
    return linger.unread(sock) or 0


def reset(stream: TLSStream[Any]) -> None:
    """Make the kernel send RST instead of FIN when this TCP stream closes."""
    transport = stream.transport_stream
    assert isinstance(transport, trio.SocketStream)
    reset_when_closed(transport)


async def shake_hands(client: Any, server: Any) -> None:
    """Run the handshake of both at once: each needs the other."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        nursery.start_soon(server.do_handshake)


async def cut(stream: TLSStream[Any]) -> None:
    """Close the transport first: the peer sees a FIN and no close_notify."""
    await stream.transport_stream.aclose()
    await trio.aclose_forcefully(stream)


# Each takes as long to make as a handshake. Who changes one makes his own.
_client_context = functools.cache(client_context)
_server_context = functools.cache(server_context)


@attrs.frozen
class Maker:
    """Makes connections of one TLS version. Tests get one from the fixture `tls`."""

    version: str

    def wrap(
        self,
        transports: tuple[trio.abc.Stream, trio.abc.Stream],
        *,
        client: dict[str, Any] | None = None,
        server: dict[str, Any] | None = None,
    ) -> tuple[TLSStream[Any], TLSStream[Any]]:
        """A client and a server that have not shaken hands yet.

        Args:
          transports: What they talk over.
          client: More arguments of the client's TLSStream.
          server: More arguments of the server's.
        """
        return (
            TLSStream(
                transports[0],
                _client_context(self.version),
                server_hostname=NAME,
                **client or {},
            ),
            TLSStream(
                transports[1],
                _server_context(self.version),
                server_side=True,
                **server or {},
            ),
        )

    def peer(
        self, transport: trio.abc.Stream, *, server_side: bool = True
    ) -> ScriptedPeer:
        """A peer that the test plays record by record; it has not shaken hands yet."""
        return ScriptedPeer(
            transport, server_side=server_side, version=self.version, ca=CA
        )

    async def pair(
        self, kind: str = "memory", **options: Any
    ) -> tuple[TLSStream[Any], TLSStream[Any]]:
        """A client and a server that have shaken hands.

        Args:
          kind: A key of `TRANSPORTS`.
          **options: As for `wrap`.
        """
        client, server = self.wrap(await TRANSPORTS[kind](), **options)
        await shake_hands(client, server)
        return client, server

    @asynccontextmanager
    async def client_and_bare_server(
        self, transport: str = "memory", **options: Any
    ) -> AsyncIterator[tuple[TLSStream[Any], ScriptedPeer]]:
        """A TLSStream, and a server that the test plays record by record.

        They have shaken hands. Both are closed behind the block.

        Args:
          transport: A key of `TRANSPORTS`.
          **options: More arguments of the TLSStream.
        """
        ours, theirs = await TRANSPORTS[transport]()
        client = TLSStream(
            ours, _client_context(self.version), server_hostname=NAME, **options
        )
        peer = self.peer(theirs)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.do_handshake)
            nursery.start_soon(peer.handshake)
        try:
            yield client, peer
        finally:
            await trio.aclose_forcefully(client)
            await trio.aclose_forcefully(theirs)

    @asynccontextmanager
    async def server_and_bare_client(
        self, transport: str = "memory", **options: Any
    ) -> AsyncIterator[tuple[TLSStream[Any], ScriptedPeer]]:
        """The same with a TLSStream as the server."""
        theirs, ours = await TRANSPORTS[transport]()
        server = TLSStream(
            ours, _server_context(self.version), server_side=True, **options
        )
        peer = self.peer(theirs, server_side=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.do_handshake)
            nursery.start_soon(peer.handshake)
        try:
            yield server, peer
        finally:
            await trio.aclose_forcefully(server)
            await trio.aclose_forcefully(theirs)


async def must_raise(
    error: type[Exception], call: Callable[..., Awaitable[object]], *args: object
) -> None:
    """Call it, for a task whose call has to fail."""
    with pytest.raises(error):
        await call(*args)


async def collect(
    results: list[Any], call: Callable[..., Awaitable[object]], *args: object
) -> None:
    """Call it, and keep the result."""
    results.append(await call(*args))


async def cancel_when_blocked(scope: trio.CancelScope) -> None:
    """Cancel as soon as all tasks wait for something."""
    await trio.testing.wait_all_tasks_blocked()
    scope.cancel()
