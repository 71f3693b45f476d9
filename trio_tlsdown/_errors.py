"""The exceptions, grouped by the layer that failed.

At the stream boundary every error is one of Trio's; ours are subclasses with
data as attributes. Misuse raises `trio.ClosedResourceError`,
`trio.BusyResourceError`, `TypeError` or `ValueError`, as in Trio.
"""

from __future__ import annotations

import copyreg
import os
import socket
import ssl
from typing import Any, TypeVar

import trio

from ._reasons import explain, reason_of


class TLSDownError(Exception):
    """The base class of this package's errors.

    They can be copied and pickled, including attributes, notes, and a cause that is an
    `OSError` (such as an `ssl.SSLError`).

    Attributes:
      host: The host that `TLSNursery.connect` was given, or the one that
        `TLSNursery.start_server` was to listen on. None in other errors.
      port: The port, likewise. If it is set, the message begins with host and port.
    """

    host: str | bytes | None = None
    port: int | None = None

    def __str__(self) -> str:
        """The message, after host and port if they are known."""
        text = super().__str__()
        if self.port is None:
            return text
        return f"{host_and_port(self.host, self.port)}: {text}"

    def __reduce__(self) -> tuple[Any, ...]:
        # By default an exception is rebuilt from its message, but our constructors
        # take other arguments.
        state = {**vars(self), "args": self.args}
        if isinstance(self, OSError):
            state["errno"] = self.errno
        if isinstance(self.__cause__, OSError):
            state["__cause__"] = self.__cause__
        return copyreg.__newobj__, (type(self),), state  # type: ignore[attr-defined]


def host_and_port(host: str | bytes | None, port: int) -> str:
    """Host and port as people write them; None is any local address."""
    name = os.fsdecode(host or "*")
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


E_TLSDown = TypeVar("E_TLSDown", bound=TLSDownError)


def at_address(error: E_TLSDown, address: tuple[str | bytes, int] | None) -> E_TLSDown:
    """Set the peer's address on *error*, if it is known."""
    if address is not None:
        error.host, error.port = address
    return error


class ConnectFailedError(TLSDownError, OSError):
    """No TCP connection could be made: no such name, refused, unreachable, timed out.

    The cause is Trio's `OSError`, which has the error of each address.

    Attributes:
      errno: The error number, such as `errno.ECONNREFUSED`, if all addresses failed
        the same way, else None. If the name did not resolve: that of
        `socket.gaierror`, such as `socket.EAI_NONAME`.
    """

    def __init__(self, host: str | bytes, port: int, error: OSError) -> None:
        super().__init__(f"cannot connect: {_reasons(error)}")
        _tell_where(self, host, port, error)


class ListenFailedError(TLSDownError, OSError):
    """Listening failed: the address is in use, not permitted, or not local.

    The cause is the system's `OSError`.

    Attributes:
      errno: The error number, such as `errno.EADDRINUSE`.
    """

    def __init__(self, host: str | bytes | None, port: int, error: OSError) -> None:
        super().__init__(f"cannot listen: {_reasons(error)}")
        _tell_where(self, host, port, error)


