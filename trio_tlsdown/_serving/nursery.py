"""A nursery for connections: none outlives it, and all of them end well."""

from __future__ import annotations

import errno
import inspect
import math
import socket
import ssl
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, TypeAlias, TypeVar, TypeVarTuple, cast, final

import trio

from trio_tlsdown._core.report import ShutdownOutcome, ShutdownPolicy
from trio_tlsdown._core.trace import Trace, connection_ids, trace_of
from trio_tlsdown._errors import (
    ConnectFailedError,
    ListenFailedError,
    TLSDownError,
    host_and_port,
)
from trio_tlsdown._names import certificate_name, check_host
from trio_tlsdown._stream.sslstream import SSLStreamCloser
from trio_tlsdown._stream.stream import T_Stream, TLSStream, connected_to
from trio_tlsdown._util import (
    check_async_function,
    check_context,
    check_count,
    check_port,
    check_seconds,
    check_type,
)

from .accept import Handler, check_listening
from .contexts import client_context, warn_if_unusable
from .lifecycle import do_handshake, end_gracefully, outcome_if_over
from .server import OnError, Prepare, ServerOptions, TLSServer
from .tcp import check_listen_options, check_tcp_options, open_tcp_stream


class TaskCounter:
    """Counts tasks, so that their end can be waited for while others run."""

    def __init__(self) -> None:
        self.running: int = 0
        self._none = trio.Event()

    def start_soon(
        self,
        nursery: trio.Nursery,
        async_fn: Callable[..., Awaitable[object]],
        args: tuple[object, ...],
        name: object,
    ) -> None:
        """Start a task in *nursery*, as that does."""
        refusal = f"start_soon() wants an async function, not {async_fn!r}"
        if not callable(async_fn):
            raise TypeError(refusal)
        # Called here, as Trio does, so that wrong arguments are told at once.
        awaitable = async_fn(*args)
        if not isinstance(awaitable, Coroutine):
            raise TypeError(refusal)
        coroutine = cast("Coroutine[Any, Any, object]", awaitable)
        try:
            nursery.start_soon(self._run, coroutine, name=name or async_fn)
        except BaseException:  # the nursery is over
            coroutine.close()
            raise
        self.running += 1

    async def _run(self, coroutine: Awaitable[object]) -> None:
        try:
            await coroutine
        finally:
            self.running -= 1
            if not self.running:
                self._none.set()
                self._none = trio.Event()

    async def wait_idle(self) -> None:
        """Wait until no task is running, including tasks started while waiting."""
        while self.running:
            await self._none.wait()


# Below this many clients it is not worth looking which have been closed.
SWEEP_AT_LEAST: Final = 64

CLOSING_FAILED: Final = "connections that could not be closed"


Client: TypeAlias = TLSStream[Any] | SSLStreamCloser


class ClientRegistry:
    """The streams that have to end with the nursery, and a tally of the others."""

    def __init__(self) -> None:
        self.over = False
        self._established: dict[Client, bool] = {}
        self._tally: Counter[ShutdownOutcome] = Counter()
        self._sweep_at = SWEEP_AT_LEAST

    @property
    def streams(self) -> list[Client]:
        """Those that have not been counted."""
        return list(self._established)

    @property
    def tally(self) -> Counter[ShutdownOutcome]:
        """How many have ended, by how they ended: a copy."""
        self._sweep()
        return self._tally.copy()

    def check_open(self) -> None:
        """Raise `RuntimeError` if no more can be added."""
        if self.over:
            raise RuntimeError("this TLSNursery is over: it cannot open connections")

    def __contains__(self, stream: Client) -> bool:
        return stream in self._established

    def add(self, stream: Client, *, established: bool = False) -> None:
        """Take responsibility for a stream.

        Args:
          stream: The stream.
          established: Whether its handshake is done, or none of ours. Default: False.
        """
        if len(self._established) >= self._sweep_at:
            self._sweep()
            self._sweep_at = max(2 * len(self._established), SWEEP_AT_LEAST)
        self._established[stream] = established

    def established(self, stream: Client) -> None:
        """Its handshake is done."""
        if stream in self._established:  # it has not been ended meanwhile
            self._established[stream] = True

    def count(self, stream: Client) -> None:
        """Let go of a stream that has ended, unless that was done already."""
        established = self._established.pop(stream, None)
        if established is not None:
            failed = ShutdownOutcome.FAILED
            self._tally[stream.report.outcome if established else failed] += 1

    def _sweep(self) -> None:
        # Streams that the user closes do not announce it, so look for them, rarely
        # enough that the cost per connection stays constant.
        for stream in self.streams:
            if outcome_if_over(stream) is not None:
                self.count(stream)


