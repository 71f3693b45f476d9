"""What failed in TLS, in words for users of the command.

The library's own words are for programmers: they name its arguments and methods. Here
they are about options.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import Final

from trio_tlsdown import TLSFailedError

# OpenSSL names each alert that it receives so.
ALERT: Final = re.compile("(?:SSLV3|TLSV1|TLSV13)_")

# Where the library's words name its arguments: what is the case, and the option for it.
FACTS: Final[Mapping[str, tuple[str, str | None]]] = {
    "NO_CIPHERS_AVAILABLE": ("this OpenSSL has no cipher for this TLS version", None),
    "NO_PROTOCOLS_AVAILABLE": ("this OpenSSL does not have this TLS version", None),
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": (
        "the server requires a client certificate",
        "--cert",
    ),
    "TLSV1_ALERT_NO_APPLICATION_PROTOCOL": (
        "the server supports none of the protocols that we offer",
        "--alpn",
    ),
    "TLSV1_ALERT_PROTOCOL_VERSION": (
        "the server does not accept this TLS version",
        None,
    ),
    "TLSV1_ALERT_UNKNOWN_CA": (
        "the server refused our client certificate: it does not know the CA",
        "--cert",
    ),
    "TLSV1_UNRECOGNIZED_NAME": (
        "the server does not know the name that we asked for",
        "--server-name",
    ),
    "UNSUPPORTED_PROTOCOL": ("no TLS version in common", None),
}

# What to do about a server's certificate, by X509_V_ERR_* of <openssl/x509_vfy.h>.
CERTIFICATE_OPTIONS: Final[Mapping[int, str]] = {
    **dict.fromkeys((2, 18, 19, 20, 21), "--ca-file"),
    **dict.fromkeys((62, 64), "--server-name"),
}


def is_alert(reason: str) -> bool:
    """Whether OpenSSL's reason is an alert that has arrived."""
    return ALERT.match(reason) is not None


def words_of(error: Exception) -> str:
    """What failed, in words for users of the command."""
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        what = f"certificate not trusted: {cause.verify_message.removesuffix('.')}"
        option = CERTIFICATE_OPTIONS.get(cause.verify_code)
        return f"{what} (see {option})" if option else what
    reason = error.reason if isinstance(error, TLSFailedError) else None
    if reason is None or reason not in FACTS:
        return str(error)
    fact, option = FACTS[reason]
    notes = reason if option is None else f"{reason}; see {option}"
    return f"the TLS handshake failed: {fact} ({notes})"
