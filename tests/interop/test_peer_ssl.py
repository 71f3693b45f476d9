"""The standard library's `ssl.SSLSocket`, on top of OpenSSL."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from .endings import Saw
from .peer import Deviation, Peer, answers_in_tls12
from .suite import PeerSuite


def command(folder: Path) -> Sequence[str]:
    return [sys.executable, "-m", "tests.interop.labs.blocking_ssl"]


class TestSSLSocket(PeerSuite):
    peer = Peer(
        name="Python ssl",
        command=command,
        deviations=[
            # "SSL_shutdown() only closes the write direction", whatever the version.
            answers_in_tls12("https://docs.openssl.org/3.0/man3/SSL_shutdown/"),
            Deviation(
                situations=["reset A"],
                does="before 3.12.3 reading tells a RST as a FIN without close_notify",
                link="https://github.com/python/cpython/issues/115627",
                changes={"peer_saw": Saw.CUT},
                sometimes=True,
            ),
        ],
    )
