"""A server for one of Trio's ``serve_*`` functions: each handler waits in a scope."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

import trio

from .interface import Control

T_Stream = TypeVar("T_Stream", bound=trio.abc.Stream)
T_co = TypeVar("T_co", bound=trio.abc.Stream, covariant=True)


class Listen(Protocol[T_co]):
    """`trio.serve_ssl_over_tcp` with its port, context and host."""

    def __call__(
        self,
        handler: Callable[[T_co], Awaitable[None]],
        *,
        handler_nursery: trio.Nursery,
        task_status: trio.TaskStatus[Sequence[Any]] = ...,
    ) -> Awaitable[object]: ...


async def serve(
    listen: Listen[T_Stream],
    shut_down: Callable[[T_Stream], Awaitable[None]],
    control: Control,
) -> None:
    scopes: set[trio.CancelScope] = set()

    async def handler(stream: T_Stream) -> None:
        with trio.CancelScope() as scope:
            scopes.add(scope)
            while data := await stream.receive_some():
                await stream.send_all(data)
        await shut_down(stream)
        scopes.remove(scope)

    async def accept(
        *, task_status: trio.TaskStatus[Sequence[Any]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        await listen(handler, handler_nursery=handlers, task_status=task_status)

    async with trio.open_nursery() as handlers:
        async with trio.open_nursery() as accepting:
            listeners = await accepting.start(accept)
            control.listening(listeners[0].transport_listener.socket.getsockname()[1])
            await trio.to_thread.run_sync(control.wait_for_stop)
            accepting.cancel_scope.cancel()
        for scope in scopes:
            scope.cancel()
