"""A server behind a proxy that names the client: the PROXY protocol, versions 1 and 2.

`read_proxy_header` is the *prepare* of a `TLSServer`. After it, log lines name the client
instead of the proxy, and the handler finds the client's address in `peer_name`.

Anyone who can connect to the port can claim any address, so make sure that only the proxy
can.

The protocol: https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt. In HAProxy:

    server tls 127.0.0.1:8443 send-proxy-v2 check

Its health checks connect and say nothing; they are no errors.
"""

import signal
import ssl
import sys
from ipaddress import ip_address

import trio

from trio_tlsdown import TLSStream, open_tls_nursery, peer_name, receive_until_drain

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"  # of version 2
MOST_V1 = 107  # bytes, of a header of version 1
MOST_V2 = 2**12  # bytes; what comes behind the addresses can be long


class ProxyProtocolError(Exception):
    """This is not a valid header of the PROXY protocol."""


async def read_proxy_header(transport: trio.abc.Stream) -> bytes | None:
    # A silent client does not delay a drain.
    data = bytes(await receive_until_drain(transport, 2**12))
    if not data:
        return None  # a health check
    while (parsed := parse(data)) is None:
        more = await transport.receive_some(2**12)
        if not more:
            raise ProxyProtocolError("the header was cut")
        data += more
    address, size = parsed
    if address is not None:
        peer_name.set(address)
    return data[size:]  # the beginning of TLS


def parse(data: bytes) -> tuple[str | None, int] | None:
    """The client, if the proxy names it, and the header's size; None if incomplete."""
    if data.startswith(SIGNATURE[: len(data)]):
        return parse_v2(data)
    if data.startswith(b"PROXY "[: len(data)]):
        return parse_v1(data)
    raise ProxyProtocolError(f"this is no header: {data[:16]!r}")


def parse_v1(data: bytes) -> tuple[str | None, int] | None:
    line, end, _ = data[:MOST_V1].partition(b"\r\n")
    if not end:
        if len(data) >= MOST_V1:
            raise ProxyProtocolError("the line is too long")
        return None
    match line.split(b" "):
        case [b"PROXY", b"UNKNOWN", *_]:
            return None, len(line) + 2
        case [b"PROXY", b"TCP4" | b"TCP6", source, _, port, _]:
            return name(source.decode("latin-1"), port.decode("latin-1")), len(line) + 2
        case _:
            raise ProxyProtocolError(f"this is no header: {line!r}")


def parse_v2(data: bytes) -> tuple[str | None, int] | None:
    if len(data) < 16:
        return None
    size = 16 + int.from_bytes(data[14:16], "big")
    if size > MOST_V2:
        raise ProxyProtocolError(f"a header of {size} bytes")
    if len(data) < size:
        return None
    command, family = data[12], data[13]
    if command not in (0x20, 0x21):
        raise ProxyProtocolError(f"an unknown version and command: {command:#x}")
    length = {0x11: 4, 0x21: 16}.get(family, 0)  # TCP over IPv4 and IPv6
    if command == 0x20 or not length:  # the proxy itself, or a Unix socket
        return None, size
    if size < 16 + 2 * length + 4:
        raise ProxyProtocolError("the addresses are cut")
    source = ip_address(data[16 : 16 + length])
    port = int.from_bytes(data[16 + 2 * length : 18 + 2 * length], "big")
    return name(str(source), str(port)), size


def name(host: str, port: str) -> str:
    try:
        address = ip_address(host)
        number = int(port)
    except ValueError as exc:
        raise ProxyProtocolError(f"no address: {host!r}, {port!r}") from exc
    return f"[{address}]:{number}" if address.version == 6 else f"{address}:{number}"


async def greet(stream: TLSStream[trio.SocketStream]) -> None:
    await stream.send_all(f"hello {peer_name.get()}\n".encode())


async def main(certificate: str, key: str, port: int) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with open_tls_nursery() as tls:
            server = await tls.start_server(
                greet, port, context, host="127.0.0.1", prepare=read_proxy_header
            )
            print("listening on port", server.addresses[0][1], flush=True)
            async for _ in signals:
                break
            await server.drain(grace=10)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
