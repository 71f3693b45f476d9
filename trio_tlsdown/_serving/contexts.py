"""Checks of SSL contexts: the right role, and whether a server can work at all."""

from __future__ import annotations

import contextlib
import ssl

from trio_tlsdown._util import LOGGER, check_context, check_type


def client_context(
    context: ssl.SSLContext | None, session: ssl.SSLSession | None = None
) -> ssl.SSLContext:
    """The context that clients use: a new one by default.

    Args:
      context: The user's.
      session: What is to be resumed with it.

    Raises:
      TypeError: either is something else.
      ssl.SSLError: the context is for servers.
      ValueError: there is a session, and none that it could be of.
    """
    if session is not None:
        check_type("session", session, ssl.SSLSession)
        if context is None:
            raise ValueError("session needs the ssl_context that it was made with")
    if context is None:
        return _default_client_context()
    check_context(context, server_side=False)
    return context


def _default_client_context() -> ssl.SSLContext:
    # TLSStream does not let OpenSSL take a cut for an end; but the context is the
    # user's to see, and may end up elsewhere.
    context = ssl.create_default_context()
    # Builds that use this bit differ in whether Python has a name for it.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    return context


def warn_if_unusable(context: ssl.SSLContext) -> None:
    """Log a warning if every client would be refused, as without a certificate.

    A context does not tell whether it has one, so this tries a ClientHello.
    """
    if context.sni_callback is not None:
        return  # it may switch to another context
    incoming = ssl.MemoryBIO()
    incoming.write(_client_hello())
    server = context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
    try:
        # Bypasses SSLContext.sslobject_class, which may be the user's.
        ssl.SSLObject.do_handshake(server)
    except ssl.SSLWantReadError:
        pass
    except ssl.SSLError as exc:
        LOGGER.warning(
            "TLS clients will be refused (%s), unless they use a pre-shared key: "
            "ssl_context needs a certificate, see SSLContext.load_cert_chain()",
            exc.reason,
        )


def _client_hello() -> bytes:
    """A ClientHello that offers everything there is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("ALL:@SECLEVEL=0")
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()
