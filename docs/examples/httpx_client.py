"""httpx on TLSStream: a truncated body is an error.

python httpx_client.py https://example.org/
"""

import ssl
import sys

import httpcore
import httpx
import trio

from trio_tlsdown.contrib.httpcore import TLSBackend
from trio_tlsdown.contrib.httpx import PoolTransport


def open_client(context: ssl.SSLContext) -> httpx.AsyncClient:
    pool = httpcore.AsyncConnectionPool(
        ssl_context=context, http2=True, network_backend=TLSBackend()
    )
    return httpx.AsyncClient(transport=PoolTransport(pool))


async def main(url: str) -> None:
    async with open_client(ssl.create_default_context()) as client:
        try:
            response = await client.get(url)
        except httpx.TransportError as exc:
            sys.exit(f"no complete response: {exc!r}")
        print(response.http_version, response.status_code, len(response.content))


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
