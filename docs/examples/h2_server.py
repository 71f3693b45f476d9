"""An HTTP/2 server, on h2, that drains on SIGTERM.

python h2_server.py cert.pem key.pem 8443
"""

import signal
import ssl
import sys

import h2.config
import h2.connection
import h2.events
import trio

from trio_tlsdown import TLSStream, cancel_on_drain, open_tls_nursery


def server_context(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2"])
    return context


async def handler(stream: TLSStream[trio.SocketStream]) -> None:
    """Answer each request with its path, which fits the first window."""
    if stream.selected_alpn_protocol() != "h2":
        return
    connection = h2.connection.H2Connection(
        h2.config.H2Configuration(client_side=False)
    )
    connection.initiate_connection()
    await stream.send_all(connection.data_to_send())
    while True:
        data = b""
        with cancel_on_drain() as scope:
            data = await stream.receive_some()
        if scope.cancelled_caught:
            connection.close_connection()  # GOAWAY names the last request we answered
            await stream.send_all(connection.data_to_send())
        if not data:
            return
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                path = dict(event.headers)[b":path"]
                connection.send_headers(event.stream_id, [(":status", "200")])
                connection.send_data(event.stream_id, path, end_stream=True)
        await stream.send_all(connection.data_to_send())


async def main(certificate: str, key: str, port: int) -> None:
    context = server_context(certificate, key)
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with open_tls_nursery() as tls:
            server = await tls.start_server(handler, port, context)
            print("listening on port", server.addresses[0][1], flush=True)
            async for _ in signals:
                break
            await server.drain(grace=10)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
