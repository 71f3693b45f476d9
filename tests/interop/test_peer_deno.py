"""Deno's `TlsConn`, on top of rustls.

PyPI has another way to rustls, `rtls`. That one hides a close_notify until the FIN comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from .labs import source
from .peer import Peer, answers_in_tls12
from .programs import require
from .suite import PeerSuite


def command(folder: Path) -> Sequence[str]:
    # Deno writes to no other place, and asks nobody whether it is the newest.
    environment = [f"DENO_DIR={folder / 'deno'}", "DENO_NO_UPDATE_CHECK=1"]
    deno = [require("deno"), "run", "--allow-all", "--no-config"]
    return ["env", *environment, *deno, source("deno.ts")]


@pytest.mark.long
class TestDeno(PeerSuite):
    peer = Peer(
        name="Deno (rustls)",
        command=command,
        deviations=[
            # CommonState::process_alert asks for no version, nor does what writes.
            answers_in_tls12(
                "https://github.com/rustls/rustls/blob/v/0.23.28/rustls/src/common_state.rs"
            ),
        ],
    )
