"""GnuTLS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from .c_labs import c_lab
from .endings import Saw
from .peer import Deviation, Peer, answers_in_tls12, takes_cuts_for_ends
from .suite import PeerSuite

SOURCE = "https://gitlab.com/gnutls/gnutls/-/blob/3.7.9/lib"


def command(folder: Path) -> Sequence[str]:
    return c_lab(folder, "gnutls", "gnutls/gnutls.h", "gnutls")


@pytest.mark.long
class TestGnuTLS(PeerSuite):
    peer = Peer(
        name="GnuTLS",
        command=command,
        deviations=[
            # The other's close_notify sets read_eof, which stops no sending.
            answers_in_tls12(f"{SOURCE}/record.c#L896"),
            # gnutls_bye(GNUTLS_SHUT_RDWR) succeeds whatever comes in place of the
            # other's close_notify. gnutls_record_recv does tell.
            takes_cuts_for_ends(f"{SOURCE}/record.c#L1623", "2B"),
            Deviation(
                situations=["cut inside A"],
                does="tells a FIN inside a record as a record of invalid length",
                link=f"{SOURCE}/record.c#L1640",
                changes={"peer_saw": Saw.FAILED},
            ),
            Deviation(
                situations=["reset A"],
                does="tells a RST as an error in the pull function, like any other",
                link=f"{SOURCE}/buffers.c#L370",
                changes={"peer_saw": Saw.FAILED},
            ),
        ],
    )