class ServerRegistry:
    """The servers that have to end with the nursery, and a tally of the others.

    Attributes:
      running: Those that have not been counted.
    """

    def __init__(self) -> None:
        self.running: set[TLSServer] = set()
        self._tally: Counter[ShutdownOutcome] = Counter()

    @property
    def tally(self) -> Counter[ShutdownOutcome]:
        """How many connections have ended, by how they ended: a copy."""
        return sum((server.tally for server in self.running), self._tally.copy())

    def count(self, server: TLSServer) -> None:
        """Let go of a server whose last connection has ended."""
        self.running.discard(server)
        self._tally += server.tally


Ts = TypeVarTuple("Ts")
S = TypeVar("S", bound=trio.abc.Stream)


@final
class TLSNursery:
    """Runs tasks, TLS clients and TLS servers; `open_tls_nursery` makes one."""

    def __init__(
        self,
        nursery: trio.Nursery,
        policy: ShutdownPolicy,
        trace: Trace | None,
        tasks: TaskCounter,
        clients: ClientRegistry,
        servers: ServerRegistry,
    ) -> None:
        self._nursery = nursery
        self._policy = policy
        self._trace = trace
        self._tasks = tasks
        self._clients = clients
        self._servers = servers

    def __repr__(self) -> str:
        clients, servers = len(self._clients.streams), len(self._servers.running)
        over = ", over" if self._clients.over else ""
        return f"<TLSNursery, {clients} clients, {servers} servers{over}>"

    @property
    def cancel_scope(self) -> trio.CancelScope:
        """Cancels everything in the nursery, like that of a `trio.Nursery`.

        Connections are then aborted.
        """
        return self._nursery.cancel_scope

    @property
    def tally(self) -> Counter[ShutdownOutcome]:
        """How many connections have ended, by how they ended: a copy.

        It covers clients, all servers, and adopted streams. A failed handshake counts
        as FAILED; a TCP connection that was never made is not counted.
        """
        return self._servers.tally + self._clients.tally

    # Tasks:

    def start_soon(
        self,
        async_fn: Callable[[*Ts], Awaitable[object]],
        *args: *Ts,
        name: object = None,
    ) -> None:
        """Start a task, as `trio.Nursery.start_soon` does.

        Raises:
          TypeError: *async_fn* is not async, or has been called already; or the arguments
            do not fit.
          RuntimeError: the nursery is over.
        """
        self._tasks.start_soon(self._nursery, async_fn, args, name)

    # Clients:

    async def connect(
        self,
        host: str | bytes,
        port: int,
        *,
        ssl_context: ssl.SSLContext | None = None,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
        local_address: str | None = None,
        happy_eyeballs_delay: float | None = 0.25,
        https_compatible: bool = False,
        handshake_timeout: float = 30.0,
    ) -> TLSStream[trio.SocketStream]:
        """Connect to a host over TCP and do the TLS handshake.

        Args:
          host: The host's name or address.
          port: The TCP port.
          ssl_context: The client's context; it is never changed. Default: a new one
            from `ssl.create_default_context`.
          server_hostname: The name that the certificate must be valid for.
            Default: *host*.
          session: The `TLSStream.session` of an earlier connection to the same server,
            to be resumed if the server agrees. Resumption verifies nothing; see there
            when it is safe and what it saves. Default: None, a full handshake.
          local_address: The local address to connect from, as for
            `trio.open_tcp_stream`. Default: None, any.
          happy_eyeballs_delay: Seconds to wait for one address of the host before also
            trying the next, as for `trio.open_tcp_stream`; `math.inf` tries the next
            only after a failure. Default: 0.25, and so is None.
          https_compatible: As for `TLSStream`. Default: False.
          handshake_timeout: Seconds for everything, from the name lookup to the end of
            the handshake. Default: 30.

        Cancellation:
          Nothing is left open; likewise after an error.

        Raises:
          TypeError: an argument has the wrong type.
          ValueError: *host* or *server_hostname* is not a host (a URL, say, or a name
            with a port), or *session* belongs to another context.
          ConnectFailedError: no TCP connection could be made, an `OSError`: the name
            does not resolve, the connection is refused, or times out.
          TLSFailedError: the handshake failed, for instance because the certificate has
            expired or is for another name: see ``reason`` and the cause.
          HandshakeTimeoutError: the handshake took too long.
          TruncatedError: the server ended the connection in the handshake.
          TransportBrokenError: the transport failed in the handshake. All of these
            have ``host`` and ``port``; all but the first are
            `trio.BrokenResourceError`.
          RuntimeError: the nursery is over.
        """
        self._clients.check_open()
        check_host(host)
        check_port(port)
        check_seconds("handshake_timeout", handshake_timeout)
        check_tcp_options(local_address, happy_eyeballs_delay)
        check_type("https_compatible", https_compatible, bool)
        ssl_context = client_context(ssl_context, session)
        if server_hostname is None:
            server_hostname = host
        else:
            certificate_name(server_hostname)  # refuse a bad one before connecting
        began = trio.current_time()
        transport = await _connect_tcp(
            host,
            port,
            handshake_timeout,
            local_address=local_address,
            happy_eyeballs_delay=happy_eyeballs_delay,
        )
        try:
            self._clients.check_open()
            stream = self._client(
                transport,
                ssl_context,
                server_hostname,
                session,
                https_compatible=https_compatible,
                peer=host_and_port(host, port),
            )
        except BaseException:
            await trio.aclose_forcefully(transport)
            raise
        connected_to(stream, host, port)
        try:
            await self._establish(stream, handshake_timeout, since=began)
        except TLSDownError as exc:
            exc.host, exc.port = host, port
            raise
        return stream

    async def start_tls(
        self,
        transport: S,
        ssl_context: ssl.SSLContext | None = None,
        *,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
        https_compatible: bool = False,
        handshake_timeout: float = 30.0,
    ) -> TLSStream[S]:
        """Do a client's TLS handshake over a transport that is already open.

        For instance a tunnel through a proxy, a Unix socket, a connection after
        STARTTLS, or another TLS stream::

            proxy = await tls.connect("proxy.example.org", 443)
            ...  # CONNECT example.org:443
            stream = await tls.start_tls(proxy, server_hostname="example.org")

        From then on the stream owns the transport and closes it. Bytes that followed the
        answer to STARTTLS in clear text may come from an attacker: refuse them first.

        Args:
          transport: Any Trio stream.
          ssl_context: As for `connect`.
          server_hostname: The name that the certificate must be valid for. Required if
            the context checks host names, as it does by default.
          session: As for `connect`.
          https_compatible: As for `TLSStream`. Default: False.
          handshake_timeout: Seconds for the handshake. Default: 30.

        Returns:
          The stream, after its handshake.

        Cancellation:
          The transport is closed; likewise if the handshake fails.

        Raises:
          TypeError: an argument has the wrong type. The transport stays open.
          ValueError: *server_hostname* is missing or invalid, or *session* belongs to
            another context. The transport stays open.
          TLSFailedError: the handshake failed.
          HandshakeTimeoutError: it took too long.
          TruncatedError: the transport ended in the handshake.
          TransportBrokenError: the transport failed in the handshake.
          RuntimeError: the nursery is over.
        """
        self._clients.check_open()
        check_seconds("handshake_timeout", handshake_timeout)
        ssl_context = client_context(ssl_context, session)
        stream = self._client(
            transport,
            ssl_context,
            server_hostname,
            session,
            https_compatible=https_compatible,
            peer=(
                f"a server over {type(transport).__name__}"
                if server_hostname is None
                else certificate_name(server_hostname).decode("ascii")
            ),
        )
        await self._establish(stream, handshake_timeout)
        return stream

    def _client(
        self,
        transport: S,
        ssl_context: ssl.SSLContext,
        server_hostname: str | bytes | None,
        session: ssl.SSLSession | None,
        *,
        https_compatible: bool,
        peer: str,
    ) -> TLSStream[S]:
        stream = TLSStream(
            transport,
            ssl_context,
            server_hostname=server_hostname,
            https_compatible=https_compatible,
            policy=self._policy,
            trace=trace_of(self._trace, next(connection_ids), "client", peer),
        )
        if session is not None:
            # Setting it takes 0.1 ms, so it was not tried earlier as a check.
            stream.session = session
        return stream

    async def _establish(
        self, stream: TLSStream[T_Stream], limit: float, *, since: float | None = None
    ) -> None:
        self._clients.add(stream)
        try:
            await do_handshake(stream, limit, since=since)
        except BaseException:
            self._clients.count(stream)
            raise
        self._clients.established(stream)

    def adopt(self, stream: TLSStream[Any] | trio.SSLStream[Any]) -> None:
        """Make a stream that other code created end with this nursery.

        It is treated like the nursery's own: leaving normally shuts it down and closes
        it; an exception or a cancellation aborts it. Once it has ended it counts in
        `tally`. A TLSStream keeps its own policy; an SSLStream is shut down by
        `trio_tlsdown.shutdown` within the nursery's policy.

        An SSLStream that other code has closed counts as ABORTED, because it does not
        report how it ended. If a task is receiving from it when the nursery shuts down,
        it is aborted.

        Args:
          stream: A client or a server, before or after its handshake.

        Raises:
          TypeError: it is neither a `TLSStream` nor a `trio.SSLStream`.
          ValueError: it is already in this nursery.
          trio.ClosedResourceError: it was closed or unwrapped.
          RuntimeError: the nursery is over.
        """
        self._clients.check_open()
        check_type("stream", stream, trio.SSLStream)
        client = (
            stream
            if isinstance(stream, TLSStream)
            else SSLStreamCloser(stream, self._policy)
        )
        if client in self._clients:
            raise ValueError(f"{stream!r} is in this TLSNursery already")
        if outcome_if_over(client) is not None:
            raise trio.ClosedResourceError(f"{stream!r} was closed, or unwrapped")
        self._clients.add(client, established=True)

    # Servers:

    async def start_server(
        self,
        handler: Handler,
        port: int | None = None,
        ssl_context: ssl.SSLContext | None = None,
        *,
        host: str | bytes | None = None,
        backlog: int | None = None,
        listeners: Iterable[trio.abc.Listener[Any]] | None = None,
        prepare: Prepare | None = None,
        https_compatible: bool = False,
        max_connections: int | None = None,
        max_handshakes: int | None = 1000,
        handshake_timeout: float = 30.0,
        max_age: float = math.inf,
        on_error: OnError | None = None,
    ) -> TLSServer:
        """Start a server, which runs until it drains or the nursery is over.

        It opens a TCP port, or takes listeners that are open: Unix sockets, sockets
        inherited from a supervisor such as systemd, or anything else that accepts
        `trio.abc.Stream`::

            await tls.start_server(handler, 8443, ssl_context)
            await tls.start_server(handler, listeners=[unix], ssl_context=ssl_context)

        Args:
          handler: An async function, called with each stream after its handshake.
            When it returns, the connection is shut down; when it raises, aborted. See
            `TLSServer`. `functools.partial` gives it more arguments.
          port: The TCP port; 0 is any that is free: see `TLSServer.addresses`.
          ssl_context: The server's context; see `TLSServer.ssl_context`. A warning is
            logged if it has no certificate. Required.
          host: Where to listen. Default: None, all addresses of this machine, with a
            listener for IPv4 and one for IPv6.
          backlog: How many connections may wait to be accepted. Default: as many as
            the system allows.
          listeners: Open listeners, instead of *port*, *host* and *backlog*. The server
            closes them when it drains. Other processes may accept from the same
            sockets: a drain takes clients from the backlog until it is empty, for half
            a second at most. From a listener that is not a `trio.SocketListener` it
            takes the clients that ``accept()`` returns at once.
          prepare: An async function, called with each transport before its handshake:
            for the PROXY protocol, STARTTLS, or a look at the first bytes. It returns
            the bytes that it has read too far, which belong to TLS, or None; also None
            if the client disconnects without sending anything. It raises to refuse a
            client, which counts as a failed handshake. It runs within
            *handshake_timeout*, and in the task of the handler, which sees the context
            variables that it sets: see `peer_name`. In a drain it goes on, except for
            its waits in `cancel_on_drain`. Default: connections begin with TLS.
          https_compatible: As for `TLSStream`: connections end without close_notify.
            Default: False.
          max_connections: The number of connections that may be open after their
            handshake; further clients wait in the kernel's backlog. Default: no limit.
          max_handshakes: The number of handshakes that may run at a time; further
            clients wait, and while they do, a handshake may take three seconds at most.
            A handshake begins with the client's first byte, behind what *prepare* has
            read. As many clients may be connected whose handshake has not begun; for a
            further one, the first that is silent is disconnected. Default: 1000; None
            is no limit.
          handshake_timeout: Seconds that a client may take for its handshake, from when
            it is accepted. Default: 30.
          max_age: Seconds, plus or minus a tenth, after which a connection is treated
            as if the server drained: its waits in `receive_until_drain` and
            `cancel_on_drain` are cut short, and `draining` is True for it. So
            long-lived clients move on to new servers.
            Default: `math.inf`.
          on_error: Called with what *prepare*, a handshake or a handler raised, and
            with the stream, which is closed by then. Default: it is only logged. That
            the context could not make a stream is only logged in any case.

        Returns:
          The server, which is listening.

        Cancellation:
          Nothing that it opened is left open.

        Raises:
          ListenFailedError: the address is in use or not permitted, an `OSError` with
            ``host`` and ``port``.
          ssl.SSLError: the context is for clients.
          TypeError: an argument has the wrong type, such as an *on_error* that is
            async, or a *handler* that is not; or both *port* and *listeners* are
            given, or neither is. The listeners stay open after an error.
          ValueError: a number is out of range, or *listeners* is empty or has the same
            one twice.
          trio.ClosedResourceError: one of *listeners* was closed.
          RuntimeError: the nursery is over.
        """
        self._clients.check_open()
        check_async_function("handler", handler)
        if listeners is None:
            if port is None:
                raise TypeError("start_server() needs a port or listeners")
            check_listen_options(host, port, backlog)
        else:
            listeners = _check_listeners(listeners)
            for name, value in {"port": port, "host": host, "backlog": backlog}.items():
                if value is not None:
                    raise TypeError(f"{name} and listeners exclude each other")
        check_context(ssl_context, server_side=True)
        assert ssl_context is not None
        if prepare is not None:
            check_async_function("prepare", prepare)
        check_seconds("handshake_timeout", handshake_timeout)
        check_seconds("max_age", max_age)
        check_type("https_compatible", https_compatible, bool)
        if inspect.iscoroutinefunction(on_error):
            raise TypeError(f"on_error must not be async: {on_error!r}")
        if on_error is not None and not callable(on_error):
            raise TypeError(f"on_error must be callable, not {on_error!r}")
        if max_connections is not None:
            check_count("max_connections", max_connections)
        if max_handshakes is not None:
            check_count("max_handshakes", max_handshakes)
        warn_if_unusable(ssl_context)
        opened: list[trio.SocketListener] = []
        if listeners is None:
            assert port is not None
            opened = await _open_tcp_listeners(host, port, backlog)
        else:
            await trio.lowlevel.checkpoint()
        options = ServerOptions(
            handler=handler,
            prepare=prepare,
            policy=self._policy,
            trace=self._trace,
            https_compatible=https_compatible,
            max_connections=max_connections,
            max_handshakes=max_handshakes,
            handshake_timeout=handshake_timeout,
            max_age=max_age,
            on_error=on_error,
            exclusive=listeners is None,
        )
        try:
            server = TLSServer(
                self._nursery,
                [*opened, *(listeners or ())],
                ssl_context,
                options,
                self._servers.count,
            )
        except BaseException:  # the nursery has ended meanwhile
            for listener in opened:
                listener.socket.close()
            raise
        self._servers.running.add(server)
        return server


