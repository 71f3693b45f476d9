"""A network backend, so that httpcore, and httpx on top of it, use TLSStream.

It comes with the extra ``httpcore``.
"""

from __future__ import annotations

import math
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

import httpcore
import trio

from trio_tlsdown import PeerState, ShutdownOutcome, ShutdownPolicy, TLSStream

from ._arguments import check_seconds, check_type

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable
    from types import TracebackType

__all__ = ["TLSBackend"]


class TLSBackend(httpcore.AsyncNetworkBackend):
    """Gives httpcore's connection pools and proxies a `TLSStream` for each connection.

    Pass it as ``network_backend``. A body that ends with the connection is complete
    only if the server sent close_notify; otherwise reading it raises
    ``httpcore.ReadError``. An idle connection stays in the pool when a session ticket
    or a KeyUpdate arrives. Closing sends close_notify; a connection whose last read or
    write was cancelled, timed out or failed is aborted instead.

    Args:
      policy: Limits on ending each connection. A response that is dropped half-way can
        make closing linger for up to ``policy.linger_timeout``.
      https_compatible: As for `TLSStream`: no close_notify when closing, and a cut at a
        record boundary ends a body. Default: False.
      happy_eyeballs_delay: Seconds to wait before trying a host's next address as well:
        see `trio.open_tcp_stream`. Default: 0.25.

    Raises:
      TypeError: an argument has the wrong type.
      ValueError: *happy_eyeballs_delay* is negative or NaN.
    """

    def __init__(
        self,
        *,
        policy: ShutdownPolicy = ShutdownPolicy(),
        https_compatible: bool = False,
        happy_eyeballs_delay: float | None = 0.25,
    ) -> None:
        check_type("policy", policy, ShutdownPolicy)
        check_type("https_compatible", https_compatible, bool)
        if happy_eyeballs_delay is not None:
            check_seconds("happy_eyeballs_delay", happy_eyeballs_delay)
        self._policy = policy
        self._https_compatible = https_compatible
        self._happy_eyeballs_delay = happy_eyeballs_delay

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to a host. httpcore calls this.

        Args:
          host: A name or an address.
          port: The TCP port.
          timeout: Seconds for all of it. Default: no limit.
          local_address: The address to connect from. Default: the system's choice.
          socket_options: Arguments of ``setsockopt``, for each option.

        Cancellation:
          Nothing is left open. Nor is it after an error.

        Raises:
          httpcore.ConnectTimeout: it took too long.
          httpcore.ConnectError: there is no connection, or it refuses an option.
        """
        with _Mapped(timeout, httpcore.ConnectTimeout, httpcore.ConnectError):
            stream = await trio.open_tcp_stream(
                host,
                port,
                happy_eyeballs_delay=self._happy_eyeballs_delay,
                local_address=local_address,
            )
            return await self._connected(stream, socket_options)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to a Unix socket. httpcore calls this.

        Args:
          path: Of the socket.
          timeout: Seconds. Default: no limit.
          socket_options: As for `connect_tcp`.

        Cancellation:
          As for `connect_tcp`.

        Raises:
          Exception: as `connect_tcp`.
        """
        with _Mapped(timeout, httpcore.ConnectTimeout, httpcore.ConnectError):
            stream = await trio.open_unix_socket(path)
            return await self._connected(stream, socket_options)

    async def _connected(
        self,
        stream: trio.SocketStream,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None,
    ) -> _Stream:
        try:
            # httpcore's type hints for the options, and Trio's, do not fit together.
            set_option: Any = stream.setsockopt
            for option in socket_options or ():
                set_option(*option)
        except BaseException:
            await trio.aclose_forcefully(stream)  # noqa: ASYNC102 - does not wait
            raise
        return _Stream(stream, self._policy, https_compatible=self._https_compatible)

    async def sleep(self, seconds: float) -> None:
        """Sleep between two attempts to connect. httpcore calls this.

        Args:
          seconds: How long.

        Cancellation:
          Nothing happens.
        """
        await trio.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    """A connection as httpcore sees it, with TLS or without."""

    def __init__(
        self,
        stream: trio.SocketStream | TLSStream[Any],
        policy: ShutdownPolicy,
        *,
        https_compatible: bool,
    ) -> None:
        self._stream = stream
        self._policy = policy
        self._https_compatible = https_compatible
        # Whether the last call of each was: HTTP/2 goes on with a connection after one of
        # its requests was cancelled, and writes while it reads.
        self._read_interrupted = False
        self._write_interrupted = False

    async def read(
        self,
        max_bytes: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
    ) -> bytes:
        self._read_interrupted = True
        with _Mapped(timeout, httpcore.ReadTimeout, httpcore.ReadError):
            data = await self._stream.receive_some(max_bytes)
        self._read_interrupted = False
        return bytes(data)

    async def write(
        self,
        buffer: bytes,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
    ) -> None:
        if buffer:
            self._write_interrupted = True
            with _Mapped(timeout, httpcore.WriteTimeout, httpcore.WriteError):
                await self._stream.send_all(buffer)
            self._write_interrupted = False

    async def aclose(self) -> None:
        # httpcore shields this from cancellation. After an interruption nobody is
        # interested in a graceful end, and waiting for one would delay the cancelled
        # task by the limits of the policy.
        interrupted = self._read_interrupted or self._write_interrupted
        if interrupted and not self._tls_failed:
            await trio.aclose_forcefully(self._stream)
        else:
            await self._stream.aclose()

    @property
    def _tls_failed(self) -> bool:
        """Whether there is an alert on its way, for which closing lingers."""
        return (
            isinstance(self._stream, TLSStream)
            and self._stream.report.outcome is ShutdownOutcome.FAILED
        )

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
    ) -> _Stream:
        async with AsyncExitStack() as undo:
            undo.push_async_callback(trio.aclose_forcefully, self._stream)
            stream = TLSStream[Any](
                self._stream,
                ssl_context,
                server_hostname=server_hostname,
                https_compatible=self._https_compatible,
                policy=self._policy,
            )
            await undo.enter_async_context(stream)
            # Within the stack: a certificate that was refused must not become a timeout
            # while closing lingers for the alert.
            with _Mapped(timeout, httpcore.ConnectTimeout, httpcore.ConnectError):
                await stream.do_handshake()
            undo.pop_all()
        return _Stream(stream, self._policy, https_compatible=self._https_compatible)

    def get_extra_info(self, info: str) -> Any:
        match info:
            case "ssl_object" if isinstance(self._stream, TLSStream):
                return self._stream  # it has the attributes of an SSLObject, and more
            case "client_addr":
                return self._socket.getsockname()
            case "server_addr":
                return self._socket.getpeername()
            case "socket":
                return self._socket
            case "is_readable":
                return self._has_something()
            case _:
                return None

    @property
    def _socket(self) -> trio.socket.SocketType:
        stream: Any = self._stream
        while not isinstance(stream, trio.SocketStream):
            stream = stream.transport_stream
        return stream.socket

    def _has_something(self) -> bool:
        """Whether data or the end of the connection have arrived."""
        if isinstance(self._stream, TLSStream):
            state = self._stream.peer_state_nowait()
            if state is not PeerState.UNKNOWN:
                return state is not PeerState.IDLE
        return self._socket.is_readable()


# Those of sockets and of TLSStream; UnicodeError: of a name that no host can have.
FAILURES: Final = (
    OSError,
    UnicodeError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)


class _Mapped:
    """Limits a block to *timeout* seconds, and raises httpcore's exceptions from it.

    A class, without `trio.fail_after`: since Python 3.12, an exception that a generator
    of `@contextmanager` has caught is in a reference cycle with the frames it passed, so
    the connection would wait for the garbage collector.
    """

    def __init__(
        self,
        timeout: float | None,
        too_slow: type[httpcore.TimeoutException],
        failed: type[httpcore.NetworkError],
    ) -> None:
        self._timeout = math.inf if timeout is None else timeout
        self._scope = trio.CancelScope()
        self._too_slow = too_slow
        self._failed = failed

    def __enter__(self) -> None:
        self._scope.deadline = trio.current_time() + self._timeout
        self._scope.__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._scope.__exit__(exc_type, exc, traceback)
        if self._scope.cancelled_caught:
            raise self._too_slow(f"not done in {self._timeout} s") from None
        if isinstance(exc, FAILURES):
            raise self._failed(exc) from exc
