"""`trio.SSLStream`, on top of `ssl.SSLObject`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from .labs import python_lab
from .peer import Cannot, Peer, answers_in_tls12, does_not_answer_a_cut
from .suite import PeerSuite

SOURCE = "https://github.com/python-trio/trio/blob/v0.35.0/src/trio/_ssl.py"


def command(folder: Path) -> Sequence[str]:
    return python_lab("sslstream")


@pytest.mark.long
class TestTrio(PeerSuite):
    peer = Peer(
        name="trio.SSLStream",
        command=command,
        cannot=[
            Cannot(
                situations=["half-close B"],
                why="it has no half-close",
                link="https://github.com/python-trio/trio/issues/823",
            ),
        ],
        deviations=[
            # SSLStream.send_all asks for no version, and OpenSSL does not either.
            answers_in_tls12(SOURCE),
            # SSLStream._retry makes it BROKEN, and then aclose() closes the transport.
            does_not_answer_a_cut(
                "closes after a FIN without close_notify, and sends none",
                SOURCE,
                closes=True,
            ),
        ],
    )