def _check_listeners(
    listeners: Iterable[trio.abc.Listener[Any]],
) -> list[trio.abc.Listener[Any]]:
    check_type("listeners", listeners, Iterable)
    found = list(listeners)
    for listener in found:
        check_type("each of listeners", listener, trio.abc.Listener)
        check_listening(listener)
    if not found:
        raise ValueError("listeners must not be empty")
    if len(set(map(id, found))) < len(found):  # they may compare by value
        raise ValueError("listeners must not have the same one twice")
    return found


async def _open_tcp_listeners(
    host: str | bytes | None, port: int, backlog: int | None
) -> list[trio.SocketListener]:
    try:
        return await trio.open_tcp_listeners(port, host=host, backlog=backlog)
    except OSError as exc:
        raise ListenFailedError(host, port, exc) from exc
    except UnicodeError as exc:
        raise ListenFailedError(host, port, _no_name(exc)) from exc


async def _connect_tcp(
    host: str | bytes,
    port: int,
    seconds: float,
    *,
    local_address: str | None,
    happy_eyeballs_delay: float | None,
) -> trio.SocketStream:
    try:
        with trio.move_on_after(seconds):
            return await open_tcp_stream(
                host,
                port,
                local_address=local_address,
                happy_eyeballs_delay=happy_eyeballs_delay,
            )
    except OSError as exc:
        raise ConnectFailedError(host, port, exc) from exc
    except UnicodeError as exc:
        raise ConnectFailedError(host, port, _no_name(exc)) from exc
    timeout = TimeoutError(errno.ETIMEDOUT, f"no connection within {seconds:g} s")
    raise ConnectFailedError(host, port, timeout)


