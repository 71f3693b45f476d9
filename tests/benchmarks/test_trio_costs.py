"""The page's measurement of Trio itself."""

from __future__ import annotations

import re

import pytest

from benchmarks import trio_costs


async def test_it_tells_the_cost_of_each_part(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trio_costs, "ROUNDS", 1)
    monkeypatch.setattr(trio_costs, "TIMES", trio_costs.TASKS)
    await trio_costs.main()
    first, *parts = capsys.readouterr().out.splitlines()
    assert first.startswith("Trio ")
    assert len(parts) == 5
    for part in parts:
        assert re.fullmatch(r" *\d+\.\d\d  \w.*", part)
