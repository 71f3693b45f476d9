"""Go, crypto/tls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.build import go

from .peer import Peer, answers_in_tls12, takes_cuts_for_ends
from .programs import skip_if_missing
from .suite import PeerSuite

SOURCE = "https://github.com/golang/go/blob/go1.27.3/src/crypto/tls/conn.go"


def command(folder: Path) -> Sequence[str]:
    with skip_if_missing():
        return [go(folder), "lab"]


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
