"""A DNS-over-TLS query (RFC 7858): two bytes of length, then the message.

python dns_over_tls.py 9.9.9.9 853 dns.quad9.net example.org
"""

import sys

import dns.message
import trio

from trio_tlsdown import TruncatedError, open_tls_nursery


async def ask(
    stream: trio.abc.Stream, query: dns.message.Message
) -> dns.message.Message:
    """Send a query, and return its answer."""
    wire = query.to_wire()
    await stream.send_all(len(wire).to_bytes(2, "big") + wire)
    size = int.from_bytes(await receive_exactly(stream, 2), "big")
    answer = dns.message.from_wire(await receive_exactly(stream, size))
    if not query.is_response(answer):
        raise ValueError("this answers another question")
    return answer


async def receive_exactly(stream: trio.abc.Stream, size: int) -> bytes:
    """Receive *size* bytes.

    Raises:
      TruncatedError: the connection was cut.
      EOFError: the server closed, as it may between two messages.
    """
    data = bytearray()
    while len(data) < size:
        chunk = await stream.receive_some(size - len(data))
        if not chunk:
            raise EOFError(f"the server closed after {len(data)} of {size} bytes")
        data += chunk
    return bytes(data)


async def main(address: str, port: int, server_name: str, name: str) -> str | None:
    """Print the answer, or return what went wrong."""
    async with open_tls_nursery() as tls:
        stream = await tls.connect(address, port, server_hostname=server_name)
        try:
            print(await ask(stream, dns.message.make_query(name, "A")))
        except (TruncatedError, EOFError) as exc:
            return f"no answer: {exc}"
        return None


if __name__ == "__main__":
    address, port, server_name, name = sys.argv[1:]
    sys.exit(trio.run(main, address, int(port), server_name, name))
