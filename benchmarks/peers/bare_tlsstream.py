"""TLSStream without a server: what a drain of TLSServer is compared with.

The connections are in a list, and no task has any of them. To end them is one
``shutdown()`` and ``aclose()`` each, all together in one nursery.
"""

from __future__ import annotations

import ssl

import trio

import trio_tlsdown
from benchmarks.clock import Lap, Stopwatch
from trio_tlsdown import TLSStream, open_tls_over_tcp_listeners

from .interface import Orders, PythonPeer
from .tlsdown import POLICY, shut_down


async def hold(host: str, context: ssl.SSLContext, orders: Orders) -> Lap:
    streams: list[TLSStream[trio.SocketStream]] = []

    async def handler(stream: TLSStream[trio.SocketStream]) -> None:
        await stream.send_all(await stream.receive_some())
        streams.append(stream)

    (listener,) = await open_tls_over_tcp_listeners(
        0, context, host=host, policy=POLICY
    )

    async def accept() -> None:
        while True:
            accepting.start_soon(handler, await listener.accept())

    async with listener, trio.open_nursery() as accepting:
        accepting.start_soon(accept)
        transport_listener = listener.transport_listener
        assert isinstance(transport_listener, trio.SocketListener)
        orders.listening(transport_listener.socket.getsockname()[1])
        await trio.to_thread.run_sync(orders.wait_for_end)
        accepting.cancel_scope.cancel()
    watch = Stopwatch()
    async with trio.open_nursery() as endings:
        for stream in streams:
            endings.start_soon(shut_down, stream)
    return watch.lap()


PEER = PythonPeer(
    version=f"trio_tlsdown {trio_tlsdown.__version__}, trio {trio.__version__}",
    run=trio.run,
    hold=hold,
)
