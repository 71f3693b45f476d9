"""The pages that name tests name tests that there are."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LISTS = ["docs/checklists.md", "docs/reported.md"]
PAGES = [*LISTS, "docs/proof.md", "SECURITY.md"]
TEST = re.compile(r"^ *(?:async )?def (test_\w+)\(", re.MULTILINE)


@pytest.fixture(scope="module")
def tests() -> set[str]:
    return {
        name
        for path in ROOT.glob("tests/**/test_*.py")
        for name in TEST.findall(path.read_text("utf-8"))
    }


@pytest.mark.parametrize("page", PAGES)
def test_each_test_that_a_page_names_exists(page: str, tests: set[str]) -> None:
    named = re.findall(r"`(test_\w+)`", (ROOT / page).read_text("utf-8"))
    assert sorted(set(named) - tests) == []


@pytest.mark.parametrize("page", LISTS)
def test_each_row_of_a_page_names_a_test_or_says_why_there_is_none(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| ")]
    heads = {"ours", "our test"}
    cells = [row[2].strip() for row in rows if row[2].strip() not in heads]
    assert len(cells) > 50
    for cell in cells:
        assert re.match("`test_|\N{EN DASH} ", cell), cell
