"""An HTTP/1.1 client that knows whether the answer is complete.

An answer with a length is complete when that many bytes have arrived. One without a length
ends with the connection, so it is complete only if the server's close_notify arrived
(RFC 9112 section 9.8). h11 checks lengths, TLSStream checks for the close_notify.

    python h11_client.py example.org 443 /
"""

import sys

import h11
import trio

from trio_tlsdown import TruncatedError, open_tls_nursery


async def get(stream: trio.abc.Stream, host: str, target: str) -> tuple[int, bytes]:
    """Return the status and the body of a complete answer.

    Raises:
      TruncatedError: it ends with the connection, which was cut.
      h11.RemoteProtocolError: it is shorter than announced.
    """
    connection = h11.Connection(h11.CLIENT)
    headers = [("Host", host), ("Connection", "close")]
    request = connection.send(h11.Request(method="GET", target=target, headers=headers))
    await stream.send_all(
        (request or b"") + (connection.send(h11.EndOfMessage()) or b"")
    )
    status, body = 0, bytearray()
    while True:
        match connection.next_event():
            case h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some()))
            case h11.Response(status_code=status):
                pass
            case h11.Data(data=data):
                body += data
            case h11.EndOfMessage():
                return status, bytes(body)
            case other:
                raise h11.RemoteProtocolError(f"unexpected: {other!r}")


async def main(host: str, port: int, target: str) -> str | None:
    """Print the size of the answer, or return what went wrong."""
    async with open_tls_nursery() as tls:
        stream = await tls.connect(host, port)
        try:
            status, body = await get(stream, host, target)
        except (TruncatedError, h11.RemoteProtocolError) as exc:
            return f"the answer is incomplete: {exc}"
        print(status, len(body), "bytes")
        return None


if __name__ == "__main__":
    sys.exit(trio.run(main, sys.argv[1], int(sys.argv[2]), sys.argv[3]))
