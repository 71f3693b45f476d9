from pathlib import Path

import pytest

from .openssl import OpenSSL
from .programs import require


@pytest.fixture
def openssl(tmp_path: Path) -> OpenSSL:
    """The ``openssl`` command as a peer."""
    return OpenSSL(require("openssl"), tmp_path)
