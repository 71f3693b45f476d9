"""TLS over TCP: what Trio's helpers do, with streams that end well."""

from __future__ import annotations

import ssl
from typing import NoReturn

import trio

from trio_tlsdown._core.report import ShutdownPolicy
from trio_tlsdown._errors import host_and_port
from trio_tlsdown._names import address_family, certificate_name, check_host
from trio_tlsdown._stream.stream import TLSStream, connected_to
from trio_tlsdown._util import (
    check_context,
    check_port,
    check_seconds,
    check_type,
)

from .accept import Handler, SocketTLSStream, TLSListener, accept_connections
from .contexts import client_context
from .lifecycle import (
    do_handshake,
    log_failed_handshake,
    log_visitor,
    outcome_if_over,
    wait_first_bytes,
)


async def open_tls_over_tcp_stream(
    host: str | bytes,
    port: int,
    *,
    https_compatible: bool = False,
    ssl_context: ssl.SSLContext | None = None,
    happy_eyeballs_delay: float | None = 0.25,
    local_address: str | None = None,
    server_hostname: str | bytes | None = None,
    policy: ShutdownPolicy = ShutdownPolicy(),
    handshake_timeout: float | None = None,
) -> TLSStream[trio.SocketStream]:
    """Connect to a host over TCP, for TLS.

    Takes the place of `trio.open_ssl_over_tcp_stream` and, like that, leaves the
    handshake to `TLSStream.do_handshake` or the first use, without a time limit. With
    *handshake_timeout*, the handshake is done here.

    Args:
      host: The host's name or address.
      port: The TCP port.
      https_compatible: As for `TLSStream`. Default: False.
      ssl_context: The client's context; it is never changed. Default: a new one from
        `ssl.create_default_context`.
      happy_eyeballs_delay: Seconds to wait for one address of the host before also
        trying the next, as for `trio.open_tcp_stream`. Default: 0.25.
      local_address: The local address to connect from, as for
        `trio.open_tcp_stream`. Default: None, any.
      server_hostname: The name that the certificate must be valid for. Default:
        *host*.
      policy: Limits on ending the connection.
      handshake_timeout: Do the handshake before returning, within this many seconds.
        Default: None, leave it to the first use.

    Cancellation:
      Nothing is left open; likewise after an error.

    Raises:
      TypeError: an argument has the wrong type.
      ValueError: *host* or *server_hostname* is not a host (a URL, say, or a name
        with a port).
      OSError: no TCP connection could be made.
      HandshakeTimeoutError: the handshake took longer than *handshake_timeout*.
      TLSFailedError: the handshake failed. Likewise TruncatedError and
        TransportBrokenError.
    """
    check_host(host)
    check_port(port)
    ssl_context = client_context(ssl_context)
    check_tcp_options(local_address, happy_eyeballs_delay)
    if server_hostname is None:
        server_hostname = host
    else:
        certificate_name(server_hostname)  # so that no TCP is opened for a bad one
    check_type("https_compatible", https_compatible, bool)
    check_type("policy", policy, ShutdownPolicy)
    if handshake_timeout is not None:
        check_seconds("handshake_timeout", handshake_timeout)
    transport = await open_tcp_stream(
        host,
        port,
        happy_eyeballs_delay=happy_eyeballs_delay,
        local_address=local_address,
    )
    try:
        stream = TLSStream(
            transport,
            ssl_context,
            server_hostname=server_hostname,
            https_compatible=https_compatible,
            policy=policy,
        )
    except BaseException:  # such as a name that cannot be one
        await trio.aclose_forcefully(transport)
        raise
    connected_to(stream, host, port)
    if handshake_timeout is not None:
        await do_handshake(stream, handshake_timeout)
    return stream


async def open_tcp_stream(
    host: str | bytes,
    port: int,
    *,
    local_address: str | None,
    happy_eyeballs_delay: float | None,
) -> trio.SocketStream:
    """As `trio.open_tcp_stream`, which races addresses; one address needs no race."""
    family = address_family(host)
    if family is None or local_address is not None:
        return await trio.open_tcp_stream(
            host,
            port,
            local_address=local_address,
            happy_eyeballs_delay=happy_eyeballs_delay,
        )
    sock = trio.socket.socket(family)
    try:
        await sock.connect((host, port))
        return trio.SocketStream(sock)
    except OSError as exc:
        sock.close()
        message = f"all attempts to connect to {host_and_port(host, port)} failed"
        raise OSError(message) from ExceptionGroup(message, [exc])
    except BaseException:
        sock.close()
        raise


def check_tcp_options(local_address: object, happy_eyeballs_delay: object) -> None:
    """Raise unless `trio.open_tcp_stream` can make something of them."""
    if local_address is not None:
        check_type("local_address", local_address, str)
    if happy_eyeballs_delay is not None:
        check_seconds("happy_eyeballs_delay", happy_eyeballs_delay)


def check_listen_options(host: object, port: object, backlog: object) -> None:
    """Raise unless `trio.open_tcp_listeners` can make something of them."""
    if host is not None:
        check_host(host)
    check_port(port)
    if backlog is not None:
        check_type("backlog", backlog, int)


