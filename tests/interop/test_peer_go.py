"""Go, crypto/tls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from .compiling import compiled
from .labs import source
from .peer import Peer, answers_in_tls12, takes_cuts_for_ends
from .programs import require
from .suite import PeerSuite

SOURCE = "https://github.com/golang/go/blob/go1.27.3/src/crypto/tls/conn.go"


def command(folder: Path) -> Sequence[str]:
    lab = source("go.go")
    go = [require("go"), "build", "-o", "OUTPUT", lab]
    # The standard library is all it needs, and it is compiled once only.
    environment = {
        "GOCACHE": str(folder / "go"),
        "GOTOOLCHAIN": "local",
        "GOPROXY": "off",
        "CGO_ENABLED": "0",
    }
    return [compiled(folder, [lab], go, environment)]


@pytest.mark.long
class TestGo(PeerSuite):
    peer = Peer(
        name="Go crypto/tls",
        command=command,
        deviations=[
            # Conn.CloseWrite and Conn.Read know of no version.
            answers_in_tls12(SOURCE),
            # Conn.readRecordOrCCS: "popular web sites seem to do this, so we accept it".
            takes_cuts_for_ends(SOURCE, "1B", "2B", "cut A"),
        ],
    )
