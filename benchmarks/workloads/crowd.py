"""The reference clients: many connections to one server."""

from __future__ import annotations

import resource
import selectors
import socket
import ssl
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

import psutil

from .server import IGNORE_UNEXPECTED_EOF, PATIENCE

WARM_UP: Final = 50  # connections: what is made once does not count
AT_ONCE: Final = 4  # handshakes
SETTLE: Final = 0.1  # seconds, until the server has done what a connection left to do
DESCRIPTORS_BESIDE: Final = 100


class Crowd:
    """Clients of the server in process *pid*."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, pid: int) -> None:
        self._address = (host, port)
        self._context = context
        self._process = psutil.Process(pid)
        # CPU time in nanoseconds, of a process and all its threads: as made by
        # clock_getcpuclockid(3).
        self._cpu_clock = ~pid << 3 | 2
        self._open: list[ssl.SSLSocket] = []
        self.memory: float | None = None
        """Bytes for each connection, where that was measured."""
        self.sessions: set[tuple[str, str]] = set()
        self.endings: Counter[str] = Counter()

    def server_cpu(self) -> float:
        """Seconds of CPU time that the server has had."""
        return time.clock_gettime(self._cpu_clock)

    def server_memory(self) -> int:
        """Bytes of the server's resident set, once it has settled."""
        time.sleep(SETTLE)
        return int(self._process.memory_info().rss)

    def dial(self) -> ssl.SSLSocket:
        """A TCP connection, before the handshake."""
        raw = socket.create_connection(self._address, timeout=PATIENCE)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._context.wrap_socket(
            raw,
            server_hostname=self._address[0],
            suppress_ragged_eofs=False,
            do_handshake_on_connect=False,
        )

    def add(self, sock: ssl.SSLSocket) -> None:
        """Keep an open connection, which the server will end."""
        self._open.append(sock)
        self.note(sock)

    def note(self, sock: ssl.SSLSocket) -> None:
        cipher = sock.cipher()
        assert cipher is not None
        self.sessions.add((sock.version() or "", cipher[0]))

    def connect(self, count: int = WARM_UP) -> list[ssl.SSLSocket]:
        """Open connections, with a byte there and back on each."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            socks = list(pool.map(self._connect_one, range(count)))
        for sock in socks:
            self.add(sock)
        return socks

    def _connect_one(self, _: int) -> ssl.SSLSocket:
        sock = self.dial()
        sock.do_handshake()
        sock.sendall(b"!")
        if not sock.recv(1):
            raise EOFError("the server ended too early")
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
        with suppress(OSError):  # the server did not wait for it
            sock.unwrap()
        return True


def allow_descriptors(connections: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + WARM_UP + DESCRIPTORS_BESIDE
    if soft == resource.RLIM_INFINITY or wanted <= soft:
        return
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise OSError(f"{wanted} descriptors are needed, and {hard} allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def context_of(ca_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options &= ~IGNORE_UNEXPECTED_EOF
    return context
