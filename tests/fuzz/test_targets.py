"""A few seconds of what `make fuzz` does for as long as one likes."""

from __future__ import annotations

import os
from typing import Final

import pytest
from hypothesis import given, settings, strategies as st

from .targets import TARGETS

EXAMPLES: Final = os.environ.get("TLSDOWN_EXAMPLES")

few = settings(
    max_examples=int(EXAMPLES or "200"), derandomize=EXAMPLES is None, deadline=None
)


@pytest.mark.parametrize("target", TARGETS)
@few
@given(data=st.binary(max_size=200))
def test_no_bytes_make_it_break_a_promise(target: str, data: bytes) -> None:
    TARGETS[target](data)


# One of each step, in an order in which all have something to do.
STORIES: Final = {
    "an end": bytes([1, 0, 9, 1, 90, 1, 90, 8, 3, 5, 7, 6, 0, 7, 0, 1, 255, 9, 0]),
    "a change": bytes([1, 0, 9, 3, 9, 1, 255, 2, 255, 8, 0]),
    "an insertion": bytes([0, 0, 9, 4, 5, 1, 2, 3, 4, 5, 1, 255]),
    "nothing to change": bytes([3, 3, 0, 9, 0, 6, 1]),
    "no handshake": bytes([5, 4, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 255, 6, 0, 5, 1]),
}


@pytest.mark.parametrize("story", STORIES.values(), ids=list(STORIES))
def test_stories_that_the_fuzzer_begins_with(story: bytes) -> None:
    TARGETS["engine"](story)