async def open_tls_over_tcp_listeners(
    port: int,
    ssl_context: ssl.SSLContext,
    *,
    host: str | bytes | None = None,
    https_compatible: bool = False,
    backlog: int | None = None,
    policy: ShutdownPolicy = ShutdownPolicy(),
) -> list[TLSListener[trio.SocketStream]]:
    """Listen on a TCP port, for TLS.

    Takes the place of `trio.open_ssl_over_tcp_listeners`. Accepted streams do their
    handshake at first use, without a time limit of their own.

    Args:
      port: The TCP port; 0 is any that is free.
      ssl_context: The server's context.
      host: Where to listen. Default: None, all addresses of this machine, with a
        listener for IPv4 and one for IPv6.
      https_compatible: As for `TLSStream`. Default: False.
      backlog: How many connections may wait to be accepted. Default: as many as
        the system allows.
      policy: Limits on ending each accepted stream.

    Cancellation:
      Nothing is left open.

    Raises:
      OSError: the address is in use or not permitted.
      ssl.SSLError: the context is for clients.
      TypeError: an argument has the wrong type.
      ValueError: a number is out of range, or *host* is a URL, say.
    """
    check_listen_options(host, port, backlog)
    check_context(ssl_context, server_side=True)
    check_type("https_compatible", https_compatible, bool)
    check_type("policy", policy, ShutdownPolicy)
    return [
        TLSListener(
            listener, ssl_context, https_compatible=https_compatible, policy=policy
        )
        for listener in await trio.open_tcp_listeners(port, host=host, backlog=backlog)
    ]


async def serve_tls_over_tcp(
    handler: Handler,
    port: int,
    ssl_context: ssl.SSLContext,
    *,
    host: str | bytes | None = None,
    https_compatible: bool = False,
    backlog: int | None = None,
    handler_nursery: trio.Nursery | None = None,
    task_status: trio.TaskStatus[
        list[TLSListener[trio.SocketStream]]
    ] = trio.TASK_STATUS_IGNORED,
    policy: ShutdownPolicy = ShutdownPolicy(),
    handshake_timeout: float | None = 30.0,
) -> NoReturn:
    """Listen on a TCP port, and run *handler* for each TLS connection.

    Takes the place of `trio.serve_ssl_over_tcp`. As there, an exception from a handler
    leaves through the nursery of the handlers, and takes the server down. A stream
    that a handler leaves open is aborted, so that its peer sees a cut: use
    ``async with stream:``. `TLSNursery.start_server` takes care of both.

    Unlike `trio.serve_ssl_over_tcp`, this does the handshake before it calls the handler,
    in the same task. A failure is logged and does not affect other connections.

    Args:
      handler: An async function, called with each stream in a task of its own.
      port: As for `open_tls_over_tcp_listeners`.
      ssl_context: The server's context.
      host: As for `open_tls_over_tcp_listeners`.
      https_compatible: As for `TLSStream`. Default: False.
      backlog: As for `open_tls_over_tcp_listeners`.
      handler_nursery: The nursery for the handlers. Default: one of its own.
      task_status: Is given the listeners.
      policy: Limits on ending the connection.
      handshake_timeout: Seconds for the handshake. None leaves it to the handler, as
        Trio does. Default: 30.

    Cancellation:
      The listeners are closed. If the handlers run in its own nursery, they are
      cancelled.

    Raises:
      Exception: as `open_tls_over_tcp_listeners`; TypeError also if *handler* cannot
        be called.
    """
    if not callable(handler):
        raise TypeError(f"handler must be an async function, not {handler!r}")
    if handshake_timeout is not None:
        check_seconds("handshake_timeout", handshake_timeout)
    listeners = await open_tls_over_tcp_listeners(
        port,
        ssl_context,
        host=host,
        https_compatible=https_compatible,
        backlog=backlog,
        policy=policy,
    )
    async with trio.open_nursery() as nursery:
        handlers = nursery if handler_nursery is None else handler_nursery

        def start(transport: trio.SocketStream, peer: str) -> None:
            stream = TLSStream(
                transport,
                ssl_context,
                server_side=True,
                https_compatible=https_compatible,
                policy=policy,
            )
            handlers.start_soon(_handle, handler, stream, peer, handshake_timeout)

        async def accept(listener: TLSListener[trio.SocketStream]) -> None:
            async with listener:
                assert isinstance(listener.transport_listener, trio.SocketListener)
                await accept_connections(listener.transport_listener, start)

        for listener in listeners:
            nursery.start_soon(accept, listener)
        task_status.started(listeners)
    raise AssertionError("accepting never ends by itself")  # pragma: no cover


async def _handle(
    handler: Handler,
    stream: SocketTLSStream,
    peer: str,
    handshake_timeout: float | None,
) -> None:
    try:
        if handshake_timeout is None or await _greet(stream, peer, handshake_timeout):
            await handler(stream)
    finally:
        if outcome_if_over(stream) is None:
            await trio.aclose_forcefully(stream)


async def _greet(stream: SocketTLSStream, peer: str, limit: float) -> bool:
    began = trio.current_time()
    heard = None
    with trio.move_on_after(limit):
        heard = await wait_first_bytes(stream.transport_stream)
    if heard is None:
        log_visitor(peer)
        return False
    try:
        await do_handshake(stream, limit, since=began)
    except trio.BrokenResourceError as exc:
        log_failed_handshake(peer, exc)
        return False
    return True