class HandshakeTimeoutError(TLSDownError, trio.BrokenResourceError, trio.TooSlowError):
    """The TLS handshake took longer than its timeout.

    Attributes:
      timeout: The timeout in seconds.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        super().__init__(f"the TLS handshake took longer than {timeout:g} s")


class TruncatedError(TLSDownError, trio.BrokenResourceError):
    """The transport ended without the peer's close_notify.

    What was received may be incomplete: the peer crashed, does not send close_notify,
    or an attacker cut the connection. Do not treat it as complete unless the
    application's own framing says that it is.

    Attributes:
      mid_record: Whether the cut was inside a TLS record; None if that is not known, as of
        a `trio.SSLStream`. For diagnosis only: an attacker can cut at a boundary.
    """

    def __init__(self, *, mid_record: bool | None) -> None:
        self.mid_record = mid_record
        where = "inside a TLS record, " if mid_record else "between two TLS records, "
        super().__init__(
            f"the peer's transport ended {'' if mid_record is None else where}without "
            "close_notify: data may be missing"
        )
        # trio.SSLStream chains this, and code written for it looks for it.
        _chain(
            self,
            ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "EOF occurred in violation of protocol"),
        )


class TransportBrokenError(TLSDownError, trio.BrokenResourceError):
    """The transport under the TLS session failed (ECONNRESET, EPIPE, ...).

    The cause is the underlying `OSError`, or else what the transport raised.
    """

    def __init__(self, error: trio.BrokenResourceError) -> None:
        super().__init__(*error.args or ("the transport failed",))
        _chain(self, error.__cause__ or error)


class TLSFailedError(TLSDownError, trio.BrokenResourceError):
    """The TLS layer failed: fatal alert, bad record, handshake refused.

    The cause is the `ssl.SSLError`.

    Attributes:
      reason: OpenSSL's name for it, such as ``"CERTIFICATE_VERIFY_FAILED"``, if it
        gave one.
      during_handshake: Whether it happened in the handshake.
    """

    def __init__(
        self,
        error: ssl.SSLError | None,
        *,
        during_handshake: bool,
        server_side: bool | None = None,
    ) -> None:
        self.reason: str | None = None if error is None else reason_of(error)
        self.during_handshake = during_handshake
        what = "the TLS handshake" if during_handshake else "TLS"
        if error is None:
            detail = "it was closed by another task"
        else:
            detail = explain(
                error, during_handshake=during_handshake, server_side=server_side
            )
        super().__init__(f"{what} failed: {detail}")
        _chain(self, error)


class UnreadDataError(TLSDownError, trio.BrokenResourceError):
    """`TLSStream.unwrap` found unread application data.

    Receive until ``b""``, then unwrap.

    Attributes:
      unread: How many bytes of plaintext are waiting.
    """

    def __init__(self, unread: int) -> None:
        self.unread = unread
        super().__init__(
            f'{unread} bytes of application data are unread: receive until b"", '
            "then unwrap again"
        )


class HalfCloseUnsupportedError(TLSDownError, RuntimeError, AttributeError):
    """`TLSStream.send_eof` was called on TLS 1.2 or older.

    It is also an `AttributeError`: `trio.SSLStream` has no ``send_eof``, and code that
    accepts any stream handles that.

    A conforming TLS 1.2 peer discards its pending data when it receives close_notify
    (`RFC 5246 section 7.2.1
    <https://www.rfc-editor.org/rfc/rfc5246#section-7.2.1>`__). Use TLS 1.3, or
    `TLSStream.shutdown`, or ``send_eof(allow_tls12=True)`` if this peer is known to
    send its data all the same.

    Attributes:
      version: The negotiated version, such as ``"TLSv1.2"``.
    """

    def __init__(self, version: str | None) -> None:
        self.version = version
        super().__init__(
            f"{version} has no half-close: a conforming peer discards its answer. "
            "Use TLS 1.3 or shutdown(), or force it with send_eof(allow_tls12=True)"
        )


def _tell_where(
    error: ConnectFailedError | ListenFailedError,
    host: str | bytes | None,
    port: int,
    cause: OSError,
) -> None:
    error.host = host
    error.port = port
    numbers = {one.errno for one in _each(cause)}
    error.errno = numbers.pop() if len(numbers) == 1 else None
    _chain(error, cause)


def _reasons(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return error.strerror or str(error)  # its errno is not the system's
    # Without the address that Trio adds, and each reason once: the addresses of a host
    # usually fail for the same one.
    return "; ".join(
        dict.fromkeys(
            os.strerror(one.errno) if one.errno else str(one) for one in _each(error)
        )
    )


def _each(error: OSError) -> list[OSError]:
    # Trio chains the errors of each address of a host.
    causes: tuple[object, ...] = getattr(error.__cause__, "exceptions", (error,))
    return [one for one in causes if isinstance(one, OSError)]


def _chain(error: Exception, cause: BaseException | None) -> None:
    # As ``raise error from cause`` does, before anybody raises it.
    error.__cause__ = cause