def _no_name(error: UnicodeError) -> OSError:
    return socket.gaierror(socket.EAI_NONAME, f"no host can have this name: {error}")


@asynccontextmanager
async def open_tls_nursery(
    policy: ShutdownPolicy = ShutdownPolicy(), *, trace: Trace | None = None
) -> AsyncGenerator[TLSNursery]:
    """Open a nursery for TLS connections.

    ::

        async with open_tls_nursery() as tls:
            stream = await tls.connect("example.org", 443)
            ...

    Leaving the block normally first waits for the tasks of
    `TLSNursery.start_soon`, as a `trio.Nursery` does. Then all servers drain and all
    clients shut down, in parallel, within the ``timeout`` and the
    ``linger_timeout`` of the policy together. Handlers of servers have
    ``policy.timeout`` seconds of these, and tasks that they start then have what is
    left. To give handlers more, or if they need clients of this nursery to finish,
    call `TLSServer.drain` first.

    An exception in the block or in a task, or a cancellation, aborts everything, so that
    no peer takes what it received for complete.

    No connection, task or descriptor outlives the nursery. An unwrapped stream no longer
    belongs to it.

    Args:
      policy: Limits on ending each connection, and on leaving the block.
      trace: Called with a `TracedConnection` and a `TraceEvent` for everything that
        happens on a connection of its clients and servers (not on adopted streams). It
        must not raise. See `ConnectionTrace`. Default: None.

    Cancellation:
      All connections are aborted.

    Raises:
      ExceptionGroup: what was raised in the block and in its tasks, as of a
        `trio.Nursery`.
    """
    check_type("policy", policy, ShutdownPolicy)
    if trace is not None and not callable(trace):
        raise TypeError(f"trace must be callable, not {trace!r}")
    tasks = TaskCounter()
    clients = ClientRegistry()
    servers = ServerRegistry()
    try:
        async with trio.open_nursery() as nursery:
            yield TLSNursery(nursery, policy, trace, tasks, clients, servers)
            await tasks.wait_idle()
            with trio.move_on_after(policy.timeout + policy.linger_timeout) as limit:
                await _end_all(tasks, clients, servers)
            if limit.cancelled_caught:
                nursery.cancel_scope.cancel()  # what is left is aborted
    finally:
        # Only now, when no task is left whose stream this would close.
        clients.over = True
        with trio.CancelScope(shield=True):  # short: it waits for nobody
            # A transport may raise when it is closed; the others are closed all the same.
            async with AsyncExitStack() as closing:
                for stream in clients.streams:
                    closing.callback(clients.count, stream)
                    closing.push_async_callback(trio.aclose_forcefully, stream)


