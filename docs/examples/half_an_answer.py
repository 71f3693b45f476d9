"""A server dies in the middle of its answer. Who notices?"""

import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

import trio

from trio_tlsdown import TLSStream
from trio_tlsdown.testing import NAME, client_context, serve_rogue

Client: TypeAlias = Callable[[tuple[str, int], ssl.SSLContext], Awaitable[None]]


async def read_socket(address: tuple[str, int], context: ssl.SSLContext) -> None:
    def read() -> None:
        with socket.create_connection(address) as raw:
            with context.wrap_socket(raw, server_hostname=NAME) as stream:
                while chunk := stream.recv(1000):
                    print(chunk)

    await trio.to_thread.run_sync(read)


async def read_stream(
    stream_type: type[trio.SSLStream[trio.SocketStream] | TLSStream[trio.SocketStream]],
    address: tuple[str, int],
    context: ssl.SSLContext,
) -> None:
    transport = await trio.open_tcp_stream(*address)
    stream = stream_type(transport, context, server_hostname=NAME)
    try:
        async for chunk in stream:
            print(chunk)
    finally:
        await trio.aclose_forcefully(stream)


async def main(context: ssl.SSLContext) -> None:
    server = partial(serve_rogue, "cut_before_close_notify", says=b"half an answer")
    clients: dict[str, Client] = {
        "ssl.SSLSocket": read_socket,
        "trio.SSLStream": partial(read_stream, trio.SSLStream),
        "TLSStream": partial(read_stream, TLSStream),
    }
    async with trio.open_nursery() as nursery:
        address = await nursery.start(server)
        for name, read in clients.items():
            print(f"{name}:")
            try:
                await read(address, context)
                print("the end, all is well")
            except (trio.BrokenResourceError, ssl.SSLError) as exc:
                print(f"{type(exc).__name__}: {exc}")
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, client_context())
