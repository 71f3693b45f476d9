from pathlib import Path

import pytest
import trio

from .openssl import OpenSSL
from .playing import Runs, play
from .programs import require


@pytest.fixture
def openssl(tmp_path: Path) -> OpenSSL:
    """The ``openssl`` command as a peer."""
    return OpenSSL(require("openssl"), tmp_path)


@pytest.fixture(scope="class")
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Runs:
    """The connections of a `PeerSuite` that the selected tests are about."""
    peer = request.cls.peer
    chosen = {
        key
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.cls is request.cls
        for key in item.callspec.params.values()
    }
    # Kept, so that a lab is compiled only once.
    command = peer.command(request.config.cache.mkdir("labs"))
    return trio.run(
        play,
        [key for key in peer.plays() if key in chosen],
        command,
        tmp_path_factory.mktemp("peer"),
        peer.is_captured,
    )
