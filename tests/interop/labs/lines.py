"""The line protocol, for the labs that are written in Python."""

from __future__ import annotations

import socket
import ssl
import struct
import sys
from typing import Final

# A header that promises 256 bytes, and some of them: RFC 9846 section 5.1.
PART_OF_A_RECORD: Final = b"\x17\x03\x03\x01\x00" + bytes(20)

SERVER_NAME: Final = "localhost"
HOST: Final = "127.0.0.1"


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201 (it is the protocol)


def read_command() -> list[str]:
    """The words of the next line; none at the end."""
    return sys.stdin.readline().split()


def method(command: str) -> str:
    """The name of the method that does it."""
    return command.replace("-", "_")


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For a server and for a client."""
    certificate, key, ca = sys.argv[-3:]
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=ca)


def end(size: int, error: Exception | None = None) -> str:
    """What an application is told when nothing comes any more.

    Args:
      size: Bytes that have come before.
      error: What reading raised, if it did.
    """
    return f"end {kind(error)} {size} {error or ''}".rstrip()


def kind(error: Exception | None) -> str:
    # The latter is how it comes to who has sent close_notify before.
    if error is None or isinstance(error, ssl.SSLZeroReturnError):
        return "clean"
    if isinstance(error, ssl.SSLEOFError):
        return "cut"
    return "reset" if isinstance(error, ConnectionResetError) else "error"


def reset_when_closed(fd: int) -> None:
    """Let the kernel send a RST instead of a FIN."""
    borrowed = socket.socket(fileno=fd)
    borrowed.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    borrowed.detach()
