"""Argument validation, the logger, and other small helpers."""

from __future__ import annotations

import functools
import inspect
import logging
import math
import ssl
from collections.abc import Callable
from typing import Final, TypeVar


def check_type(name: str, value: object, expected: type | object) -> None:
    if not isinstance(value, expected):  # type: ignore[arg-type]
        wanted = getattr(expected, "__name__", str(expected))
        article = "an" if wanted.startswith((*"AEIOUaeiou", "SSL")) else "a"
        raise TypeError(f"{name} must be {article} {wanted}, not {value!r}")


def check_context(value: object, *, server_side: bool) -> None:
    check_type("ssl_context", value, ssl.SSLContext)
    assert isinstance(value, ssl.SSLContext)
    # Of the same class as what wrap_bio() raises, later, and without saying what to do.
    if server_side and value.protocol is ssl.PROTOCOL_TLS_CLIENT:
        raise ssl.SSLError(
            ssl.SSL_ERROR_SSL,
            "ssl_context is for clients (PROTOCOL_TLS_CLIENT): "
            "use ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)",
        )
    if not server_side and value.protocol is ssl.PROTOCOL_TLS_SERVER:
        raise ssl.SSLError(
            ssl.SSL_ERROR_SSL,
            "ssl_context is for servers (PROTOCOL_TLS_SERVER): "
            "use ssl.create_default_context()",
        )


def check_seconds(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    try:
        seconds = float(value)
    except OverflowError:
        raise ValueError(f"{name} must be >= 0 seconds and fit a float") from None
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(f"{name} must be >= 0 seconds, not {value!r}")


def check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be >= 1, not {value!r}")


def as_bytes(name: str, value: object) -> bytes:
    """A copy of any buffer, which may then be changed, unless it is bytes."""
    if isinstance(value, bytes):
        return value
    try:
        return memoryview(value).tobytes()  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be bytes, not {type(value).__name__}") from None


def check_port(port: object) -> None:
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"port must be an int, not {port!r}")
    if not 0 <= port < 2**16:
        raise ValueError(f"port must be from 0 to 65535, not {port!r}")


def check_async_function(name: str, value: object) -> None:
    # A C callable cannot be checked. A plain Python function might return an awaitable,
    # but is more often a mistake.
    function = value
    while isinstance(function, functools.partial):
        function = function.func
    if callable(function):
        both = function, function.__call__
        if any(_is_async(one) for one in both):
            return
        if not any(inspect.isfunction(one) or inspect.ismethod(one) for one in both):
            return
    raise TypeError(
        f"{name} must be an async function, not {value!r}; "
        "use functools.partial() to pass it more arguments"
    )


def _is_async(function: Callable[..., object]) -> bool:
    decorated = inspect.unwrap(function)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        decorated
    )


LOGGER: Final = logging.getLogger("trio_tlsdown")


E = TypeVar("E", bound=BaseException)


def without_frames(error: E) -> E:
    """Drop an error's references to stack frames, so that it can be stored.

    The frames refer to the object that stores it. The cycle would keep a TLS session
    alive until the garbage collector runs.
    """
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link.__context__ = None
        link = link.__cause__
    return error
