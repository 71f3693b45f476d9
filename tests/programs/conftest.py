import pytest
import trio

from .plugin.replacements import IN_PLACE


@pytest.fixture
def in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that ask for an SSLStream get a TLSStream."""
    for name, thing in IN_PLACE.items():
        monkeypatch.setattr(trio, name, thing)
