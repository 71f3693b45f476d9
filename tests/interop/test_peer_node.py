"""Node.js, node:tls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .labs import source
from .peer import Peer, answers_in_tls12, takes_cuts_for_ends
from .programs import require
from .suite import PeerSuite


def command(folder: Path) -> Sequence[str]:
    return [require("node"), source("node.mjs")]


class TestNode(PeerSuite):
    peer = Peer(
        name="Node.js",
        command=command,
        deviations=[
            answers_in_tls12("https://nodejs.org/api/net.html#new-netsocketoptions"),
            # TLSWrap::OnStreamRead makes UV_EOF of both.
            takes_cuts_for_ends(
                "https://github.com/nodejs/node/blob/v20.x/src/crypto/crypto_tls.cc",
                *("1B", "2B", "cut A", "cut inside A"),
            ),
        ],
    )
