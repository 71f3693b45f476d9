"""A server of Trio's kind that holds connections: a handler waits in a scope of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

import trio

from benchmarks.clock import Lap, Stopwatch

from .interface import Orders

T_Stream = TypeVar("T_Stream", bound=trio.abc.Stream)
T_co = TypeVar("T_co", bound=trio.abc.Stream, covariant=True)


class Serve(Protocol[T_co]):
    """What has the form of `trio.serve_ssl_over_tcp`, port, context and host given."""

    def __call__(
        self,
        handler: Callable[[T_co], Awaitable[None]],
        *,
        handler_nursery: trio.Nursery,
        task_status: trio.TaskStatus[Sequence[Any]] = ...,
    ) -> Awaitable[object]: ...


async def hold(
    serve: Serve[T_Stream],
    shut_down: Callable[[T_Stream], Awaitable[None]],
    orders: Orders,
) -> Lap:
    waits: set[trio.CancelScope] = set()

    async def handler(stream: T_Stream) -> None:
        with trio.CancelScope() as wait:
            waits.add(wait)
            while data := await stream.receive_some():
                await stream.send_all(data)
        await shut_down(stream)

    async def accept(
        *, task_status: trio.TaskStatus[Sequence[Any]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        await serve(handler, handler_nursery=handlers, task_status=task_status)

    async with trio.open_nursery() as handlers:
        async with trio.open_nursery() as accepting:
            listeners = await accepting.start(accept)
            orders.listening(listeners[0].transport_listener.socket.getsockname()[1])
            await trio.to_thread.run_sync(orders.wait_for_end)
            watch = Stopwatch()
            accepting.cancel_scope.cancel()
        for wait in waits:
            wait.cancel()
    return watch.lap()
