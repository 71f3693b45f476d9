"""A server that reloads its certificate on SIGHUP, and drains on SIGTERM.

    python reload_certificate.py cert.pem key.pem 8443 &
    certbot renew; kill -HUP %1

Open connections keep the certificate they began with.
"""

import signal
import ssl
import sys

import trio

from trio_tlsdown import TLSStream, open_tls_nursery, receive_until_drain


def load(certificate: str, key: str) -> ssl.SSLContext:
    """A new context each time: a failure to load would break one that is in use."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


async def echo(stream: TLSStream[trio.SocketStream]) -> None:
    while data := await receive_until_drain(stream):
        await stream.send_all(data)


async def main(certificate: str, key: str, port: int) -> None:
    with trio.open_signal_receiver(signal.SIGHUP, signal.SIGTERM) as signals:
        async with open_tls_nursery() as tls:
            context = load(certificate, key)
            server = await tls.start_server(echo, port, context)
            print("listening on port", server.addresses[0][1], flush=True)
            async for number in signals:
                if number == signal.SIGTERM:
                    break
                try:
                    server.ssl_context = load(certificate, key)
                    print("loaded", flush=True)
                except (OSError, ssl.SSLError) as exc:
                    print("the old certificate stays:", exc, flush=True)
            await server.drain(grace=10)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
