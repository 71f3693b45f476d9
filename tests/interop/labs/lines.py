"""The line protocol, for the labs that are written in Python."""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

from tests.cuts import is_cut, strict
from tests.interop.data import stretch

# A header that promises 256 bytes, and some of them: RFC 9846 section 5.1.
PART_OF_A_RECORD: Final = b"\x17\x03\x03\x01\x00" + bytes(20)

SERVER_NAME: Final = "localhost"
HOST: Final = "127.0.0.1"


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201 (it is the protocol)


def read_command() -> list[str]:
    """The words of the next line; an empty list at the end."""
    return sys.stdin.readline().split()


def method(lab: object, command: str) -> Callable[..., Any]:
    """The method that does it."""
    found: Callable[..., Any] = getattr(lab, command.replace("-", "_"))
    return found


async def obey(
    lab: object, wait_for: Callable[..., Awaitable[Any]] = asyncio.to_thread
) -> None:
    """Have a lab with asynchronous methods obey its commands.

    Args:
      lab: What its methods return is the answer.
      wait_for: Runs a function in a thread.
    """
    while command := await wait_for(read_command):
        try:
            say(await method(lab, command[0])(*command[1:]))
        except Exception as error:  # noqa: BLE001 (any error is an answer)
            say("failed", kind(error), error)


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For a server and for a client."""
    certificate, key, ca = sys.argv[-3:]
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return strict(server), strict(ssl.create_default_context(cafile=ca))


class Count:
    """What has crossed one connection, and what may still come.

    To receive: `expect`, then read as long as something is `left`, then `answer`.
    """

    def __init__(self) -> None:
        self._sent = self._received = self._before = 0
        self._until: float = 0
        self._ended = False

    def stretch(self, size: str) -> bytes:
        """The data to send next."""
        data = stretch(self._sent, int(size))
        self._sent += len(data)
        return data

    def expect(self, size: str | None = None) -> None:
        """Expect so many bytes; by default, everything until the end."""
        self._before = self._received
        self._until = math.inf if size is None else self._received + int(size)

    @property
    def left(self) -> int:
        """How much a read may return; 0 when everything has come."""
        return 0 if self._ended else int(min(self._until - self._received, 2**16))

    def came(self, data: bytes) -> None:
        """Take what a read returned: no bytes at the end."""
        assert data == stretch(self._received, len(data)), "not what was sent"
        self._received += len(data)
        self._ended = not data

    def answer(self, error: BaseException | None = None) -> str:
        """The answer: how much came, and the end if it came."""
        size = self._received - self._before
        if self._ended or error:
            return end(size, error)
        return f"received {size}"


def end(size: int, error: BaseException | None = None) -> str:
    """The answer at the end of the data.

    Args:
      size: Bytes that came before it.
      error: What reading raised, if it did.
    """
    return f"end {kind(error)} {size} {error or ''}".rstrip()


def kind(error: BaseException | None) -> str:
    # The latter is raised where we have sent close_notify before.
    if error is None or isinstance(error, ssl.SSLZeroReturnError):
        return "clean"
    if is_cut(error):
        return "cut"
    return "reset" if isinstance(error, ConnectionResetError) else "error"


def reset_when_closed(fd: int) -> None:
    """Have the kernel send a RST instead of a FIN."""
    borrowed = socket.socket(fileno=fd)
    borrowed.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    borrowed.detach()
