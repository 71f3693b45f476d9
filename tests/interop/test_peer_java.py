"""Java, JSSE's `SSLSocket`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from .labs import source
from .peer import Cannot, Deviation, Peer, takes_cuts_for_ends
from .programs import require
from .suite import PeerSuite

SOURCE = (
    "https://github.com/openjdk/jdk17u/blob/jdk-17.0.15-ga/src/java.base/share/classes/"
    "sun/security/ssl"
)


def command(folder: Path) -> Sequence[str]:
    require("javac")  # without it, java cannot run a source file either
    # The fastest for a program that runs so briefly.
    return [
        require("java"),
        "-Xshare:auto",
        "-XX:TieredStopAtLevel=1",
        source("jsse.java"),
    ]


@pytest.mark.long
class TestJava(PeerSuite):
    peer = Peer(
        name="Java JSSE",
        command=command,
        cannot=[
            Cannot(
                situations=["2A"],
                versions=["TLSv1.2"],
                why="it answers a close_notify itself, at once, as TLS 1.2 wants it",
                link=f"{SOURCE}/TransportContext.java",  # passiveInboundClose
            ),
        ],
        deviations=[
            # SSLSocketImpl.handleEOF: "treat as if we had received a close_notify",
            # unless com.sun.net.ssl.requireCloseNotify is set.
            takes_cuts_for_ends(
                f"{SOURCE}/SSLSocketImpl.java",
                *("1B", "2B", "cut A", "cut inside A"),
            ),
            # RFC 9846 section 6.1: after the handshake "just closing the connection by
            # sending a close_notify is more appropriate". SSLSocketImpl.duplexCloseOutput
            # does so only when the other has closed before it.
            Deviation(
                situations=["4B", "8 MiB B"],
                versions=["TLSv1.3"],
                does="sends user_canceled, which is for handshakes, before close_notify",
                link=f"{SOURCE}/SSLSocketImpl.java",
                changes={"crossed": "< user_canceled, < close_notify, > close_notify"},
            ),
        ],
    )
