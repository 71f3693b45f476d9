"""Which rows of a test `make test` runs."""

from __future__ import annotations

import re

import pytest

from tests import tiers

pytest_plugins = ["pytester"]

INI = "[pytest]\nmarkers = long\n"
TESTS = """
import pytest

@pytest.fixture(params=["TLSv1.2", "TLSv1.3"])
def version(request):
    pass

@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize(("peer", "times"), [("cut", 1), ("cut", 2), ("flood", 1)])
def test_a_table(version, side, peer, times):
    pass

@pytest.mark.parametrize("side", ["client", pytest.param("server", marks=pytest.mark.long)])
def test_a_list(version, side):
    pass

def test_one_thing():
    pass
"""


def test_each_value_of_each_parameter_is_shown_and_few_combinations_are(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeini(INI)
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_inprocess(
        *("--collect-only", "-q", "-m", "not long"), plugins=[tiers]
    )
    rows = re.findall(r"::test_(\w+)(?:\[(.*)\])?$", result.stdout.str(), re.MULTILINE)
    assert [row for row in rows if row[0] != "a_table"] == [
        ("a_list", "TLSv1.2-client"),
        ("a_list", "TLSv1.3-client"),
        ("one_thing", ""),
    ]
    table = [row for name, row in rows if name == "a_table"]
    assert len(table) == 3  # of 12
    # What one parametrize() gives together is one value.
    for value in (
        "TLSv1.2",
        "TLSv1.3",
        "client",
        "server",
        "cut-1",
        "cut-2",
        "flood-1",
    ):
        assert any(value in row for row in table), value
