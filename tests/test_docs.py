"""Every Python block runs, no link leads nowhere, every public name is documented.

What a page shows has to be enough, too: a reader does not see what is invisible.
"""

from __future__ import annotations

import ast
import builtins
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
from trio_tlsdown.testing import BEHAVIOURS

pytest_plugins = ["pytester"]

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

# What a page leaves to the reader, as its text tells.
LEFT_TO_THE_READER = {
    "docs/how-to/shutdown-sslstream.md": {"stream"},
    "docs/reference/errors.md": {"port"},
}

RELATIVE_LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)[^)]*\)")
SHOWN = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
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


def shown(page: Path) -> str:
    return "\n\n".join(SHOWN.findall(page.read_text("utf-8")))


def names_that_are_missing(source: str) -> set[str]:
    """The names that it uses but neither imports, defines nor assigns, anywhere."""
    used, there = set[str](), set(dir(builtins))
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                used.add(name)
            case (
                ast.Name(id=name)
                | ast.arg(arg=name)
                | ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                there.add(name)
            case ast.ExceptHandler(name=str(name)):
                there.add(name)
            case ast.alias(name=name, asname=other):
                there.add(other or name.partition(".")[0])
            case _:
                pass
    return used - there


@pytest.mark.parametrize("page", [*PAGES, *(f"docs/{page}" for page in RUN_ELSEWHERE)])
def test_no_name_that_a_page_uses_is_hidden_from_the_reader(page: str) -> None:
    left = LEFT_TO_THE_READER.get(page, set())
    assert names_that_are_missing(shown(ROOT / page)) == left


def test_the_tests_that_a_page_shows_pass_when_copied(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeini("[pytest]\ntrio_mode = true\n")
    pytester.makepyfile(shown(DOCS / "how-to" / "rogue-peers.md"))
    for_each_behaviour, for_cancellation = len(BEHAVIOURS), 1
    pytester.runpytest_inprocess().assert_outcomes(
        passed=for_each_behaviour + for_cancellation
    )


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
