"""An HTTP/1.1 server, on h11, with keep-alive, that drains on SIGTERM.

python h11_server.py cert.pem key.pem 8443
"""

import signal
import ssl
import sys

import h11
import trio

from trio_tlsdown import TLSStream, draining, open_tls_nursery, receive_until_drain

IDLE = 60  # seconds until an idle connection is ended


async def handler(stream: TLSStream[trio.SocketStream]) -> None:
    """Answer each request with its own target and body."""
    connection = h11.Connection(h11.SERVER)
    while request := await next_request(stream, connection):
        target, body = request
        answer = target + b"\n" + body
        headers = [("Content-Length", str(len(answer)))]
        if draining():
            # So that the client sends no request to a connection that is about to end.
            headers.append(("Connection", "close"))
        for event in (
            h11.Response(status_code=200, headers=headers),
            h11.Data(data=answer),
            h11.EndOfMessage(),
        ):
            await stream.send_all(connection.send(event) or b"")
        if connection.our_state is not h11.DONE:
            return  # the client asked for `Connection: close`
        connection.start_next_cycle()


async def next_request(
    stream: TLSStream[trio.SocketStream], connection: h11.Connection
) -> tuple[bytes, bytes] | None:
    """Read a request. A drain may end the wait only while nothing of it has arrived."""
    event = connection.next_event()
    if event is h11.NEED_DATA and not connection.trailing_data[0]:
        first = await receive_until_drain(stream, timeout=IDLE)
        if not first:
            return None  # the client has finished, or the server drains
        connection.receive_data(bytes(first))
        event = connection.next_event()
    target, body = b"", bytearray()
    while not isinstance(event, h11.EndOfMessage):
        match event:
            case h11.NEED_DATA:
                connection.receive_data(await stream.receive_some())
            case h11.Request(target=target):
                pass
            case h11.Data(data=data):
                body += data
            case other:
                raise h11.RemoteProtocolError(f"unexpected: {other!r}")
        event = connection.next_event()
    return target, bytes(body)


async def main(certificate: str, key: str, port: int) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with open_tls_nursery() as tls:
            server = await tls.start_server(handler, port, context)
            print("listening on port", server.addresses[0][1], flush=True)
            async for _ in signals:
                break
            await server.drain(grace=10)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
