"""Node.js, node:tls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from .labs import source
from .peer import Peer, answers_in_tls12, takes_cuts_for_ends
from .programs import require
from .suite import PeerSuite

SOURCE = "https://github.com/nodejs/node/blob/v20.20.2/src/crypto/crypto_tls.cc"


def command(folder: Path) -> Sequence[str]:
    return [require("node"), source("node.mjs")]


@pytest.mark.long
class TestNode(PeerSuite):
    peer = Peer(
        name="Node.js",
        command=command,
        deviations=[
            # With allowHalfOpen; TLSWrap::DoWrite asks for no version, nor whether a
            # close_notify has come.
            answers_in_tls12(SOURCE),
            # TLSWrap::OnStreamRead makes UV_EOF of both.
            takes_cuts_for_ends(SOURCE, "1B", "2B", "cut A", "cut inside A"),
        ],
    )
