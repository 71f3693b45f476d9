"""OpenSSL, libssl: the library itself, where `test_peer_ssl` has Python in between."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .compiling_c import c_lab
from .peer import Peer, answers_in_tls12
from .suite import PeerSuite


def command(folder: Path) -> Sequence[str]:
    return c_lab(folder, "openssl", "openssl/ssl.h", "ssl", "crypto")


class TestOpenSSL(PeerSuite):
    peer = Peer(
        name="OpenSSL",
        command=command,
        deviations=[
            # "SSL_shutdown() only closes the write direction", whatever the version.
            answers_in_tls12("https://docs.openssl.org/3.0/man3/SSL_shutdown/"),
        ],
    )
