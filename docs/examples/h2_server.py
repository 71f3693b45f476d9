"""HTTP/2 by h2 over a TLSStream: h2 knows the protocol, TLSStream the connection.

python h2_server.py cert.pem key.pem 8443
"""

import ssl
import sys

import h2.config
import h2.connection
import h2.events
import trio

from trio_tlsdown import TLSStream, open_tls_nursery


def server_context(cert: str, key: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["h2"])
    return context


async def handler(stream: TLSStream[trio.SocketStream]) -> None:
    """Answer each request with its path, which is short enough for the first window."""
    if stream.selected_alpn_protocol() != "h2":
        return
    connection = h2.connection.H2Connection(
        h2.config.H2Configuration(client_side=False)
    )
    connection.initiate_connection()
    await stream.send_all(connection.data_to_send())
    async for data in stream:
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                path = dict(event.headers)[b":path"]
                connection.send_headers(event.stream_id, [(":status", "200")])
                connection.send_data(event.stream_id, path, end_stream=True)
        await stream.send_all(connection.data_to_send())


async def main(cert: str, key: str, port: str) -> None:
    async with open_tls_nursery() as tls:
        await tls.start_server(handler, int(port), server_context(cert, key))
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], sys.argv[3])
