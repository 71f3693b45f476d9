import pytest


@pytest.fixture(autouse=True)
def no_wishes_about_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """What someone's environment asks of rich is not what is tested."""
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
