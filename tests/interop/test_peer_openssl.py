"""OpenSSL, libssl: the library itself, where `test_peer_ssl` has Python in between."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from .c_labs import c_lab
from .peer import Peer, answers_in_tls12, sends_decode_error
from .suite import PeerSuite

DOCS = "https://docs.openssl.org/3.0/man3/SSL_shutdown/"


def command(folder: Path) -> Sequence[str]:
    return c_lab(folder, "openssl", "openssl/ssl.h", "ssl", "crypto")


@pytest.mark.long
class TestOpenSSL(PeerSuite):
    peer = Peer(
        name="OpenSSL",
        command=command,
        deviations=[
            # "SSL_shutdown() only closes the write direction", whatever the version.
            answers_in_tls12(DOCS),
            # SSL_shutdown "should not be called if a previous fatal error has occurred",
            # and this is one: ssl3_read_n.
            sends_decode_error(
                "https://github.com/openssl/openssl/blob/openssl-3.0.19/ssl/record/"
                "rec_layer_s3.c"
            ),
        ],
    )
