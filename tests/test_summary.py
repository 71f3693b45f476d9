"""What a test run says at its end."""

from __future__ import annotations

import pytest

from tests import summary

pytest_plugins = ["pytester"]

SKIPS = """
@pytest.mark.parametrize("reason", ["no compiler", "no tshark", "no tshark", ""])
def test_that_talks_to_others(reason):
    pytest.skip(reason)
"""

FAILS = """
def test_that_fails():
    assert False

def test_whose_fixture_fails(no_such_fixture):
    pass
"""


def end_of(pytester: pytest.Pytester, source: str, *arguments: str) -> list[str]:
    pytester.makepyfile("import pytest\ndef test_that_passes(): pass\n" + source)
    return pytester.runpytest_inprocess(*arguments, plugins=[summary]).outlines


def test_skips_are_told_by_their_reason(pytester: pytest.Pytester) -> None:
    *_, much, little, unknown, _, closing, sentence = end_of(pytester, SKIPS)
    assert (much, little) == ("SKIPPED     2: no tshark", "SKIPPED     1: no compiler")
    assert unknown.startswith("SKIPPED     1: async tests")
    assert "= 1 passed, 4 skipped in " in closing
    assert sentence.startswith("1 tests passed, none failed. 4 need what is not")


def test_what_failed_is_counted(pytester: pytest.Pytester) -> None:
    *_, closing, sentence = end_of(pytester, FAILS)
    assert "= 1 failed, 1 passed, 1 error in " in closing
    assert sentence == "2 of 3 tests failed: see above."


def test_where_nothing_is_missing_nothing_more_is_said(
    pytester: pytest.Pytester,
) -> None:
    *_, closing, sentence = end_of(pytester, "")
    assert "= 1 passed in " in closing
    assert sentence == "1 tests passed, none failed."


def test_where_to_find_what_was_left_out_is_told(pytester: pytest.Pytester) -> None:
    *_, sentence = end_of(pytester, "", "-m", "not long")
    assert sentence == (
        "1 tests passed, none failed. The long ones are for `make check`."
    )


@pytest.mark.parametrize("option", ["--version", "--collect-only"])
def test_where_no_test_ran_there_is_nothing_to_say(
    pytester: pytest.Pytester, option: str
) -> None:
    assert not any("none failed" in line for line in end_of(pytester, "", option))
