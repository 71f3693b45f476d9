"""What a TLS session knows about itself and its peer."""

from __future__ import annotations

import ssl
import sys
from typing import TYPE_CHECKING, Literal, overload

import trio

if TYPE_CHECKING:
    from typing import Any

    from .connection import Connection


class SessionInfo:
    """The attributes of `ssl.SSLObject`, typed.

    Where there is no answer before the handshake, an SSLObject returns None;
    these raise `trio.NeedHandshakeError`, as `trio.SSLStream` does.
    """

    _connection: Connection

    def _after_handshake(self, name: str) -> ssl.SSLObject:
        if not self._connection.state.handshaken:
            raise trio.NeedHandshakeError(f"call do_handshake() before {name}")
        return self._connection.engine.ssl_object

    @property
    def _ssl_object(self) -> ssl.SSLObject:
        # httpcore reads this attribute of trio.SSLStream, to learn from it what ALPN
        # agreed on; so it has to be here for programs that use a TLSStream instead.
        return self._connection.engine.ssl_object

    @property
    def context(self) -> ssl.SSLContext:
        """The context in use. An SNI callback may set another one."""
        return self._connection.engine.ssl_object.context

    @context.setter
    def context(self, context: ssl.SSLContext) -> None:
        self._connection.engine.ssl_object.context = context

    @property
    def server_side(self) -> bool:
        """Whether this is the server's end."""
        return self._connection.engine.ssl_object.server_side

    @property
    def server_hostname(self) -> str | None:
        """The name the client asks for, as it goes out (IDNA encoded)."""
        return self._connection.engine.ssl_object.server_hostname

    @property
    def session(self) -> ssl.SSLSession | None:
        """The session, for resumption: `TLSNursery.connect`; None before the handshake.

        On TLS 1.3 the server sends its tickets after the handshake, so take the session
        after something was received. Resume each one only once, so that observers
        cannot link two connections of a client (`RFC 9846 appendix C.4
        <https://www.rfc-editor.org/rfc/rfc9846#appendix-C.4>`__).

        A resumed handshake has no certificates, and OpenSSL does not check the original
        ones again: neither the name, nor ``verify_mode``, nor the expiry. So resume a
        session only with the same server and name, and only if the context was at least
        as strict when the session was made.

        Resumption saves both sides the signatures, and on TLS 1.2 a round trip. Getting
        and setting a session costs about 0.25 ms in Python, more than a client saves on
        TLS 1.3.

        Raises:
          ValueError: it is set to a session of another context, on a server, or after
            the handshake.
        """
        return self._connection.engine.ssl_object.session

    @session.setter
    def session(self, session: ssl.SSLSession) -> None:
        self._connection.engine.ssl_object.session = session

    @property
    def session_reused(self) -> bool | None:
        """Whether the handshake resumed an earlier session."""
        return self._after_handshake("session_reused").session_reused

    @overload
    def getpeercert(
        self, binary_form: Literal[False] = False
    ) -> dict[str, Any] | None: ...
    @overload
    def getpeercert(self, binary_form: Literal[True]) -> bytes | None: ...
    @overload
    def getpeercert(self, binary_form: bool) -> dict[str, Any] | bytes | None: ...
    def getpeercert(self, binary_form: bool = False) -> dict[str, Any] | bytes | None:
        """The peer's certificate: `ssl.SSLSocket.getpeercert`.

        Raises:
          ValueError: the peer is in the middle of another handshake (TLS 1.2), or of a
            message such as a session ticket (TLS 1.3). So ask before more is received.
        """
        return self._after_handshake("getpeercert()").getpeercert(binary_form)

    if sys.version_info >= (3, 13):

        def get_verified_chain(self) -> list[bytes]:
            """The peer's certificate chain as verified, up to a trusted CA, in DER.

            Empty if the peer sent none or nothing was verified.
            """
            name = "get_verified_chain()"
            return self._after_handshake(name).get_verified_chain()

        def get_unverified_chain(self) -> list[bytes]:
            """The certificates that the peer sent, in DER."""
            name = "get_unverified_chain()"
            return self._after_handshake(name).get_unverified_chain()

    def verify_client_post_handshake(self) -> None:
        """On a server, request a TLS 1.3 client's certificate after the handshake.

        The request goes out with the next send. Once data that follows the answer has
        been received, `getpeercert` returns the certificate. If it is invalid, receiving
        raises TLSFailedError. See `ssl.SSLSocket.verify_client_post_handshake`.

        Raises:
          ssl.SSLError: the client does not support it
            (``SSLContext.post_handshake_auth``), this is not a server, or not TLS 1.3.
            The connection continues.
        """
        name = "verify_client_post_handshake()"
        self._after_handshake(name).verify_client_post_handshake()

    def selected_alpn_protocol(self) -> str | None:
        """The protocol that ALPN agreed on, or None."""
        name = "selected_alpn_protocol()"
        return self._after_handshake(name).selected_alpn_protocol()

    def selected_npn_protocol(self) -> str | None:
        """None: OpenSSL no longer supports NPN; ALPN has replaced it."""
        name = "selected_npn_protocol()"
        self._after_handshake(name)
        return None

    def cipher(self) -> tuple[str, str, int] | None:
        """Name of the cipher, version that defines it, number of secret bits."""
        return self._after_handshake("cipher()").cipher()

    def shared_ciphers(self) -> list[tuple[str, str, int]] | None:
        """The ciphers that both sides offered; None on the client."""
        return self._after_handshake("shared_ciphers()").shared_ciphers()

    def compression(self) -> str | None:
        """The compression in use: None, on any current system."""
        return self._after_handshake("compression()").compression()

    def get_channel_binding(self, cb_type: str = "tls-unique") -> bytes | None:
        """Bytes that name this connection: `ssl.SSLSocket.get_channel_binding`."""
        name = "get_channel_binding()"
        return self._after_handshake(name).get_channel_binding(cb_type)

    def version(self) -> str | None:
        """The version that was negotiated, such as ``"TLSv1.3"``."""
        self._after_handshake("version()")
        return self._connection.engine.version()

    def pending(self) -> int:
        """How many bytes of plaintext `receive_some` would return at once."""
        return self._connection.engine.unread
