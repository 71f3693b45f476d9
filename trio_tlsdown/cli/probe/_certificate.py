"""What of a server's certificate is told."""

from __future__ import annotations

import datetime as dt

import attrs
from cryptography import x509

from ._text_safety import printable


@attrs.frozen
class Certificate:
    """Whom a certificate names, until when. The names are fit to be shown."""

    subject: str
    issuer: str
    not_after: dt.datetime

    def __str__(self) -> str:
        """One line, for people."""
        return (
            f"Certificate of {self.subject}, issued by {self.issuer}, valid until "
            f"{self.not_after.date()}"
        )


def read_certificate(der: bytes | None) -> Certificate | None:
    """Read a certificate, which need not be one that was verified.

    Returns:
      None if there is none, or none that can be read.
    """
    if der is None:
        return None
    try:
        found = x509.load_der_x509_certificate(der)
        return Certificate(
            printable(found.subject.rfc4514_string()),
            printable(found.issuer.rfc4514_string()),
            found.not_valid_after_utc,
        )
    except ValueError:  # what OpenSSL takes, and this reader does not
        return None
