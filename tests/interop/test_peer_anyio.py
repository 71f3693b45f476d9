"""anyio's `TLSStream`, on asyncio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from .labs import python_lab
from .peer import Cannot, Peer, answers_in_tls12, does_not_answer_a_cut
from .programs import require_module
from .suite import PeerSuite

SOURCE = "https://github.com/agronholm/anyio/blob/4.16.0/src/anyio/streams/tls.py"


def command(folder: Path) -> Sequence[str]:
    require_module("anyio")
    return python_lab("anyio_streams:ON_ASYNCIO")


@pytest.mark.long
class TestAnyio(PeerSuite):
    peer = Peer(
        name="anyio",
        command=command,
        cannot=[
            Cannot(
                situations=["4B"],
                why="closing waits for the other's close_notify, however long",
                link=SOURCE,  # TLSStream.aclose
            ),
            Cannot(
                situations=["half-close B"],
                why="it has no half-close for TLS",
                link=SOURCE,  # TLSStream.send_eof
            ),
        ],
        deviations=[
            # TLSStream.send asks for no version, and OpenSSL does not either.
            answers_in_tls12(SOURCE),
            # TLSStream._call_sslobject_method leaves OpenSSL's alert in its buffer, and
            # the unwrap() of aclose() fails.
            does_not_answer_a_cut(
                "after a FIN without close_notify aclose() fails, and sends none",
                SOURCE,
            ),
        ],
    )
