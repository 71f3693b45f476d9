"""The standard library's `ssl.SSLSocket`, on top of OpenSSL."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from .endings import Saw
from .peer import Deviation, Peer, answers_in_tls12, sends_decode_error
from .suite import PeerSuite


def command(folder: Path) -> Sequence[str]:
    return [sys.executable, "-m", "tests.interop.labs.blocking_ssl"]


RESETS = [
    Deviation(
        situations=["reset A"],
        does="before 3.12.3 reading tells a RST as a FIN without close_notify",
        link="https://github.com/python/cpython/issues/115627",
        changes={"peer_saw": Saw.CUT},
    )
] * (sys.version_info < (3, 12, 3))


class TestSSLSocket(PeerSuite):
    peer = Peer(
        name="Python ssl",
        command=command,
        deviations=[
            # "SSL_shutdown() only closes the write direction", whatever the version.
            answers_in_tls12("https://docs.openssl.org/3.0/man3/SSL_shutdown/"),
            # OpenSSL does so, and a later unwrap() is told "shutdown while in init".
            sends_decode_error(
                "https://github.com/openssl/openssl/blob/openssl-3.0.19/ssl/record/"
                "rec_layer_s3.c"
            ),
            *RESETS,
        ],
    )
