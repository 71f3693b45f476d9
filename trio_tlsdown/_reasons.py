"""OpenSSL's reasons in words: whose fault it is, and what to do about it."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import Final

# The first bytes are not a TLS record. Later, it would be about a broken one.
NOT_TLS: Final = frozenset(
    {
        "HTTP_REQUEST",
        "HTTPS_PROXY_REQUEST",
        "PACKET_LENGTH_TOO_LONG",
        "RECORD_LAYER_FAILURE",
        "UNKNOWN_PROTOCOL",
        "WRONG_VERSION_NUMBER",
    }
)

VERSIONS: Final = "see minimum_version and maximum_version of ssl_context"

# What either side can meet. {peer} is the other one. An ALERT is what that has sent.
EITHER_SIDE: Final[Mapping[str, str]] = {
    "NO_CIPHERS_AVAILABLE": (
        "ssl_context leaves no cipher to use: see its ciphers, minimum_version and "
        "maximum_version"
    ),
    "NO_PROTOCOLS_AVAILABLE": f"ssl_context leaves no TLS version to use: {VERSIONS}",
    "SSLV3_ALERT_BAD_CERTIFICATE": (
        "the {peer} refused our certificate: bad certificate, such as one for "
        "another name"
    ),
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": (
        "the {peer} refused our certificate: it has expired"
    ),
    "SSLV3_ALERT_CERTIFICATE_REVOKED": (
        "the {peer} refused our certificate: it was revoked"
    ),
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": (
        "the {peer} refused our certificate, and does not say why"
    ),
    "SSLV3_ALERT_HANDSHAKE_FAILURE": (
        "the {peer} refused the handshake, and does not say why: its log may"
    ),
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": (
        "the {peer} refused our certificate: it is of a kind, or for a purpose, that "
        "the {peer} does not take"
    ),
    "TLSV1_ALERT_ACCESS_DENIED": ("the {peer} knows who we are, and refused us"),
    "TLSV1_ALERT_INTERNAL_ERROR": (
        "the {peer} met an error of its own: its log may tell which"
    ),
    "TLSV1_ALERT_PROTOCOL_VERSION": (
        f"the {{peer}} accepts no TLS version that we offer: {VERSIONS}"
    ),
    "TLSV1_ALERT_UNKNOWN_CA": (
        "the {peer} refused our certificate: it does not know the CA. Either it has to "
        "trust that, or load_cert_chain() has to load the intermediate certificates, too"
    ),
    "UNSUPPORTED_PROTOCOL": f"no TLS version in common with the {{peer}}: {VERSIONS}",
}

AS_CLIENT: Final[Mapping[str, str]] = {
    "SSLV3_ALERT_HANDSHAKE_FAILURE": (
        "the server refused the handshake, and does not say why: it may have no "
        "certificate, want one of ours, or have no cipher or curve in common with us. "
        "Its log may tell"
    ),
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": (
        "the server wants a client certificate: "
        "load one with ssl_context.load_cert_chain()"
    ),
    "TLSV1_ALERT_NO_APPLICATION_PROTOCOL": (
        "the server speaks none of the protocols of ssl_context.set_alpn_protocols()"
    ),
    "TLSV1_UNRECOGNIZED_NAME": (
        "the server does not know the name that we ask for: see server_hostname"
    ),
}

AS_SERVER: Final[Mapping[str, str]] = {
    "CALLBACK_FAILED": (
        "a callback of ssl_context, such as its sni_callback, refused the client or "
        "raised (see sys.unraisablehook)"
    ),
    "NO_SHARED_CIPHER": (
        "no cipher in common with the client: has ssl_context a certificate "
        "(load_cert_chain())?"
    ),
    "NO_SUITABLE_KEY_SHARE": (
        "no key exchange in common with the client: see ssl_context.set_ecdh_curve()"
    ),
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": (
        "the client sent no certificate, and ssl_context.verify_mode demands one"
    ),
    # Without a certificate OpenSSL does not offer TLS 1.3.
    "UNSUPPORTED_PROTOCOL": (
        f"no TLS version in common with the client: {VERSIONS}; "
        "TLS 1.3 needs a certificate (load_cert_chain())"
    ),
}

UNTRUSTED: Final = (
    "load the CA with ssl_context.load_verify_locations(); or the {peer} does not send "
    "its intermediate certificates"
)
CLOCK: Final = "the {peer} needs another certificate, or a clock is wrong"
OTHER_NAME: Final = "give as server_hostname a name that it is valid for"
STRICT: Final = (
    "it or its CA breaks RFC 5280: replace it, or clear VERIFY_X509_STRICT in "
    "ssl_context.verify_flags"
)

# By X509_V_ERR_*, see <openssl/x509_vfy.h>: what to do about the peer's certificate.
REMEDIES: Final[Mapping[int, str]] = {
    2: UNTRUSTED,
    3: "load a CRL with ssl_context.load_verify_locations()",
    9: CLOCK,
    10: CLOCK,
    18: "if you trust it, load it with ssl_context.load_verify_locations()",
    19: "if you trust that, load it with ssl_context.load_verify_locations()",
    20: UNTRUSTED,
    21: UNTRUSTED,
    26: "it is not for a {peer}",
    62: OTHER_NAME,
    64: OTHER_NAME,
    **dict.fromkeys(range(80, 95), STRICT),
}


BY_SIDE: Final[Mapping[bool | None, Mapping[str, str]]] = {
    None: EITHER_SIDE,
    False: {**EITHER_SIDE, **AS_CLIENT},
    True: {**EITHER_SIDE, **AS_SERVER},
}
PEERS: Final[Mapping[bool | None, str]] = {
    None: "peer",
    False: "server",
    True: "client",
}


def reason_of(error: ssl.SSLError) -> str | None:
    """OpenSSL's name for what *error* is about, if there is one."""
    reason: object = getattr(error, "reason", None)
    if isinstance(reason, str):
        return reason
    # Python knows no name for what is newer than itself (RECORD_LAYER_FAILURE of
    # OpenSSL 3.2), or had none (no_application_protocol). The text comes from OpenSSL.
    found = re.match(r"\[SSL\] (.+?)( \(_ssl\.c:\d+\))?$", _text(error))
    return None if found is None else found[1].upper().replace(" ", "_")


def explain(
    error: ssl.SSLError, *, during_handshake: bool, server_side: bool | None
) -> str:
    """What *error* means, and what to do; where that is not known, the error's words.

    It takes any: Python code that raises an `ssl.SSLError` in a hook need not know
    what OpenSSL puts into one.
    """
    peer = PEERS[server_side]
    if isinstance(error, ssl.SSLCertVerificationError):
        code: object = getattr(error, "verify_code", None)
        message: object = getattr(error, "verify_message", None)
        text = message if isinstance(message, str) else _text(error)
        if isinstance(code, int) and code in REMEDIES:
            text = f"{text.removesuffix('.')}: {REMEDIES[code].format(peer=peer)}"
        return f"certificate verification: {text}"
    reason = reason_of(error)
    if during_handshake and reason in NOT_TLS:
        return f"the peer does not seem to speak TLS ({reason})"
    if reason is not None and (words := BY_SIDE[server_side].get(reason)):
        return f"{words.format(peer=peer)} ({reason})"
    return _text(error)


def _text(error: ssl.SSLError) -> str:
    try:
        text = str(error)
        if text == str(error.args):  # as long as there is no strerror
            text = ", ".join(map(str, error.args))
    except Exception:  # noqa: BLE001 - it may be of a class of the user's
        text = ""
    return text or type(error).__name__
