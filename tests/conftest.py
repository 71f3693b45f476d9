import pytest

from .support import VERSIONS, Maker


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
