from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import VERSIONS, Files, Maker, write_files

from .summary import (
    pytest_terminal_summary as pytest_terminal_summary,
    pytest_unconfigure as pytest_unconfigure,
)
from .tiers import (
    pytest_collection_finish as pytest_collection_finish,
    pytest_collection_modifyitems as pytest_collection_modifyitems,
)

pytest.register_assert_rewrite("tests.interop.suite")

# How long an example takes says how busy the machine is, and nothing else.
settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    """Each TLS version in turn."""
    result: str = request.param
    return result


@pytest.fixture
def tls(version: str) -> Maker:
    """Makes connections of each TLS version in turn."""
    return Maker(version)


@pytest.fixture
def tls12() -> Maker:
    """Makes connections of TLS 1.2."""
    return Maker("TLSv1.2")


@pytest.fixture
def tls13() -> Maker:
    """Makes connections of TLS 1.3."""
    return Maker("TLSv1.3")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A certificate, its key, and the CA, as files."""
    return write_files(tmp_path)
