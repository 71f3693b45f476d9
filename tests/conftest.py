import pytest

from tests.support import VERSIONS, Maker

from .summary import (
    pytest_terminal_summary as pytest_terminal_summary,
    pytest_unconfigure as pytest_unconfigure,
)


@pytest.fixture(params=list(VERSIONS))
def tls(request: pytest.FixtureRequest) -> Maker:
    """Makes connections of each TLS version in turn."""
    return Maker(request.param)


@pytest.fixture
def tls12() -> Maker:
    return Maker("TLSv1.2")


@pytest.fixture
def tls13() -> Maker:
    return Maker("TLSv1.3")
