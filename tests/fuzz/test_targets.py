"""A few seconds of what `make fuzz` does for as long as one likes."""

from __future__ import annotations

import logging
import os
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from . import corpus
from .targets import TARGETS

EXAMPLES: Final = os.environ.get("TLSDOWN_EXAMPLES")

few = settings(
    max_examples=int(EXAMPLES or "200"),
    derandomize=EXAMPLES is None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pytest keeps what is logged."""
    monkeypatch.setattr(logging.getLogger("trio_tlsdown"), "disabled", True)


@pytest.mark.parametrize("target", TARGETS)
@few
@given(data=st.binary(max_size=200))
def test_no_bytes_make_it_break_a_promise(target: str, data: bytes) -> None:
    TARGETS[target](data)


@pytest.mark.parametrize("target", TARGETS)
def test_neither_does_what_the_fuzzer_begins_with(target: str) -> None:
    for data in corpus.load(target):
        TARGETS[target](data)
