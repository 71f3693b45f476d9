"""OpenSSL's reason codes explained: whose fault it is, and what to do about it."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import Final

# In the handshake: the first bytes are not a TLS record. (Later: a corrupt record.)
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

# For both sides. {peer} is the other one, who has sent what is called an ALERT.
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
        "the {peer} refused our certificate without saying why"
    ),
    "SSLV3_ALERT_HANDSHAKE_FAILURE": (
        "the {peer} refused the handshake without saying why: see its log"
    ),
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": (
        "the {peer} refused our certificate: it does not accept its type or purpose"
    ),
    "TLSV1_ALERT_ACCESS_DENIED": (
        "the {peer} accepted our certificate but denied access"
    ),
    "TLSV1_ALERT_INTERNAL_ERROR": ("the {peer} had an internal error: see its log"),
    "TLSV1_ALERT_PROTOCOL_VERSION": (
        f"the {{peer}} accepts none of the TLS versions that we offer: {VERSIONS}"
    ),
    "TLSV1_ALERT_UNKNOWN_CA": (
        "the {peer} refused our certificate: it does not know the CA. Make it trust the "
        "CA, or include the intermediate certificates in load_cert_chain()"
    ),
    "UNSUPPORTED_PROTOCOL": f"no TLS version in common with the {{peer}}: {VERSIONS}",
}

AS_CLIENT: Final[Mapping[str, str]] = {
    "SSLV3_ALERT_HANDSHAKE_FAILURE": (
        "the server refused the handshake without saying why: it may have no "
        "certificate, require one of ours, or share no cipher or curve with us. "
        "See its log"
    ),
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": (
        "the server requires a client certificate: "
        "load one with ssl_context.load_cert_chain()"
    ),
    "TLSV1_ALERT_NO_APPLICATION_PROTOCOL": (
        "the server supports none of the protocols in ssl_context.set_alpn_protocols()"
    ),
    "TLSV1_UNRECOGNIZED_NAME": (
        "the server does not know the name we asked for: see server_hostname"
    ),
}

AS_SERVER: Final[Mapping[str, str]] = {
    "CALLBACK_FAILED": (
        "a callback of ssl_context, such as its sni_callback, refused the client or "
        "raised (see sys.unraisablehook)"
    ),
    "NO_SHARED_CIPHER": (
        "no cipher in common with the client: does ssl_context have a certificate "
        "(load_cert_chain())?"
    ),
    "NO_SUITABLE_KEY_SHARE": (
        "no key exchange in common with the client: see ssl_context.set_ecdh_curve()"
    ),
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": (
        "the client sent no certificate, but ssl_context.verify_mode requires one"
    ),
    # Without a certificate OpenSSL does not offer TLS 1.3.
    "UNSUPPORTED_PROTOCOL": (
        f"no TLS version in common with the client: {VERSIONS}; "
        "TLS 1.3 needs a certificate (load_cert_chain())"
    ),
}

UNTRUSTED: Final = (
    "load the CA with ssl_context.load_verify_locations(), unless the {peer} fails to "
    "send its intermediate certificates"
)
CLOCK: Final = "the {peer} needs another certificate, or a clock is wrong"
OTHER_NAME: Final = "pass a server_hostname that it is valid for"
STRICT: Final = (
    "it or its CA breaks RFC 5280: replace it, or clear VERIFY_X509_STRICT in "
    "ssl_context.verify_flags"
)

# What to do about the peer's certificate, by X509_V_ERR_* of <openssl/x509_vfy.h>.
REMEDIES: Final[Mapping[int, str]] = {
    2: UNTRUSTED,
    3: "load a CRL with ssl_context.load_verify_locations()",
    9: CLOCK,
    10: CLOCK,
    18: "if you trust it, load it with ssl_context.load_verify_locations()",
    19: "if you trust it, load it with ssl_context.load_verify_locations()",
    20: UNTRUSTED,
    21: UNTRUSTED,
    26: "it was not issued for a {peer}",
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
    """OpenSSL's name for the reason of *error*, if it has one."""
    reason: object = getattr(error, "reason", None)
    if isinstance(reason, str):
        return reason
    # Python has no name for a reason that is newer than itself (RECORD_LAYER_FAILURE of
    # OpenSSL 3.2) or that it left out (no_application_protocol). OpenSSL's text does.
    found = re.match(r"\[SSL\] (.+?)( \(_ssl\.c:\d+\))?$", _text(error))
    return None if found is None else found[1].upper().replace(" ", "_")


def explain(
    error: ssl.SSLError, *, during_handshake: bool, server_side: bool | None
) -> str:
    """Explain *error* and what to do about it, or return its own text.

    It accepts any `ssl.SSLError`, including those that Python code raises in a hook
    without the attributes that OpenSSL's have.
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
        if text == str(error.args):  # it has no strerror
            text = ", ".join(map(str, error.args))
    except Exception:  # noqa: BLE001 - it may be a user's class
        text = ""
    return text or type(error).__name__
