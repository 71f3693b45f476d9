"""Every Python block runs, no link leads nowhere, every public name is documented."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import re
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from sybil import Example, Sybil
from sybil.parsers.myst import CodeBlockParser

import trio_tlsdown
import trio_tlsdown.testing

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

# Their blocks are programs of several files, and this runs them.
RUN_ELSEWHERE = {
    "how-to/restart.md": "tests/serving/test_how_to.py",
    "how-to/shutdown-sslstream.md": "tests/stream/test_sslstream.py",
    "how-to/systemd.md": "tests/serving/test_how_to.py",
    "how-to/workers.md": "tests/serving/test_how_to.py",
}
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for page in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
    if page.relative_to(DOCS if DOCS in page.parents else ROOT).as_posix()
    not in RUN_ELSEWHERE
)

RELATIVE_LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)[^)]*\)")
DOCUMENTED = re.compile(r"^\.\. (?:auto|py:)\w+:: (\w+)", re.MULTILINE)


def evaluate(example: Example) -> None:
    """Run a block; what it awaits is left to the test."""
    source = "\n" * (example.line + example.parsed.line_offset) + example.parsed
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(source, example.path, "exec", flags, dont_inherit=True)
    example.namespace["coroutine"] = eval(code, example.namespace)  # noqa: S307


SYBIL = Sybil(parsers=[CodeBlockParser("python", evaluate)], patterns=["*.md"])


@pytest.mark.parametrize("page", PAGES)
async def test_every_python_block_of_a_page_runs(page: str) -> None:
    document = SYBIL.parse(ROOT / page)
    for example in document.examples():
        example.evaluate()
        coroutine: Coroutine[Any, Any, None] | None
        if (coroutine := document.namespace.pop("coroutine", None)) is not None:
            await coroutine


@pytest.mark.parametrize("page", PAGES)
def test_no_link_of_a_page_leads_nowhere(page: str) -> None:
    path = ROOT / page
    links = RELATIVE_LINK.findall(path.read_text("utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_on_the_package_index_no_link_leads_nowhere() -> None:
    description = importlib.metadata.metadata("trio-tlsdown").json["description"]
    assert isinstance(description, str)
    assert "# trio_tlsdown" in description
    assert "The tutorial is" in description  # a link in the repository
    assert RELATIVE_LINK.findall(description) == []


@pytest.mark.parametrize("package", [trio_tlsdown, trio_tlsdown.testing])
def test_every_public_name_is_in_the_reference(package: Any) -> None:
    public = {
        name
        for name, value in vars(package).items()
        if name.isidentifier() and name[0] != "_" and not inspect.ismodule(value)
    }
    documented = {
        name
        for page in (DOCS / "reference").glob("*.md")
        for name in DOCUMENTED.findall(page.read_text("utf-8"))
    }
    assert public - documented == set()
