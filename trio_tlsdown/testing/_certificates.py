"""A throw-away CA, and contexts whose certificates it signed."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Sequence
from typing import Final, TypedDict, Unpack

import trustme

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
    """What `server_context` and `client_context` can be asked for."""

    version: str | None
    """The only TLS version, as `TLSStream.version` names it: ``"TLSv1.2"`` or
    ``"TLSv1.3"``. Default: both."""

    alpn: Sequence[str]
    """Protocols that are offered, the best first. Default: no ALPN."""

    client_certificate: bool
    """The client has one, the server demands one. Default: False."""

    ca: trustme.CA | None
    """Who signs the certificates. Default: a CA that is made for this process."""


def server_context(**options: Unpack[ContextOptions]) -> ssl.SSLContext:
    """A context for a server that is called localhost, 127.0.0.1 and ::1.

    Args:
      **options: See `ContextOptions`.

    Raises:
      ValueError: a *version* that there is not.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca = _configure(context, **options)
    _certificate(ca, NAME).configure_cert(context)
    if options.get("client_certificate"):
        context.verify_mode = ssl.CERT_REQUIRED
        ca.configure_trust(context)
    return context


def client_context(**options: Unpack[ContextOptions]) -> ssl.SSLContext:
    """A context for a client that trusts the CA, and nobody else.

    Args:
      **options: See `ContextOptions`.

    Raises:
      ValueError: a *version* that there is not.
    """
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
        if version not in VERSIONS:
            raise ValueError(
                f"version must be one of {', '.join(VERSIONS)}, not {version!r}"
            )
        context.minimum_version = context.maximum_version = VERSIONS[version]
    if isinstance(alpn, str):
        raise TypeError(f"alpn must be several names, not {alpn!r}")
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return ca or default_ca()
