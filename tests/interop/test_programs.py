"""Programs that are missing, and programs that must not be left running."""

from __future__ import annotations

import pytest

from harness.process import running, stop

from .programs import require


@pytest.mark.parametrize(
    ("required", "outcome"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)]
)
def test_a_missing_program_skips_the_test_or_fails_it_where_it_is_required(
    monkeypatch: pytest.MonkeyPatch, required: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("TLSDOWN_REQUIRE_PEERS", required)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(outcome, match="openssl is not installed"):
        require("openssl")


@pytest.mark.parametrize("suspended", [False, True])
async def test_a_test_that_fails_leaves_no_program_running(*, suspended: bool) -> None:
    with pytest.RaisesGroup(ZeroDivisionError):
        async with running("sleep", "1000") as program:
            if suspended:
                stop(program)
            raise ZeroDivisionError
    assert program.process.returncode is not None
