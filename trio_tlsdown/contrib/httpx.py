"""A transport, so that httpx uses a connection pool of httpcore that you have made.

It comes with the extra ``httpx``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import httpcore
import httpx  # noqa: ASYNC127 - this is an adapter for httpx

from ._arguments import check_type

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

__all__ = ["PoolTransport"]

FAILURES: Final = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)


class PoolTransport(httpx.AsyncBaseTransport):
    """Sends httpx's requests through a connection pool or a proxy of httpcore.

    httpx itself has no way to give its pool a network backend. Pass this as
    ``httpx.AsyncClient(transport=...)``; the client closes the pool. Options of the
    client that concern connections (``verify``, ``cert``, ``http1``, ``http2``,
    ``limits``, ``proxy``) have no effect then: they are arguments of the pool.

    Args:
      pool: An ``httpcore.AsyncConnectionPool``, ``AsyncHTTPProxy`` or
        ``AsyncSOCKSProxy``.

    Raises:
      TypeError: *pool* is not a pool.
    """

    def __init__(self, pool: httpcore.AsyncConnectionPool) -> None:
        check_type("pool", pool, httpcore.AsyncConnectionPool)
        self._pool = pool

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request. httpx calls this.

        Args:
          request: The request.

        Returns:
          The response; its body has not been read.

        Cancellation:
          The connection is closed, unless other requests share it by HTTP/2.

        Raises:
          httpx.TransportError: a subclass that has the name of httpcore's exception,
            such as ``httpx.ConnectError``.
        """
        if not isinstance(request.stream, httpx.AsyncByteStream):
            raise TypeError("an async client cannot send the body of a sync request")
        url = request.url
        # To the type checker this is, in part, a dict of unknown types.
        sent: Any = request.extensions  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        with _Mapped():
            response = await self._pool.handle_async_request(
                httpcore.Request(
                    method=request.method,
                    url=httpcore.URL(
                        scheme=url.raw_scheme,
                        host=url.raw_host,
                        port=url.port,
                        target=url.raw_path,
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=sent,
                )
            )
        received: Any = response.extensions  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return httpx.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_Body(response),
            extensions=received,
        )

    async def aclose(self) -> None:
        """Close the pool. httpx calls this.

        Cancellation:
          As for the pool.
        """
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    """The body of a response, with httpx's exceptions."""

    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _Mapped():
            async for part in self._response.aiter_stream():
                yield part  # noqa: ASYNC119 - has nothing to clean up

    async def aclose(self) -> None:
        with _Mapped():
            await self._response.aclose()


class _Mapped:
    """Raises httpx's exceptions for httpcore's, which have the same names.

    A class, because `contextlib.contextmanager` makes reference cycles: see httpcore.py.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(exc, FAILURES):
            mapped: type[httpx.TransportError] = getattr(httpx, type(exc).__name__)
            raise mapped(str(exc)) from exc
