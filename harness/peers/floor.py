"""The lower bound for a TLS stream on Trio: the calls that sending cannot do without.

OpenSSL encrypts, the kernel takes the bytes, and the scheduler gets one turn. Nothing
checks for another task that sends, or for a connection that has ended: this is not a
stream, it is a bound.
"""

from __future__ import annotations

import os
import ssl

import trio

from .interface import Connection, PythonPeer


async def connect(host: str, port: int, context: ssl.SSLContext) -> Connection:
    transport = await trio.open_tcp_stream(host, port)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=host)
    descriptor = transport.socket.fileno()

    async def send(data: bytes) -> None:
        tls.write(data)
        sealed = outgoing.read()
        sent = os.write(descriptor, sealed)
        if sent < len(sealed):  # pragma: no cover - if the kernel is busy
            await transport.send_all(sealed[sent:])
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def receive_at_most(size: int) -> bytes:
        while True:
            try:
                return tls.read(size)
            except ssl.SSLWantReadError:
                incoming.write(await transport.receive_some())

    async def receive() -> bytes:
        return await receive_at_most(2**14)

    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            await transport.send_all(outgoing.read())
            incoming.write(await transport.receive_some())
        else:
            await transport.send_all(outgoing.read())
            break

    async def end() -> None:
        try:
            tls.unwrap()
        except ssl.SSLWantReadError:  # pragma: no cover - if the peer has not ended it
            await transport.send_all(outgoing.read())
        await transport.aclose()

    return Connection(
        send=send,
        receive=receive,
        receive_at_most=receive_at_most,
        shutdown=end,
        close=end,
    )


PEER = PythonPeer(
    version=f"{ssl.OPENSSL_VERSION}, trio {trio.__version__}",
    run=trio.run,
    connect=connect,
)
