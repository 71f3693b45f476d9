"""What somebody sees who comes from the package index or opens the repository."""

import importlib.metadata
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RELATIVE_LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)[^)]*\)")


def test_on_the_package_index_no_link_leads_nowhere() -> None:
    description = importlib.metadata.metadata("trio-tlsdown").json["description"]
    assert isinstance(description, str)
    assert "# trio_tlsdown" in description
    assert "The tutorial is" in description  # a link in the repository
    assert RELATIVE_LINK.findall(description) == []


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "docs/releasing.md",
        "docs/probe.md",
        "docs/probe-clients.md",
    ],
)
def test_links_of_a_page_lead_to_files(page: str) -> None:
    path = ROOT / page
    links = RELATIVE_LINK.findall(path.read_text("utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []
