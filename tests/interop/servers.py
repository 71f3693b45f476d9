"""What a test needs to start other people's servers: ports, and PEM files."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from harness.process import Program
from tests.support import CA, CERT

HOST = "127.0.0.1"


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port that the kernel gives to nobody else.

    A program that sets SO_REUSEADDR can bind to it.
    """
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind((HOST, 0))
        yield reserved.getsockname()[1]


async def connect(port: int, program: Program, client: str = HOST) -> trio.SocketStream:
    """Connect again and again: few programs say when they listen."""
    while True:
        try:
            return await trio.open_tcp_stream(HOST, port, local_address=client)
        except OSError:
            assert not program.ended.is_set(), program.log.decode()
            await trio.sleep(0.002)


def key_and_certificate(folder: Path) -> Path:
    """A file with the server's key and its certificate."""
    pem = folder / "server.pem"
    pem.touch(mode=0o600)
    CERT.private_key_and_cert_chain_pem.write_to_path(pem)
    return pem


def certificate_authority(folder: Path) -> Path:
    """A file with the certificate that clients have to trust."""
    pem = folder / "ca.pem"
    CA.cert_pem.write_to_path(pem)
    return pem
