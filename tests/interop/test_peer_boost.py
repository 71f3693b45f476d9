"""Boost.Asio, on top of OpenSSL."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .boost import command
from .peer import Cannot, Deviation, Peer, answers_in_tls12
from .suite import PeerSuite
from trio_tlsdown import ShutdownOutcome as Outcome

SOURCE = "https://github.com/boostorg/asio/blob/boost-1.74.0/include/boost/asio/ssl/detail"


class TestBoostAsio(PeerSuite):
    peer = Peer(
        name="Boost.Asio",
        command=command,
        cannot=[
            Cannot(
                situations=["half-close B"],
                why="its shutdown always waits for the other's close_notify",
                link="https://github.com/chriskohlhoff/asio/issues/571",
            ),
        ],
        deviations=[
            # Neither engine::write nor SSL_write looks at what was received.
            answers_in_tls12("https://docs.openssl.org/3.0/man3/SSL_shutdown/"),
            # io_op: a close_notify that the socket does not take at once waits, and the
            # handler of the write that failed closes the socket meanwhile.
            Deviation(
                situations=["8 MiB B"],
                does="its close loses the close_notify when the socket takes no more",
                link=f"{SOURCE}/io.hpp",
                changes={
                    "outcome": Outcome.TRUNCATED,
                    "our_alerts": ">",
                    "secure": False,
                },
                sometimes=True,
            ),
        ],
    )
