"""What Python programs are told of four bad endings, with four TLS stacks.

It needs anyio and the extra ``testing``, and prints the versions and the results::

    python how_others_end.py

Each client reads until the end, then closes, for 3 seconds at most.
"""

import asyncio
import platform
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.metadata import version
from typing import TypeAlias

import anyio
import trio
from anyio.streams.tls import TLSStream as AnyioStream

from trio_tlsdown import TLSStream
from trio_tlsdown.testing import NAME, client_context, serve_rogue

PATIENCE = 3.0  # seconds

BEHAVIOURS = (
    "cut_before_close_notify",
    "cut_inside_record",
    "never_answer",
    "keep_sending_after_close_notify",
)

# What reading told, if the peer ends by itself; what closing told.
Told: TypeAlias = tuple[str, str]
Client: TypeAlias = Callable[[str, int, bool], Awaitable[Told]]


async def told(action: Awaitable[object]) -> str:
    """Await something; say how it ended."""
    try:
        result = await action
    except TimeoutError:
        return "still waiting"
    except (OSError, anyio.BrokenResourceError, trio.BrokenResourceError) as exc:
        name = type(exc).__name__
        return f"{name}, {exc.reason}" if isinstance(exc, ssl.SSLError) else name
    return "the end" if result is None else str(result)


async def use_trio(
    stream_type: Callable[..., TLSStream[trio.SocketStream]],
    host: str,
    port: int,
    reads: bool,
) -> Told:
    transport = await trio.open_tcp_stream(host, port)
    stream = stream_type(transport, client_context(), server_hostname=NAME)
    await stream.do_handshake()
    reading = await told(read(stream)) if reads else ""
    closing = ""
    with trio.move_on_after(PATIENCE) as scope:
        closing = await told(stream.aclose())
    return reading, "still waiting" if scope.cancelled_caught else closing


async def read(stream: trio.abc.ReceiveStream) -> None:
    async for _ in stream:
        pass


async def use_anyio(host: str, port: int, reads: bool) -> Told:
    raw = await anyio.connect_tcp(host, port)
    stream = await AnyioStream.wrap(
        raw, hostname=NAME, ssl_context=client_context(), server_side=False
    )
    reading = await told(read_anyio(stream)) if reads else ""
    closing = ""
    with trio.move_on_after(PATIENCE) as scope:
        closing = await told(stream.aclose())
    return reading, "still waiting" if scope.cancelled_caught else closing


async def read_anyio(stream: AnyioStream) -> None:
    async for _ in stream:
        pass


async def use_asyncio(host: str, port: int, reads: bool) -> Told:
    return await trio.to_thread.run_sync(
        asyncio.run, talk_asyncio(host, port, reads), abandon_on_cancel=True
    )


async def talk_asyncio(host: str, port: int, reads: bool) -> Told:
    reader, writer = await asyncio.open_connection(
        host, port, ssl=client_context(), server_hostname=NAME
    )

    async def read() -> None:
        await reader.read()

    reading = await told(read()) if reads else ""
    writer.close()
    closing = await told(asyncio.wait_for(writer.wait_closed(), PATIENCE))
    return reading, closing


CLIENTS: dict[str, Client] = {
    "asyncio": use_asyncio,
    "anyio": use_anyio,
    "trio.SSLStream": partial(use_trio, trio.SSLStream),  # type: ignore[arg-type]
    "TLSStream": partial(use_trio, TLSStream),
}


async def main() -> None:
    print(
        f"Python {platform.python_version()}, {ssl.OPENSSL_VERSION}, "
        f"trio {version('trio')}, anyio {version('anyio')}"
    )
    async with trio.open_nursery() as nursery:
        for behaviour in BEHAVIOURS:
            reads = behaviour.startswith("cut")
            says = b"half" if reads else b""
            serve = partial(serve_rogue, behaviour, says=says)
            host, port = await nursery.start(serve)
            print(f"\n{behaviour}:")
            for name, use in CLIENTS.items():
                reading, closing = await use(host, port, reads)
                words = f"reading: {reading}; " if reads else ""
                print(f"  {name:15} {words}closing: {closing}")
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
