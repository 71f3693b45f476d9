"""A server holds many idle connections, and then ends all of them gracefully.

The clients are in a process of their own. Each sends a byte, gets it back, and is idle
then. Memory is what the server's resident set grew by while they connected, for each
of them; those of a first batch are not counted, because of what is made once.

When all are there the server is told to end them. In the clock: from that word until
it has sent its close_notify to all, got the clients', and closed; they answer at once.
"""

from __future__ import annotations

import resource
import selectors
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from .far import PATIENCE

WARM_UP: Final = 50  # connections
AT_ONCE: Final = 4  # handshakes
DESCRIPTORS_BESIDE: Final = 100


class Clients:
    """Many connections to one server."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext) -> None:
        self._address = (host, port)
        self._context = context
        self._open: list[ssl.SSLSocket] = []
        self.sessions: set[tuple[str, str]] = set()
        self.endings: Counter[str] = Counter()

    def connect(self, count: int) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            self._open += pool.map(self._connect_one, range(count))
        self.sessions = {
            (sock.version() or "", cipher[0])
            for sock in self._open
            if (cipher := sock.cipher())
        }

    def _connect_one(self, _: int) -> ssl.SSLSocket:
        raw = socket.create_connection(self._address, timeout=PATIENCE)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock = self._context.wrap_socket(
            raw, server_hostname=self._address[0], suppress_ragged_eofs=False
        )
        sock.sendall(b"!")
        if not sock.recv(1):
            raise EOFError("the server has ended too early")
        return sock

    def answer_closes(self) -> None:
        """Until the server has ended all connections."""
        with selectors.DefaultSelector() as selector:
            for sock in self._open:
                sock.settimeout(0)
                selector.register(sock, selectors.EVENT_READ, sock)
            while selector.get_map():
                events = selector.select(PATIENCE)
                if not events:
                    raise TimeoutError("the server does not end its connections")
                for key, _ in events:
                    sock = key.data
                    if self._answer(sock):
                        selector.unregister(sock)
                        sock.close()

    def _answer(self, sock: ssl.SSLSocket) -> bool:
        try:
            if sock.recv(1):
                return False
        except ssl.SSLWantReadError:
            return False
        except OSError:
            self.endings["cut"] += 1
            return True
        self.endings["close_notify"] += 1
        with suppress(OSError):  # the server has not waited for it
            sock.unwrap()
        return True


def allow_descriptors(connections: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + DESCRIPTORS_BESIDE
    if soft == resource.RLIM_INFINITY or wanted <= soft:
        return
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise OSError(f"{wanted} descriptors are needed, and {hard} allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def context_of(ca_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 1 << 7)
    return context


def clients(
    host: str, port: int, ca_file: str, count: int, step: Callable[[int], object]
) -> Clients:
    """Connect the first batch, then *count* more, and wait for the end of all.

    After either batch *step* is called with the number of its connections.
    """
    allow_descriptors(WARM_UP + count)
    crowd = Clients(host, port, context_of(ca_file))
    crowd.connect(WARM_UP)
    step(WARM_UP)
    crowd.connect(count)
    step(count)
    crowd.answer_closes()
    return crowd
