"""wolfSSL."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from .c_labs import c_lab
from .endings import Saw
from .peer import Deviation, Peer, answers_in_tls12, does_not_answer_a_cut
from .suite import PeerSuite

SOURCE = "https://github.com/wolfSSL/wolfssl/blob/v5.5.4-stable/src"


def command(folder: Path) -> Sequence[str]:
    return c_lab(folder, "wolfssl", "wolfssl/options.h", "wolfssl")


@pytest.mark.long
class TestWolfSSL(PeerSuite):
    peer = Peer(
        name="wolfSSL",
        command=command,
        deviations=[
            # SendData looks at no close_notify.
            answers_in_tls12(f"{SOURCE}/internal.c#L22252"),
            # "the function should be called again", says the documentation: it would
            # go on like that for ever. Its own example calls it twice, and then says
            # "Bidirectional shutdown failed".
            Deviation(
                situations=["2B"],
                does="waits for a close_notify, gets a FIN, and says: not done yet",
                link=f"{SOURCE}/ssl.c#L3679",
                changes={"peer_saw": Saw.FAILED},
            ),
            # wolfSSL_shutdown() sends none if options.isClosed, which a FIN sets.
            does_not_answer_a_cut(
                "after a FIN without close_notify its shutdown fails, and sends none",
                f"{SOURCE}/ssl.c",
                *("1B", "cut A"),
            ),
            # ProcessReply, when the rest of a record does not come.
            does_not_answer_a_cut(
                "sends bad_record_mac, which is for records that cannot be decrypted, when"
                " a FIN cuts one; then its shutdown fails",
                f"{SOURCE}/internal.c",
                "cut inside A",
                instead="bad_record_mac",
            ),
            # ReceiveData has one error for both.
            Deviation(
                situations=["reset A"],
                does="tells a RST as a FIN without close_notify",
                link=f"{SOURCE}/internal.c#L22590",
                changes={"peer_saw": Saw.CUT},
            ),
        ],
    )
