"""A throw-away CA, and contexts whose certificates it signed."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Final, TypedDict, Unpack

import trustme

from ._options import check_choice, check_options, check_type

NAME: Final = "localhost"
ADDRESSES: Final = ("127.0.0.1", "::1")

VERSIONS: Final = {
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}


@functools.cache
def default_ca() -> trustme.CA:
    """The CA of all that is not given another one: one for the whole process."""
    return trustme.CA()


@functools.cache
def _certificate(ca: trustme.CA, name: str) -> trustme.LeafCert:
    # Making one takes longer than a handshake.
    return ca.issue_cert(name, *ADDRESSES)


class ContextOptions(TypedDict, total=False):
    """Options of all functions that create an SSL context.

    Attributes:
      version: The only TLS version, as `TLSStream.version` names it: ``"TLSv1.2"``
        or ``"TLSv1.3"``. Default: both.
      alpn: The protocols to offer by ALPN, in order of preference. Default: no ALPN.
      client_certificate: The client has a certificate, and the server demands one.
        Default: False.
      ca: The `trustme.CA` that signs the certificates. Default: one CA per process.
    """

    version: str | None
    alpn: Sequence[str]
    client_certificate: bool
    ca: trustme.CA | None


def check_context_options(
    function: Callable[..., object], options: ContextOptions
) -> None:
    """Check *options* for the public *function* that was called with them.

    Raises:
      TypeError: one of them has the wrong type, or there is no such option.
      ValueError: *version* is unknown.
    """
    check_options(function, options, ContextOptions.__annotations__)
    if (version := options.get("version")) is not None:
        check_choice("version", version, VERSIONS)
    alpn = options.get("alpn", ())
    if not _are_names(alpn):
        raise TypeError(f"alpn must be a list of names, such as ['h2'], not {alpn!r}")
    check_type("client_certificate", options.get("client_certificate", False), bool)
    if (ca := options.get("ca")) is not None:
        check_type("ca", ca, trustme.CA)


def _are_names(value: Any) -> bool:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return False
    names: list[object] = list(value)  # pyright: ignore[reportUnknownArgumentType]
    return all(isinstance(name, str) for name in names)


def server_context(**options: Unpack[ContextOptions]) -> ssl.SSLContext:
    """Create a context for a server called localhost, 127.0.0.1 and ::1.

    Args:
      **options: *version*, *alpn*, *client_certificate* and *ca*: see
        `ContextOptions`.

    Raises:
      TypeError: an option is unknown or has the wrong type.
      ValueError: *version* is unknown.
    """
    check_context_options(server_context, options)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca = _configure(context, **options)
    _certificate(ca, NAME).configure_cert(context)
    if options.get("client_certificate"):
        context.verify_mode = ssl.CERT_REQUIRED
        ca.configure_trust(context)
    return context


def client_context(**options: Unpack[ContextOptions]) -> ssl.SSLContext:
    """Create a context for a client that trusts only the CA.

    Args:
      **options: *version*, *alpn*, *client_certificate* and *ca*: see
        `ContextOptions`.

    Raises:
      TypeError: an option is unknown or has the wrong type.
      ValueError: *version* is unknown.
    """
    check_context_options(client_context, options)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca = _configure(context, **options)
    ca.configure_trust(context)
    if options.get("client_certificate"):
        _certificate(ca, "client.example").configure_cert(context)
    return context


def _configure(
    context: ssl.SSLContext,
    *,
    version: str | None = None,
    alpn: Sequence[str] = (),
    client_certificate: bool = False,
    ca: trustme.CA | None = None,
) -> trustme.CA:
    if version is not None:
        context.minimum_version = context.maximum_version = VERSIONS[version]
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return ca or default_ca()
