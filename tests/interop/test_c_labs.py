"""The labs in C, when something is missing or wrong."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from . import test_peer_gnutls, test_peer_mbedtls, test_peer_openssl, test_peer_wolfssl
from .c_labs import c_lab
from .lab import open_lab
from .programs import require


def test_a_missing_library_skips_the_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("cc")
    monkeypatch.delenv("TLSDOWN_REQUIRE_PEERS", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"no/such\.h is not installed"):
        c_lab(tmp_path, "openssl", "no/such.h")


async def test_a_lab_in_c_says_what_it_cannot_do(tmp_path: Path) -> None:
    async with open_lab(test_peer_openssl.command(tmp_path), tmp_path) as lab:
        assert await lab.tries("send 1") == ["failed error there is no connection"]


@pytest.mark.long
@pytest.mark.parametrize(
    "library",
    [test_peer_gnutls, test_peer_mbedtls, test_peer_openssl, test_peer_wolfssl],
)
def test_the_labs_in_c_compile_without_a_warning(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], library: ModuleType
) -> None:
    library.command(tmp_path)
    assert capfd.readouterr() == ("", "")