async def _end_all(
    tasks: TaskCounter, clients: ClientRegistry, servers: ServerRegistry
) -> None:
    # Repeat: handlers that were finishing may have started something.
    errors: list[Exception] = []
    try:
        while servers.running or clients.streams or tasks.running:
            await tasks.wait_idle()
            async with trio.open_nursery() as endings:
                for server in servers.running:
                    endings.start_soon(server.drain)
                for stream in _innermost(clients.streams):
                    endings.start_soon(_end_client, clients, stream, errors)
    except BaseException as exc:
        if errors:
            raise BaseExceptionGroup(CLOSING_FAILED, [exc, *errors]) from None  # noqa: ASYNC104
        raise
    if errors:
        raise ExceptionGroup(CLOSING_FAILED, errors)


def _innermost(clients: list[Client]) -> list[Client]:
    """Those that carry no other: of TLS in TLS, what is inside has to end first."""
    streams = {client: _stream_of(client) for client in clients}
    carriers = set[int]()
    for stream in streams.values():
        while (stream := getattr(stream, "transport_stream", None)) is not None:
            carriers.add(id(stream))
    return [client for client in clients if id(streams[client]) not in carriers]


def _stream_of(client: Client) -> Any:
    return client.stream if isinstance(client, SSLStreamCloser) else client


async def _end_client(
    clients: ClientRegistry, stream: Client, errors: list[Exception]
) -> None:
    try:
        await end_gracefully(stream)
    except trio.BusyResourceError:
        pass  # another task is using it: it was aborted, and the report says so
    except Exception as exc:  # noqa: BLE001 - of a transport; the others end all the same
        errors.append(exc)
    clients.count(stream)
