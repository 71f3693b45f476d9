"""asyncio's protocols, on its own event loop and on uvloop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from .labs import python_lab
from .peer import Cannot, Deviation, Peer, does_not_answer_a_cut, takes_cuts_for_ends
from .programs import require_module
from .suite import PeerSuite

DOCS = "https://docs.python.org/3/library"


def on(loop: str) -> Callable[[Path], Sequence[str]]:
    def command(folder: Path) -> Sequence[str]:
        require_module(loop)
        return python_lab(f"{loop}_protocols")

    return command


# Both loops document the same.
CANNOT = [
    Cannot(
        situations=["2A"],
        why="it answers a close_notify itself, at once",
        link=f"{DOCS}/asyncio-protocol.html#asyncio.Protocol.eof_received",
    ),
    Cannot(
        situations=["4B"],
        why="closing waits for the other's close_notify, or ssl_shutdown_timeout",
        link=f"{DOCS}/asyncio-eventloop.html#asyncio.loop.create_connection",
    ),
    Cannot(
        situations=["half-close B"],
        why="it has no half-close for TLS",
        link=f"{DOCS}/asyncio-protocol.html#asyncio.WriteTransport.write_eof",
    ),
]


def deviations(source: str) -> list[Deviation]:
    return [
        Deviation(
            situations=["half-close A"],
            versions=["TLSv1.3"],
            does="answers a close_notify at once, and discards what it is given to send",
            link=f"{DOCS}/asyncio-protocol.html#asyncio.Protocol.eof_received",
            changes={"received": 0},
        ),
        takes_cuts_for_ends(source, "1B", "2B", "cut A", "cut inside A"),
        # SSLProtocol.eof_received closes without SSLObject.unwrap(), which would send it.
        does_not_answer_a_cut(
            "closes at a FIN without close_notify, and sends none", source, closes=True
        ),
    ]


@pytest.mark.long
class TestAsyncio(PeerSuite):
    peer = Peer(
        name="asyncio",
        command=on("asyncio"),
        cannot=CANNOT,
        deviations=deviations(
            "https://github.com/python/cpython/blob/v3.11.7/Lib/asyncio/sslproto.py"
        ),
    )


@pytest.mark.long
class TestUvloop(PeerSuite):
    peer = Peer(
        name="uvloop",
        command=on("uvloop"),
        cannot=CANNOT,
        deviations=[
            *deviations(
                "https://github.com/MagicStack/uvloop/blob/v0.23.0/uvloop/sslproto.pyx"
            ),
            # If the FIN comes while something is unread, it does as after a cut: a
            # close_notify in between may be lost, too.
            Deviation(
                situations=["8 MiB A"],
                does="now and then does not see a close_notify with a FIN behind it, and"
                " sends none",
                link="https://github.com/MagicStack/uvloop/pull/661",
                changes={"crossed": "> close_notify"},
                sometimes=True,
            ),
            Deviation(
                situations=["8 MiB A"],
                does="now and then drops what its reader has not taken yet when the FIN"
                " comes, and calls it a clean end",
                link="https://github.com/MagicStack/uvloop/pull/661",
                changes={"crossed": "> close_notify", "whole": False},
                sometimes=True,
            ),
        ],
    )
