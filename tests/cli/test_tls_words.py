"""What failed in TLS, as the command tells it."""

from __future__ import annotations

import re
import ssl

import pytest

from trio_tlsdown import TLSFailedError
from trio_tlsdown._reasons import AS_CLIENT, EITHER_SIDE
from trio_tlsdown.cli._tls_words import FACTS, is_alert, words_of

# What only programmers can do something about.
API = re.compile(r"ssl_context|server_hostname|\(\)")


def failed(reason: str) -> TLSFailedError:
    error = ssl.SSLError(ssl.SSL_ERROR_SSL, f"[SSL: {reason}] text")
    error.reason = reason
    return TLSFailedError(error, during_handshake=True, server_side=False)


def untrusted(code: int, message: str) -> TLSFailedError:
    error = ssl.SSLCertVerificationError(ssl.SSL_ERROR_SSL, message)
    error.verify_code, error.verify_message = code, message
    return TLSFailedError(error, during_handshake=True, server_side=False)


@pytest.mark.parametrize("reason", sorted({*EITHER_SIDE, *AS_CLIENT, "ODD"}))
def test_no_advice_is_about_a_program(reason: str) -> None:
    words = words_of(failed(reason))
    assert words.startswith("the TLS handshake failed: ")
    assert reason in words
    assert not API.search(words)


def test_only_advice_about_a_program_is_replaced() -> None:
    for reason in FACTS:
        assert API.search(str(failed(reason))), reason


def test_an_option_is_named_where_it_helps() -> None:
    assert words_of(failed("TLSV13_ALERT_CERTIFICATE_REQUIRED")) == (
        "the TLS handshake failed: the server requires a client certificate "
        "(TLSV13_ALERT_CERTIFICATE_REQUIRED; see --cert)"
    )


@pytest.mark.parametrize(
    ("code", "message", "words"),
    [
        (
            62,
            "Hostname mismatch, no 'x'.",
            "Hostname mismatch, no 'x' (see --server-name)",
        ),
        (64, "IP address mismatch.", "IP address mismatch (see --server-name)"),
        (20, "unable to get it", "unable to get it (see --ca-file)"),
        (18, "self-signed", "self-signed (see --ca-file)"),
        (10, "certificate has expired", "certificate has expired"),
    ],
)
def test_the_hint_about_a_certificate_is_that_of_its_fault(
    code: int, message: str, words: str
) -> None:
    assert words_of(untrusted(code, message)) == f"certificate not trusted: {words}"


def test_any_other_error_has_its_own_words() -> None:
    assert words_of(ValueError("odd")) == "odd"


def test_an_alert_is_known_by_its_name() -> None:
    for reason in ("SSLV3_ALERT_BAD_RECORD_MAC", "TLSV1_UNRECOGNIZED_NAME"):
        assert is_alert(reason)
    assert is_alert("TLSV13_ALERT_CERTIFICATE_REQUIRED")
    for reason in ("HTTP_REQUEST", "WRONG_VERSION_NUMBER", ""):
        assert not is_alert(reason)
