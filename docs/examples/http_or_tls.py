"""HTTP or TLS on one port: requests in clear text are redirected to https.

The first byte tells: a TLS record with a ClientHello begins with 22 (RFC 9846 section 5.1),
and no HTTP request does. The bytes that were read to find out are passed on to TLS.
"""

import signal
import ssl
import sys

import trio

from trio_tlsdown import TLSStream, open_tls_nursery, receive_until_drain

MOST = 2**13  # bytes, of the head of a request


class NoRequestError(Exception):
    """This is neither TLS nor HTTP."""


async def redirect_http(transport: trio.abc.Stream) -> bytes | None:
    head = bytes(await receive_until_drain(transport, MOST))
    if not head or head[0] == 22:
        return head
    while b"\r\n\r\n" not in head:
        more = await transport.receive_some(MOST)
        if not more or len(head) > MOST:
            raise NoRequestError(f"this is no request: {head[:32]!r}")
        head += more
    await transport.send_all(
        b"HTTP/1.1 308 Permanent Redirect\r\n"
        b"Location: https://" + host_of(head) + path_of(head) + b"\r\n"
        b"Content-Length: 0\r\n"
        b"Connection: close\r\n\r\n"
    )
    await transport.aclose()  # no TLS will follow, and nothing is wrong
    return None


def host_of(head: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"host":
            return word(value.strip())
    raise NoRequestError("there is no Host")


def path_of(head: bytes) -> bytes:
    words = head.split(b"\r\n")[0].split(b" ")
    if len(words) != 3 or words[2] not in (b"HTTP/1.0", b"HTTP/1.1"):
        raise NoRequestError(f"this is no request: {head[:32]!r}")
    return word(words[1])


def word(value: bytes) -> bytes:
    """Return *value*, if it cannot smuggle another header into our answer."""
    if not value or min(value) <= 32 or max(value) >= 127:
        raise NoRequestError(f"invalid characters: {value[:32]!r}")
    return value


async def answer(stream: TLSStream[trio.SocketStream]) -> None:
    head = await receive_until_drain(stream)
    if head:
        await stream.send_all(
            b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nsecure\n"
        )


async def main(certificate: str, key: str, port: int) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with open_tls_nursery() as tls:
            server = await tls.start_server(
                answer, port, context, host="127.0.0.1", prepare=redirect_http
            )
            print("listening on port", server.addresses[0][1], flush=True)
            async for _ in signals:
                break
            await server.drain(grace=10)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
