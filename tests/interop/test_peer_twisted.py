"""Twisted, on top of pyOpenSSL."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from .endings import Saw
from .peer import Cannot, Deviation, Peer, does_not_answer_a_cut
from .programs import require_module
from .suite import PeerSuite

TWISTED = "https://github.com/twisted/twisted/blob/twisted-26.10.0/src/twisted"
SOURCE = f"{TWISTED}/protocols/tls.py"


def command(folder: Path) -> Sequence[str]:
    for module in ("twisted", "OpenSSL", "service_identity"):
        require_module(module)
    return [sys.executable, "-m", "tests.interop.labs.twisted_protocols"]


@pytest.mark.long
class TestTwisted(PeerSuite):
    peer = Peer(
        name="Twisted",
        command=command,
        cannot=[
            Cannot(
                situations=["2A"],
                why="it answers a close_notify itself, at once",
                link=SOURCE,  # TLSMemoryBIOProtocol._flushReceiveBIO
            ),
            Cannot(
                situations=["4B"],
                why="closing waits for the other's close_notify, however long",
                link="https://github.com/twisted/twisted/issues/7926",
            ),
            Cannot(
                situations=["half-close B"],
                why="it has no half-close for TLS",
                link="https://github.com/twisted/twisted/issues/5341",
            ),
        ],
        deviations=[
            Deviation(
                situations=["half-close A"],
                versions=["TLSv1.3"],
                does="answers a close_notify at once, and discards what it is given to"
                " send",
                link=SOURCE,  # TLSMemoryBIOProtocol._flushReceiveBIO
                changes={"received": 0},
            ),
            # Connection.readConnectionLost ends both directions, unless TLS has asked
            # for a half-close; it does not.
            does_not_answer_a_cut(
                "closes the socket at a FIN, whoever uses it: no close_notify can be sent",
                f"{TWISTED}/internet/tcp.py",
                closes=True,
            ),
            Deviation(
                situations=["reset A"],
                does="tells a RST as a FIN without close_notify: ConnectionLost",
                link=SOURCE,  # TLSMemoryBIOProtocol._tlsShutdownFinished
                changes={"peer_saw": Saw.CUT},
            ),
        ],
    )
