"""Mbed TLS 2.28."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from .c_labs import c_lab
from .peer import Cannot, Peer, answers_in_tls12
from .situations import SITUATIONS
from .suite import PeerSuite

SOURCE = "https://github.com/Mbed-TLS/mbedtls/blob/v2.28.3"


def command(folder: Path) -> Sequence[str]:
    # Mbed TLS 3 has no header of that name, and another interface.
    header = "mbedtls/config.h"
    return c_lab(folder, "mbedtls", header, "mbedtls", "mbedx509", "mbedcrypto")


@pytest.mark.long
class TestMbedTLS(PeerSuite):
    peer = Peer(
        name="Mbed TLS",
        command=command,
        cannot=[
            Cannot(
                situations=list(SITUATIONS),
                versions=["TLSv1.3"],
                why="it has TLS 1.2 at most",
                # "TLS 1.3 and DTLS 1.3 aren't yet supported in Mbed TLS".
                link=f"{SOURCE}/include/mbedtls/config.h#L1884",
            ),
        ],
        deviations=[
            # mbedtls_ssl_write looks at no close_notify.
            answers_in_tls12(f"{SOURCE}/library/ssl_msg.c#L5566"),
        ],
    )
