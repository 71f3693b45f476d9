"""The exceptions, grouped by the layer that failed.

At the stream boundary every error is one of Trio's: ours are subclasses that
carry the data. Misuse raises `trio.ClosedResourceError`,
`trio.BusyResourceError`, `TypeError` or `ValueError`, as in Trio.
"""

from __future__ import annotations

import copyreg
import os
import ssl
from typing import Any, TypeVar

import trio

from ._reasons import explain, reason_of


class TLSDownError(Exception):
    """The root of this package's own errors.

    They can be copied and pickled, with their attributes and notes, and with a cause
    that is an `OSError`, as an `ssl.SSLError` is.

    Attributes:
      host: To which host `TLSNursery.connect` was to connect, or has connected, or at
        which `TLSNursery.start_server` was to listen; None in errors of others.
      port: Likewise. If it is there, the message begins with both.
    """

    host: str | bytes | None = None
    port: int | None = None

    def __str__(self) -> str:
        """Say where, if that is known, and what."""
        text = super().__str__()
        if self.port is None:
            return text
        return f"{host_and_port(self.host, self.port)}: {text}"

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception would be made anew from its message, which none of ours is.
        state = {**vars(self), "args": self.args}
        if isinstance(self, OSError):
            state["errno"] = self.errno
        if isinstance(self.__cause__, OSError):
            state["__cause__"] = self.__cause__
        return copyreg.__newobj__, (type(self),), state  # type: ignore[attr-defined]


def host_and_port(host: str | bytes | None, port: int) -> str:
    """Where, as people write it; None is any address of this machine."""
    name = os.fsdecode(host or "*")
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


E_TLSDown = TypeVar("E_TLSDown", bound=TLSDownError)


def at_address(error: E_TLSDown, address: tuple[str | bytes, int] | None) -> E_TLSDown:
    """Have *error* say with whom we were connected, if that is known."""
    if address is not None:
        error.host, error.port = address
    return error


class ConnectFailedError(TLSDownError, OSError):
    """There is no TCP connection: no such name, nobody listens, no way, no answer.

    The cause is the `OSError` of Trio, which knows about each address.

    Attributes:
      errno: What all addresses failed with, such as `errno.ECONNREFUSED`; None
        if they differ. If the name has no address: that of `socket.gaierror`,
        such as `socket.EAI_NONAME`.
    """

    def __init__(self, host: str | bytes, port: int, error: OSError) -> None:
        super().__init__(f"cannot connect: {_reasons(error)}")
        _tell_where(self, host, port, error)


class ListenFailedError(TLSDownError, OSError):
    """There is no listening: the port is taken or not allowed, or no such address.

    The cause is the `OSError` of the system.

    Attributes:
      errno: Such as `errno.EADDRINUSE`.
    """

    def __init__(self, host: str | bytes | None, port: int, error: OSError) -> None:
        super().__init__(f"cannot listen: {_reasons(error)}")
        _tell_where(self, host, port, error)


class HandshakeTimeoutError(TLSDownError, trio.BrokenResourceError, trio.TooSlowError):
    """The TLS handshake took longer than it may.

    Attributes:
      timeout: How long it may take, in seconds.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        super().__init__(f"the TLS handshake took longer than {timeout:g} s")


class TruncatedError(TLSDownError, trio.BrokenResourceError):
    """The transport ended and the peer's close_notify never came.

    What was received may be incomplete: the peer crashed, does not say
    goodbye, or an attacker cut the connection. Do not treat it as a whole
    unless the application's own framing says so.

    Attributes:
      mid_record: Whether the cut fell inside a TLS record. Diagnostic only: an
        attacker can choose a boundary.
    """

    def __init__(self, *, mid_record: bool) -> None:
        self.mid_record = mid_record
        where = "inside a TLS record" if mid_record else "between two TLS records"
        super().__init__(
            f"the peer's transport ended {where}, without close_notify: "
            "data may be missing"
        )
        # What trio.SSLStream chains here, and what code written for it looks for.
        _chain(
            self,
            ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "EOF occurred in violation of protocol"),
        )


class TransportBrokenError(TLSDownError, trio.BrokenResourceError):
    """The transport under the TLS session failed (ECONNRESET, EPIPE, ...).

    The cause is the `OSError` behind it, or else what the transport raised.
    """

    def __init__(self, error: trio.BrokenResourceError) -> None:
        super().__init__(*error.args or ("the transport failed",))
        _chain(self, error.__cause__ or error)


class TLSFailedError(TLSDownError, trio.BrokenResourceError):
    """The TLS layer failed: fatal alert, bad record, handshake refused.

    The cause is the `ssl.SSLError`.

    Attributes:
      reason: OpenSSL's word for it, such as ``"CERTIFICATE_VERIFY_FAILED"``;
        None if it gave none.
      during_handshake: Whether it kept the connection from being established.
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
    """`TLSStream.unwrap` found application data that nobody has read.

    Read it with `TLSStream.receive_some` until ``b""``, then unwrap.

    Attributes:
      unread: How many bytes of plaintext are waiting.
    """

    def __init__(self, unread: int) -> None:
        self.unread = unread
        super().__init__(
            f'{unread} bytes of application data are unread: receive until b"", '
            "then unwrap"
        )


class HalfCloseUnsupportedError(TLSDownError, RuntimeError, AttributeError):
    """Half-close was asked for on TLS 1.2 or older.

    It is an `AttributeError`, too: `trio.SSLStream` has no ``send_eof``, and code that
    takes any stream is prepared for that.

    A conforming TLS 1.2 peer discards what it still had to say when it gets a
    close_notify (`RFC 5246 section 7.2.1
    <https://www.rfc-editor.org/rfc/rfc5246#section-7.2.1>`__). Use TLS 1.3, or
    `TLSStream.shutdown`, or, if this peer is known to behave,
    ``send_eof(allow_tls12=True)``.

    Attributes:
      version: The negotiated version, such as ``"TLSv1.2"``.
    """

    def __init__(self, version: str | None) -> None:
        self.version = version
        super().__init__(
            f"{version} has no half-close: a conforming peer discards its answer. "
            "Use TLS 1.3 or shutdown(), or insist with send_eof(allow_tls12=True)"
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
    causes = _each(error)
    if causes == [error]:
        return error.strerror or str(error)
    # Without the address that Trio adds, and each once: a host often has several
    # addresses, and one trouble.
    return "; ".join(
        dict.fromkeys(
            os.strerror(one.errno) if one.errno else str(one) for one in causes
        )
    )


def _each(error: OSError) -> list[OSError]:
    # Trio chains what happened at each address of a host.
    causes: tuple[object, ...] = getattr(error.__cause__, "exceptions", (error,))
    return [one for one in causes if isinstance(one, OSError)]


def _chain(error: Exception, cause: BaseException | None) -> None:
    # As ``raise error from cause`` does, before anybody raises it.
    error.__cause__ = cause
