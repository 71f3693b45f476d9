"""An echo server that stops gracefully on SIGTERM, within a deadline.

Run it with a certificate, its key, a port, and the grace: the number of seconds that
answers may take after SIGTERM::

    python graceful_server.py cert.pem key.pem 8443 10 &
    openssl s_client -connect localhost:8443
    kill %1

Idle clients get a close_notify at once, and answers that have begun are finished. Within
twice the grace the server ends, with exit code 0, whatever its clients do. A supervisor has
to wait that long before it kills the process.
"""

import signal
import ssl
import sys

import trio

from trio_tlsdown import (
    ShutdownPolicy,
    TLSStream,
    open_tls_nursery,
    receive_until_drain,
)


async def echo(stream: TLSStream[trio.SocketStream]) -> None:
    while request := await receive_until_drain(stream):
        await stream.send_all(request)


async def main(certificate: str, key: str, port: int, grace: float) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    # For those that do not answer our goodbye: what is left of twice the grace.
    policy = ShutdownPolicy(timeout=grace / 2, linger_timeout=grace / 4)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with open_tls_nursery(policy) as tls:
            server = await tls.start_server(echo, port, context, host="127.0.0.1")
            print("listening on port", server.addresses[0][1], flush=True)
            async for _ in signals:
                break
            report = await server.drain(grace=grace)
    for outcome, count in report.tally.items():
        print(count, outcome.value)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
