"""A line protocol that switches to TLS and back: STARTTLS, and PLAIN.

Both switches need care:

- Into TLS: whatever arrives together with STARTTLS is refused. It was sent in clear text,
  maybe by an attacker, and must not be taken for something that was said under TLS:
  https://www.cve.org/CVERecord?id=CVE-2011-0411. A client has to check what follows the
  server's answer, too.
- Out of TLS: `unwrap` returns the bytes that followed the peer's close_notify. They are the
  first ones in clear text.

`serve` does both by hand, on one connection. `before_tls` is the *prepare* of a
`TLSServer`, which drains, limits and counts connections like any other. Run it with a
certificate, its key, and a port; it drains on SIGTERM::

    python starttls.py cert.pem key.pem 8025
"""

import signal
import ssl
import sys

import trio

from trio_tlsdown import TLSStream, open_tls_nursery, receive_until_drain

LONGEST_LINE = 1000  # bytes


class InjectionError(Exception):
    """Clear text arrived where TLS should begin."""


class Lines:
    """Reads lines, and keeps what follows them."""

    def __init__(self, stream: trio.abc.ReceiveStream, rest: bytes = b"") -> None:
        self.stream = stream
        self.rest = rest

    async def next(self) -> bytes:
        """Return the next line, or ``b""`` at the end."""
        while b"\n" not in self.rest:
            if len(self.rest) > LONGEST_LINE:
                raise ValueError("the line is too long")
            if not (data := await self.stream.receive_some()):
                return b""
            self.rest += data
        line, _, self.rest = self.rest.partition(b"\n")
        return line.strip()


def check_nothing_was_injected(lines: Lines) -> None:
    if lines.rest:
        raise InjectionError(f"{len(lines.rest)} bytes arrived before TLS")


async def serve(transport: trio.abc.Stream, context: ssl.SSLContext) -> None:
    """Answer each line; obey STARTTLS in clear text, and PLAIN under TLS."""
    stream: trio.abc.Stream = transport
    lines = Lines(stream)
    while line := await lines.next():
        if line == b"STARTTLS" and isinstance(stream, TLSStream):
            await stream.send_all(b"this is TLS already\n")
        elif line == b"STARTTLS":
            check_nothing_was_injected(lines)
            await stream.send_all(b"go ahead\n")
            stream = TLSStream(transport, context, server_side=True)
            lines = Lines(stream)
        elif line == b"PLAIN" and isinstance(stream, TLSStream):
            await stream.send_all(b"clear text from now on\n")
            transport, trailing = await stream.unwrap()
            stream = transport
            lines = Lines(stream, trailing)
        else:
            await stream.send_all(b"you said: " + line + b"\n")


async def next_line(lines: Lines) -> bytes:
    """The next line. A drain may end the wait only while nothing of it has arrived."""
    lines.rest = lines.rest or bytes(await receive_until_drain(lines.stream))
    return await lines.next() if lines.rest else b""


async def before_tls(transport: trio.abc.Stream) -> None:
    """The same in clear text, until STARTTLS."""
    lines = Lines(transport)
    while line := await next_line(lines):
        if line == b"STARTTLS":
            check_nothing_was_injected(lines)
            await transport.send_all(b"go ahead\n")
            return
        await transport.send_all(b"you said: " + line + b"\n")


async def under_tls(stream: TLSStream[trio.SocketStream]) -> None:
    """The handler: the same under TLS."""
    lines = Lines(stream)
    while line := await next_line(lines):
        await stream.send_all(b"you said: " + line + b"\n")


async def start_tls(
    transport: trio.abc.Stream, context: ssl.SSLContext, server_hostname: str
) -> TLSStream[trio.abc.Stream]:
    """The client's side of STARTTLS."""
    await transport.send_all(b"STARTTLS\n")
    lines = Lines(transport)
    if await lines.next() != b"go ahead":
        raise ConnectionError("the server does not want to")
    check_nothing_was_injected(lines)
    return TLSStream(transport, context, server_hostname=server_hostname)


async def main(certificate: str, key: str, port: int) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with open_tls_nursery() as tls:
            server = await tls.start_server(
                under_tls, port, context, host="127.0.0.1", prepare=before_tls
            )
            print("listening on port", server.addresses[0][1], flush=True)
            async for _ in signals:
                break
            await server.drain(grace=10)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
