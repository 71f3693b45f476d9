"""One connection of a server echoes while many others shake hands at once.

The clients connect over TCP, and send all their ClientHellos within a few milliseconds.
Then one byte goes there and back on the connection that was there before, again and again;
between two of these the handshakes go on, each until a byte has come back on it, too.
Timed: one send on the established connection, and the wait for the answer. A sample is one
exchange.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import time
from contextlib import suppress

from benchmarks.sample import Sample

from .crowd import Crowd
from .job import Job


def run(crowd: Crowd, job: Job) -> list[Sample]:
    established, *_ = crowd.connect()
    samples = []
    with selectors.DefaultSelector() as selector:
        socks = [crowd.dial() for _ in range(job.connections)]
        for sock in socks:
            # The kernel keeps the ClientHello, for 200 ms: tcp(7).
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
            sock.settimeout(0)
            with suppress(ssl.SSLWantReadError):
                sock.do_handshake()
            selector.register(sock, selectors.EVENT_READ, sock)
        for sock in socks:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        while selector.get_map():
            began = time.perf_counter()
            established.sendall(b"!")
            established.recv(1)
            samples.append(Sample(time.perf_counter() - began, 0.0))
            for key, _ in selector.select(0):
                if _served(key.data):
                    selector.unregister(key.data)
                    crowd.add(key.data)
    return samples


def _served(sock: ssl.SSLSocket) -> bool:
    """Go on with a handshake; whether a byte has come back behind it."""
    try:
        if sock.version() is None:
            sock.do_handshake()
            sock.sendall(b"!")
        return bool(sock.recv(1))
    except ssl.SSLWantReadError:
        return False
